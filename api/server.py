"""Serves the API with uvicorn until a signal says stop."""

import signal
import socket
import sys
import threading
from types import FrameType

import structlog
import uvicorn
from litestar import Litestar

from barwright import reporting
from barwright.api.app import create_app
from barwright.api.waiting import Waiting
from barwright.errors import BarwrightError
from barwright.settings import Settings

GRACE = 5  # seconds that open requests have to end after SIGTERM
log = structlog.get_logger()


def run(settings: Settings) -> None:
    """Serve the API until SIGTERM or SIGINT, then let open requests end. BarwrightError when the port is taken."""
    with reporting.reporter(settings, "serve"):
        serve(create_app(settings), settings)


class Server(uvicorn.Server):
    """uvicorn, which answers those who wait as soon as it is told to stop."""

    def __init__(self, config: uvicorn.Config, waiting: Waiting) -> None:
        super().__init__(config)
        self.waiting = waiting

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The signal."""
        self.waiting.stopping = True
        super().handle_exit(sig, frame)


def serve(app: Litestar, settings: Settings) -> None:
    """Serve an application the same way."""
    listener = _listen(settings)
    host, port = listener.getsockname()[:2]
    server = Server(
        uvicorn.Config(
            app, loop="uvloop", http="httptools", ws="none", lifespan="on", log_config=None,
            access_log=False, server_header=False, date_header=False, timeout_graceful_shutdown=GRACE, backlog=2048,
        ),
        app.state.services.waiting,
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
