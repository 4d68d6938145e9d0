"""Serves the exchange with uvicorn until a signal says stop."""

from __future__ import annotations

import os
import signal
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

import structlog
import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from barwright.errors import BarwrightError
from barwright.settings import Settings
from barwright.simulator.app import create_app
from barwright.simulator.exchange import Exchange

log = structlog.get_logger()


class Protocol(WebSocketsSansIOProtocol):
    """A socket that the application can cut as a cable is cut: without a closing frame."""

    def handle_connect(self, event: Any) -> None:
        """Give the application the means."""
        super().handle_connect(event)
        if hasattr(self, "scope"):
            self.scope["state"]["cut"] = self.transport.abort


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. BarwrightError when the port is taken."""
    file = settings.simulator_state or settings.home.resolve() / "simulator.json"
    app = create_app(settings, Exchange.from_settings(settings, file))
    listener = _listen(settings.simulator_url)
    server = uvicorn.Server(
        uvicorn.Config(
            app, loop="uvloop", http="httptools", ws=Protocol, lifespan="on", log_config=None, access_log=False,
            server_header=False, date_header=True, timeout_graceful_shutdown=1, ws_per_message_deflate=False,
        )
    )  # fmt: skip
    if threading.current_thread() is threading.main_thread():
        # uvicorn raises the signal that stopped it again at the end; these make that a normal return.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
    host, port = listener.getsockname()[:2]
    log.info("listening", url=f"http://{host}:{port}", seed=settings.simulator_seed)
    server.run(sockets=[listener])
    log.info("stopped")


def _listen(url: str) -> socket.socket:
    """The listening socket; port 0 takes a free one."""
    address = urlsplit(url)
    host, port = address.hostname or "127.0.0.1", address.port or 0
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    if os.name != "nt":  # there the option would let two programs share the port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise BarwrightError(
            f"The simulated exchange cannot listen at {url}: {error.strerror}.", "Set SIMULATOR_URL to a free port."
        ) from error
    return listener
