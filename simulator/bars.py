"""The truth of every bar: a market's orders added up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from barwright.simulator import buckets
from barwright.simulator.market import MINUTE, Market, Orders
from barwright.simulator.noise import Ints
from barwright.simulator.trades import so_far

# Minutes computed at a time: 50,000 orders at most, whose columns stay in the processor's cache.
_CHUNK: Final = 1024
_PIECE: Final = 32 * 1024  # minutes added up to coarser bars and handed out at a time


class Bars(NamedTuple):
    """Bars with trades in order of time. Bucket in minutes since 1970, prices and sizes in the market's units, `quote`
    in their product; Python's whole numbers where a sum could exceed 64 bits."""

    bucket: Ints
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints
    quote: Any
    trades: Ints
    buy: Ints


def bars(market: Market, start: int, end: int, interval: str = "1m", until: int | None = None) -> Iterator[Bars]:
    """The bars of the buckets that begin in [start, end), minutes since 1970, of their trades before `until` (ms)."""
    start, end = buckets.ceil(max(start, 0), interval), buckets.ceil(end, interval)
    while start < end:
        stop = min(buckets.ceil(start + _PIECE, interval), end)
        minutes = of_minutes(market, start, stop, until)
        yield minutes if interval == "1m" else combined(minutes, buckets.floor(minutes.bucket, interval))
        start = stop


def grouped(market: Market, start: int, end: int, width: int, until: int) -> Iterator[Bars]:
    """The same for slots of `width` minutes counted from 1970; `start` and `end` are slots' starts."""
    step = max(_PIECE // width, 1) * width
    for at in range(start, end, step):
        minutes = of_minutes(market, at, min(at + step, end), until)
        yield minutes if width == 1 else combined(minutes, minutes.bucket // width * width)


def of_minutes(market: Market, start: int, end: int, until: int | None = None) -> Bars:
    """The bars of the minutes [start, end)."""
    start = max(start, market.listed)
    end = end if until is None else min(end, until // MINUTE + 1)
    chunks = [_added(_orders(market, at, min(at + _CHUNK, end), until)) for at in range(start, end, _CHUNK)]
    return Bars(*map(np.concatenate, zip(*chunks, strict=True))) if chunks else _NONE


def _orders(market: Market, start: int, end: int, until: int | None) -> Orders:
    orders = market.orders(start, end)
    return orders if until is None or until >= end * MINUTE else so_far(orders, until)


def combined(parts: Bars, group: Ints) -> Bars:
    """Coarser bars: those of one group become one, whose bucket the group is."""
    first = _starts(group)
    if not len(first):
        return parts
    last = np.append(first[1:], len(group)) - 1
    return Bars(
        group[first], parts.open[first], np.maximum.reduceat(parts.high, first), np.minimum.reduceat(parts.low, first),
        parts.close[last], *(np.add.reduceat(column, first) for column in (parts.volume, parts.quote.astype(object))),
        *(np.add.reduceat(column, first) for column in (parts.trades, parts.buy)),
    )  # fmt: skip


def _added(orders: Orders) -> Bars:
    minute, price, size = orders.minute, orders.price, orders.size
    each = Bars(minute, price, price, price, price, size, price * size, orders.fills, size * orders.bought)
    first = _starts(minute)
    if not len(first):
        return each
    last = np.append(first[1:], len(minute)) - 1
    return Bars(
        minute[first], price[first], np.maximum.reduceat(price, first), np.minimum.reduceat(price, first), price[last],
        *(np.add.reduceat(column, first) for column in (size, each.quote, orders.fills, each.buy)),
    )  # fmt: skip


def _starts(group: Ints) -> Ints:
    """Where each run of equal numbers begins."""
    return np.flatnonzero(np.append(True, group[1:] != group[:-1])) if len(group) else group


_NONE: Final = Bars(*(np.zeros(0, np.int64) for _ in Bars._fields))
