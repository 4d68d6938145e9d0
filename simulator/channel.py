"""One market on the stream: its trades as their time comes, and who gets them."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final, Protocol

from barwright.simulator import frames
from barwright.simulator.market import MINUTE, Market, Orders
from barwright.simulator.trades import Trade, fills

REPLAYED: Final = 20  # trades that a new subscriber gets of what has been
_BACK: Final = (2, 60, 1440, 10_080)  # minutes looked back for them
# Orders whose fills are worked out at a time: a whole minute's would take 0.1 s where there are 700 trades a second.
_AHEAD: Final = 2


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
        self._orders: Orders
        self._load(since // MINUTE)
        # The order before may still have fills to come.
        self._order = max(bisect_left(self._times, since) - 1, 0)
        self.take(since)

    def take(self, now: int) -> list[Trade]:
        """The trades before `now` (ms) that were not taken yet."""
        found = list[Trade]()
        while True:
            place = bisect_left(self._trades, now, key=_time)
            found += self._trades[:place]
            del self._trades[:place]
            if self._trades or not self._go_on(now):
                return found

    def recent(self, now: int) -> list[Trade]:
        """The last trades before `now` (ms)."""
        end, found = now // MINUTE + 1, list[Trade]()
        for back in _BACK:
            start = max(end - back, self.market.listed)
            if start < end:
                orders = self.market.orders(start, end, revised=False)
                begun = bisect_left(orders.ms.tolist(), now)
                last = fills(_part(orders, max(begun - REPLAYED, 0), begun))
                found = [trade for trade in last if trade.ms < now][-REPLAYED:]
            if len(found) == REPLAYED or start >= end:
                break
        return found

    def text(self, trade: Trade) -> str:
        """A trade's message."""
        return frames.trade(self._head, trade, self._places, self.market.odd)

    def _go_on(self, now: int) -> bool:
        """Work out the next trades; false where there are none before `now`."""
        if self._order < len(self._times):
            if self._times[self._order] >= now:
                return False
            self._trades = fills(_part(self._orders, self._order, self._order + _AHEAD))
            self._order += _AHEAD
        elif now < (self._minute + 1) * MINUTE:
            return False
        else:
            self._load(self._minute + 1)
        return True

    def _load(self, minute: int) -> None:
        """Begin with a minute; before the listing it has no orders."""
        self._minute, self._order, self._trades = minute, 0, list[Trade]()
        self._orders = self.market.orders(minute, minute + 1, revised=False)
        self._times: list[int] = self._orders.ms.tolist()


def _part(orders: Orders, start: int, end: int) -> Orders:
    return Orders(*(column[start:end] for column in orders))


def _time(trade: Trade) -> int:
    return trade.ms
