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
from barwright.api.access.shell import Shell
from barwright.api.app import create_app
from barwright.api.measured import Measured
from barwright.api.metrics import Serving
from barwright.api.services import Services
from barwright.api.stream.protocol import MOST_BYTES, Protocol
from barwright.api.wire import Bounded
from barwright.errors import BarwrightError
from barwright.links import tls
from barwright.metrics.listener import listening
from barwright.settings import Settings

GRACE = 5  # seconds that open requests have to end after SIGTERM
log = structlog.get_logger()


def run(settings: Settings) -> None:
    """Serve the API until SIGTERM or SIGINT, then let open requests end. BarwrightError when the port is taken."""
    app = create_app(settings)
    services: Services = app.state.services
    health = services.health
    with reporting.reporter(settings, "serve", health), listening(settings, health, Serving(services)):
        serve(app, settings)


class Server(uvicorn.Server):
    """uvicorn, which answers those who wait, and ends streams, as soon as it is told to stop."""

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self.services = services

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The signal."""
        self.services.waiting.stopping = True
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let go of everybody; uvicorn closes WebSockets, but waits for events to end."""
        self.services.hub.stopping.set()
        await super().shutdown(sockets)


def serve(app: Litestar, settings: Settings) -> None:
    """Serve an application the same way."""
    certificate, key = settings.tls_certificate, settings.tls_key
    tls.demand_usable("BARWRIGHT_TLS", certificate, key)
    listener = _listen(settings)
    services: Services = app.state.services
    services.address = address = _address(listener, "https" if certificate else "http")
    shell = Shell(app, settings, services.access, services.limiter)
    measured = Measured(shell, (route.path_format for route in app.routes))
    server = Server(
        uvicorn.Config(
            measured, loop="uvloop", http=Bounded, ws=Protocol, lifespan="on", log_config=None,
            access_log=False, server_header=False, date_header=False, timeout_graceful_shutdown=GRACE, backlog=2048,
            ws_max_size=MOST_BYTES, ws_per_message_deflate=False,
            proxy_headers=bool(settings.trusted_proxies), forwarded_allow_ips=settings.trusted_proxies or None,
            ssl_certfile=certificate or None, ssl_keyfile=key or None,
        ),
        services,
    )  # fmt: skip
    if threading.current_thread() is threading.main_thread():
        # uvicorn raises the signal that stopped it again at the end; these make that a normal return.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
    log.info("listening", url=address, keys="on" if services.access.on else "off")
    server.run(sockets=[listener])
    log.info("stopped")


def _address(listener: socket.socket, scheme: str) -> str:
    """Where this machine reaches us."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


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
