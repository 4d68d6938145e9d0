"""One market on the stream: its trades as their time comes, and who gets them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from barwright.simulator import frames
from barwright.simulator.market import MINUTE, Market
from barwright.simulator.trades import Trade, fills

if TYPE_CHECKING:
    from collections.abc import Iterator

REPLAYED: Final = 20  # trades that a new subscriber gets of what has been
_BACK: Final = (2, 60, 1440, 10_080)  # minutes looked back for them


class Listener(Protocol):
    """Someone who takes messages."""

    def push(self, text: str) -> None:
        """Take one."""


class Channel:
    """The trades of a market from a time (ms since 1970) on."""

    def __init__(self, market: Market, since: int) -> None:
        self.market = market
        self.listeners: set[Listener] = set()
        self._head = frames.head_of(market.pair)
        self._places = (market.price_places, market.size_places)
        self._minute = since // MINUTE
        self._trades = [trade for trade in self._load() if trade.ms >= since]
        self._next = 0

    def take(self, now: int) -> Iterator[Trade]:
        """The trades before `now` (ms) that were not taken yet."""
        while True:
            trades, place = self._trades, self._next
            while place < len(trades) and trades[place].ms < now:
                yield trades[place]
                place += 1
            self._next = place
            if now < (self._minute + 1) * MINUTE:
                return
            self._minute += 1
            self._trades, self._next = self._load(), 0

    def recent(self, now: int) -> list[Trade]:
        """The last trades before `now` (ms)."""
        end, found = now // MINUTE + 1, list[Trade]()
        for back in _BACK:
            start = max(end - back, self.market.listed)
            if start < end:
                been = fills(self.market.orders(start, end, revised=False))
                found = [trade for trade in been if trade.ms < now][-REPLAYED:]
            if len(found) == REPLAYED or start >= end:
                break
        return found

    def text(self, trade: Trade) -> str:
        """A trade's message."""
        return frames.trade(self._head, trade, self._places, self.market.odd)

    def _load(self) -> list[Trade]:
        if self._minute < self.market.listed:
            return []
        return fills(self.market.orders(self._minute, self._minute + 1, revised=False))
