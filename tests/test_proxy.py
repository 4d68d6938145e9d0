"""The proxy of the tests leaves nothing open behind it, but for who connects in the very moment in which it ends."""

import gc
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from barwright.embedded.ports import LOOPBACK
from tests.links.certificates import Authority
from tests.proxy import Proxy


class Echo(socketserver.BaseRequestHandler):
    """Says again what it hears."""

    def handle(self) -> None:
        """See BaseRequestHandler."""
        while data := self.request.recv(100):
            self.request.sendall(data)


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server."""
    with socketserver.ThreadingTCPServer((LOOPBACK, 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize("by_tls", [False, True])
def test_a_proxy_that_ends_leaves_no_socket_open(echo: int, tmp_path: Path, by_tls: bool) -> None:
    authority = Authority(tmp_path, "authority")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("server"))
    proxy = Proxy(lambda: echo, context if by_tls else None)
    # One that by TLS never says hello, one in use, one that has only just come.
    with _client(proxy), _client(proxy) as plain:
        trusts = ssl.create_default_context(cafile=str(authority.ca))
        used = trusts.wrap_socket(plain, server_hostname=LOOPBACK) if by_tls else plain
        with used, _client(proxy):
            used.sendall(b"PING")
            assert used.recv(4) == b"PING"
            with _client(proxy):
                proxy.close()
    gc.collect()  # an open transport warns, and a warning fails a test


def _client(proxy: Proxy) -> socket.socket:
    return socket.create_connection((LOOPBACK, proxy.port))
