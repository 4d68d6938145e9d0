"""Clients that no library would be: bytes on a socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx

from tests.api.conftest import Api, eventually

PING = b"\x89\xfd\0\0\0\0" + b"p" * 125  # masked by nothing


@contextmanager
def connected(api: Api, received: int = 0) -> Iterator[socket.socket]:
    """A connection, with a small buffer for what it receives where that is asked for."""
    with socket.socket() as connection:
        if received:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, received)
        connection.settimeout(20)
        connection.connect((api.client.base_url.host, api.client.base_url.port or 80))
        yield connection


@contextmanager
def opened(api: Api, path: str = "/v1/stream") -> Iterator[socket.socket]:
    """A WebSocket that reads nothing but the answer to its handshake."""
    with connected(api, 4096) as connection:
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        connection.sendall(
            head.encode() + b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        found = b""
        while b"\r\n\r\n" not in found:
            found += connection.recv(1)
        assert found.startswith(b"HTTP/1.1 101"), found
        yield connection


def unread_pings(api: Api, pings: int) -> None:
    """So many pings, and nothing read; returns when the server has read the last."""
    with opened(api) as connection:
        for _ in range(pings // 1_000):
            connection.sendall(PING * 1_000)
        # What it has read it has answered, or not; then it hears of the end.
        eventually(lambda: api.get("/health/live"), 60, httpx.HTTPError)


def endless_trailers(api: Api, most: int, end: bytes = b"") -> int:
    """The status that a body's trailers of so many bytes are answered with; 0 where the server just hangs up."""
    with connected(api) as connection:
        connection.sendall(b"PUT /v1/symbols/X HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
        with suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(0, most, 16_384):
                connection.sendall(b"a: %s\r\n" % (b"b" * 1_000) * 16)
            connection.sendall(end)
        with suppress(ConnectionResetError):
            return int(connection.recv(65_536).partition(b" ")[2][:3] or 0)
        return 0
