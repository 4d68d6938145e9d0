"""A market's single trades: its orders' fills."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from barwright.simulator.market import Market, Orders
from barwright.simulator.noise import Ints, field, hashes

_CHUNK: Final = 64  # minutes at a time


class Trade(NamedTuple):
    """One trade: its place (CCSEQ), time in ms since 1970 and the ns within that ms, units of price and size."""

    number: int
    ms: int
    ns: int
    price: int
    size: int
    bought: int
    revision: int

    @property
    def second(self) -> int:
        """Seconds since 1970."""
        return self.ms // 1000

    @property
    def fraction(self) -> int:
        """Nanoseconds within the second."""
        return self.ms % 1000 * 1_000_000 + self.ns


def trades(market: Market, start: int, end: int, revised: bool = True) -> Iterator[Trade]:
    """The trades of the minutes [start, end) in order; `revised`: as history shows them, else as they came live."""
    for at in range(max(start, market.listed), end, _CHUNK):
        yield from fills(market.orders(at, min(at + _CHUNK, end), revised=revised))


def fills(orders: Orders) -> list[Trade]:
    """Each order's fills, in order, of its price and side: some at one time, with sizes that sum to the order's.

    Of trades of one microsecond all but the last three digits of the number agree, since clients order by these three:
    from a round thousand on, the fills come a microsecond later.
    """
    many = orders.fills
    row = np.repeat(np.arange(len(many)), many)
    place = np.arange(len(row)) - np.repeat(np.cumsum(many) - many, many)
    number = orders.first[row] + place
    together = 1 + (orders.bits & 3)
    times = (many + together - 1) // together
    ms = orders.ms[row] + orders.room[row] * (place // together[row]) // times[row]
    ns = orders.ns[row] + (number // 1000 - orders.first[row] // 1000) * 1000
    columns = (number, ms, ns, orders.price[row], _sizes(orders, row, place), orders.bought[row], orders.revision[row])
    return list(map(Trade, *(column.tolist() for column in columns)))


def so_far(orders: Orders, until: int) -> Orders:
    """What had been traded before a time (ms since 1970): of the last order perhaps not all fills."""
    cut = Orders(*(column[orders.ms < until] for column in orders))
    if len(cut.ms):
        done = [trade.size for trade in fills(Orders(*(column[-1:] for column in cut))) if trade.ms < until]
        cut.fills[-1], cut.size[-1] = len(done), sum(done)
    return cut


def _sizes(orders: Orders, row: Ints, place: Ints) -> Ints:
    """An order's size cut at as many places as it has fills, at least one unit to each."""
    if not len(row):
        return row
    many = orders.fills[row]
    jitter = field(hashes(17, orders.bits[row] + place), 0, 8)
    jitter[place == 0] = 0
    begin = place + (orders.size[row] - many) * ((place << 8) + jitter) // (many << 8)
    ends = np.append(begin[1:], 0)
    last = place == many - 1
    ends[last] = orders.size[row][last]
    sizes: Ints = ends - begin
    return sizes
