"""Bars of a span straight from one snapshot, from either end, however sparse the symbol is.

No planner finds the newest N rows of a view that joins rolled-up and live bars without reading the whole symbol, so a
query always names a window. The first is as wide as the answer would be if every bucket had a bar. Where that does
not suffice, the days that have bars tell where to look next.
"""

from collections.abc import Iterator, Sequence
from typing import Any, LiteralString

from psycopg.sql import Composed
from psycopg.types.numeric import Int8

from barwright.api.database import Row, Snapshot
from barwright.api.encode import BARS_SQL, DAYS_SQL
from barwright.api.intervals import DAY, FIRST, LEVELS, Interval, moment

Window = tuple[int, int]
Query = tuple[LiteralString | Composed, dict[str, Any]]


def first_window(interval: Interval, lo: int, hi: int, limit: int, backwards: bool) -> Window:
    """The window of a database query for `limit` bars; from a day on, all of [lo, hi): those are few."""
    return (lo, hi) if interval.width in (0, DAY, 7 * DAY) else window(interval, lo, hi, limit, backwards)


def window(interval: Interval, lo: int, hi: int, limit: int, backwards: bool) -> Window:
    """The part of [lo, hi), bucket starts, that holds `limit` bars if none is missing."""
    if backwards:
        return max(lo, interval.after(hi - 1, 1 - limit) if hi > FIRST else FIRST), hi
    return lo, min(hi, interval.after(lo, limit))


def arguments(symbol: str, window: Window, limit: int | None, null: str) -> dict[str, Any]:
    """The parameters of queries `bars` and `days`."""
    return {"symbol": symbol, "lo": moment(window[0]), "hi": moment(window[1]), "null": null,
            "limit": None if limit is None else Int8(limit)}  # fmt: skip


def bars_query(interval: Interval, symbol: str, window: Window, limit: int | None, backwards: bool, null: str) -> Query:
    """The query and arguments of a window's bars."""
    return BARS_SQL[interval.name, backwards], arguments(symbol, window, limit, null)


async def rest(
    snapshot: Snapshot, interval: Interval, symbol: str, span: Window, limit: int, backwards: bool, null: str
) -> list[Row]:
    """At most `limit` bars of a span whose nearest part may be empty, in the order they are found."""
    lo, hi = span
    # One day more than bars: the day at the span's edge may have its bars on the other side of it.
    days = await snapshot.fetch(DAYS_SQL[backwards], arguments(symbol, (LEVELS["1d"].floor(lo), hi), limit + 1, null))
    found: list[Row] = []
    for window in _windows([day for (day,) in days], lo, hi):
        query, args = bars_query(interval, symbol, window, limit - len(found), backwards, null)
        found += await snapshot.fetch(query, args)
        if len(found) >= limit:
            break
    return found


def _windows(days: Sequence[int], lo: int, hi: int) -> Iterator[Window]:
    """Windows over 1, 2, 4 … of the days that have bars, inside [lo, hi): each day has at least one, so few suffice."""
    done, count = 0, 1
    while done < len(days):
        part = days[done : done + count]
        yield max(lo, min(part)), min(hi, max(part) + DAY)
        done, count = done + count, min(count * 2, 64)


def after_window(window: Window, span: Window, backwards: bool) -> Window | None:
    """What is left of a span beyond its first window."""
    left = (span[0], window[0]) if backwards else (window[1], span[1])
    return left if left[0] < left[1] else None
