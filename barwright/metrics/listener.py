"""The listener of a role: a thread of its own, so that it answers also where the role's loop is stuck."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import structlog
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from barwright.errors import BarwrightError
from barwright.metrics.families import Collector, Page
from barwright.metrics.health import Health
from barwright.settings import Settings

log = structlog.get_logger()
Answer = tuple[int, str, bytes]


@contextmanager
def listening(settings: Settings, health: Health, *collectors: Collector) -> Iterator[int | None]:
    """Listen where the settings say; gives the port, None where they say nothing. BarwrightError where it is taken."""
    if not settings.metrics:
        yield None
        return
    server = Listener(settings.metrics, health, Page(REGISTRY, health, *collectors))
    threading.Thread(target=server.serve_forever, args=(0.1,), name="metrics", daemon=True).start()
    log.info("metrics", address=f"{server.server_address[0]!s}:{server.server_port}")
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def address_of(text: str) -> tuple[str, int]:
    """Host and port of `host:port`. Raises BarwrightError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise BarwrightError(f"BARWRIGHT_METRICS={text}: no host:port.", "For instance 0.0.0.0:9100")
    return host.strip("[]"), int(port)


class Listener(ThreadingHTTPServer):
    """Answers /metrics, /health/live and /health/ready."""

    def __init__(self, address: str, health: Health, page: Page) -> None:
        host, port = address_of(address)
        self.health, self.page = health, page
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise BarwrightError(
                f"Cannot listen on {address} for metrics: {error.strerror}.", "Set BARWRIGHT_METRICS to a free port."
            ) from error

    def server_bind(self) -> None:
        """Without the look-up of our own name, which may take seconds."""
        if self.allow_reuse_address:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def answer(self, path: str, accept: str) -> Answer:
        """Status, content type and body."""
        asked: dict[str, Callable[[], tuple[bool, Any]]] = {
            "/health/live": self.health.live,
            "/health/ready": self.health.ready,
        }
        if path == "/metrics":
            encoder, kind = choose_encoder(accept)
            return 200, kind, encoder(self.page)
        if path not in asked:
            return 404, "text/plain", b"There are /metrics, /health/live and /health/ready.\n"
        is_well, told = asked[path]()
        return 200 if is_well else 503, "application/json", json.dumps(told).encode() + b"\n"


class _Handler(BaseHTTPRequestHandler):
    server: Listener
    timeout = 5  # seconds for a request to come

    def do_GET(self) -> None:
        """One answer, and the end of the connection."""
        status, kind, body = self.server.answer(self.path.partition("?")[0], self.headers.get("accept", ""))
        self.send_response_only(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Nothing: Prometheus asks every few seconds."""
