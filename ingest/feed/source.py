"""What a source is: an exchange, or a vendor of many, that gives history as bars and the present as trades."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from barwright.errors import BarwrightError
from barwright.ingest.ticks import Bar, Trade

__all__ = [
    "Alive",
    "Event",
    "History",
    "Market",
    "MarketError",
    "Missed",
    "RateLimitedError",
    "Source",
    "SourceError",
    "Subscribed",
    "Subscriptions",
    "Trades",
    "UnavailableError",
    "UnfinishedError",
    "Unsubscribed",
]


class SourceError(BarwrightError):
    """A source did not give what it was asked for."""


class UnavailableError(SourceError):
    """An outage, an answer that makes no sense, a time-out: to be tried again, after so many seconds if it says so."""

    def __init__(self, message: str, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class RateLimitedError(UnavailableError):
    """The source wants to be left alone until its window turns."""


class UnfinishedError(UnavailableError):
    """The source has not finished anything of a task's span: nothing is wrong with it."""


class MarketError(SourceError):
    """The source knows no such market: permanent."""


@dataclass(frozen=True)
class Market:
    """One symbol's market: our symbol, and its name in the source's own notation."""

    symbol: str
    name: str


@dataclass(frozen=True)
class History:
    """What a source has of a span: real bars only, no filler and no open one, inside [start, end), which they prove.

    `start` later than asked: the source has nothing this fine before it, although there were trades. `end` earlier than
    asked: it had not finished more. Both ends at the asked start: nothing is proved yet.
    """

    bars: list[Bar]
    start: datetime
    end: datetime


class Subscriptions:
    """The markets that shall be followed; replaced by the feed at any time."""

    def __init__(self, wanted: frozenset[Market] = frozenset()) -> None:
        self._wanted, self._news = wanted, asyncio.Event()

    @property
    def wanted(self) -> frozenset[Market]:
        """The markets to follow now."""
        return self._wanted

    @wanted.setter
    def wanted(self, wanted: frozenset[Market]) -> None:
        if wanted != self._wanted:
            self._wanted = wanted
            self._news.set()
            self._news = asyncio.Event()

    def changed(self) -> Awaitable[object]:
        """Wait for the next change after this call (not after the await: a task may start late)."""
        return self._news.wait()


@dataclass(frozen=True)
class Trades:
    """Trades in the order they came; symbol and seq are set."""

    trades: list[Trade]


@dataclass(frozen=True)
class Alive:
    """The connection is healthy up to this event time (microseconds since 1970), never the wall clock."""

    at: int


@dataclass(frozen=True)
class Subscribed:
    """From event time `since` (microseconds) on, every trade of these symbols comes."""

    symbols: frozenset[str]
    since: int


@dataclass(frozen=True)
class Unsubscribed:
    """No more trades of these."""

    symbols: frozenset[str]


@dataclass(frozen=True)
class Missed:
    """Trades of this span of event time (microseconds) did not come."""

    symbol: str
    start: int
    end: int


Event = Trades | Alive | Subscribed | Unsubscribed | Missed


class Source(Protocol):
    """A source. `grace`: how long a minute that has ended may still be unfinished. `reconnect`: least seconds between
    the ends of one `live` and the beginning of the next."""

    name: str
    grace: timedelta
    reconnect: float

    def market_of(self, symbol: str) -> str:
        """The market a symbol means where none is named. Raises MarketError."""

    async def history(self, market: Market, interval: str, start: datetime, end: datetime) -> History:
        """Bars of `1m`, `1h` or `1d` of [start, end), whole buckets. Raises SourceError."""

    def live(self, subscriptions: Subscriptions) -> AsyncIterator[Event]:
        """Events until the connection ends, by a SourceError; the caller connects again."""

    async def close(self) -> None:
        """Give up its connections."""
