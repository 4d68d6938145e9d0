"""Bars in Python: frames of any length, and a stream that never loses its place.

    from barwright.client import bars, stream

    year = bars("BTCUSD", "1m", start="2025-01-01", frame="pandas")
    for bar in stream("BTCUSD", "1m"):
        print(bar.bucket, bar.close)

These talk to BARWRIGHT_URL (with BARWRIGHT_KEY), the instance that `make run` started in this folder, or
http://127.0.0.1:8000; `Client` and `AsyncClient` to any server. Nothing of the server is imported.
"""

import os
from collections.abc import Generator
from typing import Any

from barwright.client.asking import Symbols, Time, is_complete
from barwright.client.clients import AsyncClient, Client
from barwright.client.errors import (
    AnswerError,
    BadRequestError,
    ClientError,
    ConnectionFailedError,
    NoAccessError,
    NotFoundError,
    TooManyRequestsError,
    UnavailableError,
)
from barwright.client.following import Bar

__all__ = [
    "AnswerError", "AsyncClient", "BadRequestError", "Bar", "Client", "ClientError", "ConnectionFailedError",
    "NoAccessError", "NotFoundError", "TooManyRequestsError", "UnavailableError", "bars", "is_complete", "latest",
    "stream", "symbols",
]  # fmt: skip


def _client() -> Client:
    return Client(key=os.environ.get("BARWRIGHT_KEY"))


def bars(symbols: Symbols, interval: str, start: Time | None = None, end: Time | None = None, **options: Any) -> Any:
    """Client.bars, of the server at hand."""
    with _client() as client:
        return client.bars(symbols, interval, start, end, **options)


def latest(symbols: Symbols, interval: str = "1m") -> list[Bar]:
    """Client.latest, of the server at hand."""
    with _client() as client:
        return client.latest(symbols, interval)


def symbols() -> list[dict[str, Any]]:
    """Client.symbols, of the server at hand."""
    with _client() as client:
        return client.symbols()


def stream(symbols: Symbols, interval: str, start: Time | None = None, **options: Any) -> Generator[Bar, None, None]:
    """Client.stream, of the server at hand."""
    with _client() as client:
        yield from client.stream(symbols, interval, start, **options)
