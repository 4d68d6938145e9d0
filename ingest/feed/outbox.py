"""Events on their way from connections to whoever iterates over them, in the order they came."""

from __future__ import annotations

import asyncio
from typing import Final

from barwright.ingest.feed.source import Event, Trades
from barwright.ingest.ticks import Trade

# Trades waiting to be taken before a connection is no longer read.
MOST: Final = 20_000


class Outbox:
    """Events not yet taken, and what ended the connection."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.failure: Exception | None = None
        self._waiting = 0
        self._news, self._room = asyncio.Event(), asyncio.Event()

    def put(self, event: Event) -> None:
        """Add an event."""
        self.events.append(event)
        self._news.set()

    def trade(self, trade: Trade) -> None:
        """Add a trade to those that came just before."""
        last = self.events[-1] if self.events else None
        if isinstance(last, Trades):
            last.trades.append(trade)
        else:
            self.put(Trades([trade]))
        self._waiting += 1

    def fail(self, failure: Exception) -> None:
        """Say what the end was; the first counts."""
        self.failure = self.failure or failure
        self._news.set()

    def nudge(self) -> None:
        """Wake who waits: something changed that is no event."""
        self._news.set()

    def taken(self) -> list[Event]:
        """What there is."""
        events, self.events, self._waiting = self.events, [], 0
        if not self.failure:
            self._news.clear()
        self._room.set()
        return events

    async def news(self) -> None:
        """Wait for an event or the end."""
        await self._news.wait()

    async def room(self) -> None:
        """Wait while too much is waiting."""
        while self._waiting >= MOST:
            self._room.clear()
            await self._room.wait()
