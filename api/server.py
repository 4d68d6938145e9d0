"""Serves the API with uvicorn until a signal says stop."""

import signal
import socket
import sys
import threading

import structlog
import uvicorn
from litestar import Litestar

from barwright.api.app import create_app
from barwright.errors import BarwrightError
from barwright.settings import Settings

GRACE = 5  # seconds that open requests have to end after SIGTERM
log = structlog.get_logger()


def run(settings: Settings) -> None:
    """Serve the API until SIGTERM or SIGINT, then let open requests end. BarwrightError when the port is taken."""
    serve(create_app(settings), settings)


def serve(app: Litestar, settings: Settings) -> None:
    """Serve an application the same way."""
    listener = _listen(settings)
    host, port = listener.getsockname()[:2]
    server = uvicorn.Server(
        uvicorn.Config(
            app, loop="uvloop", http="httptools", ws="none", lifespan="on", log_config=None,
            access_log=False, server_header=False, date_header=False, timeout_graceful_shutdown=GRACE, backlog=2048,
        )
    )  # fmt: skip
    if threading.current_thread() is threading.main_thread():
        # uvicorn raises the signal that stopped it again at the end; these make that a normal return.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
    log.info("listening", url=f"http://{f'[{host}]' if ':' in host else host}:{port}")
    server.run(sockets=[listener])
    log.info("stopped")


def _listen(settings: Settings) -> socket.socket:
    """The listening socket; port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    if sys.platform != "win32":  # there the option would let two programs share the port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise BarwrightError(
            f"Cannot listen on {settings.host}:{settings.port}: {error.strerror}.", "Set BARWRIGHT_PORT to a free port."
        ) from error
    return listener
