"""Bars of a span straight from one snapshot, from either end, however sparse the symbol is.

No planner finds the newest N rows of a view that joins rolled-up and live bars without reading the whole symbol, so a
query always names a window. The first is as wide as the answer would be if every bucket had a bar. Where that does
not suffice, the days that have bars tell where to look next.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, LiteralString

from psycopg.sql import Composed
from psycopg.types.numeric import Int8

from barwright.api.database import Row, Snapshot
from barwright.api.edges import edges
from barwright.api.encode import BARS_SQL, DAYS_SQL, DERIVED_MANY_SQL, DERIVED_SQL
from barwright.api.intervals import DAY, FIRST, LEVELS, Interval, moment

Window = tuple[int, int]
Query = tuple[LiteralString | Composed, dict[str, Any]]
DAYS_AT_ONCE = 1000


def first_window(interval: Interval, lo: int, hi: int, limit: int, backwards: bool) -> Window:
    """The window of a database query for `limit` bars; levels from a day on, all of [lo, hi): those are few."""
    whole = interval.width in (0, DAY, 7 * DAY) and not interval.derived
    return (lo, hi) if whole else window(interval, lo, hi, limit, backwards)


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
    if interval.derived:
        return derived_query(interval, symbol, [window], limit, backwards, null)
    return BARS_SQL[interval.name, backwards], arguments(symbol, window, limit, null)


def derived_query(
    interval: Interval, symbol: str, windows: Iterable[Window], limit: int | None, backwards: bool, null: str
) -> Query:
    """The same of a derived interval, in some ascending windows; the time between them is not looked at."""
    calendar = edges(interval, windows)
    args = arguments(symbol, calendar.span, limit, null)
    return DERIVED_SQL[calendar.level, backwards], {**args, "edges": calendar.edges, "labels": calendar.labels}


def derived_many_query(interval: Interval, symbols: Sequence[str], window: Window) -> Query:
    """The query and arguments of all bars of several symbols in a window, by symbol, then bucket: rows as those of
    query `bars` after the symbol."""
    calendar = edges(interval, [window])
    args = {**arguments("", calendar.span, None, "null"), "symbols": list(symbols)}
    return DERIVED_MANY_SQL[calendar.level], {**args, "edges": calendar.edges, "labels": calendar.labels}


async def rest(
    snapshot: Snapshot, interval: Interval, symbol: str, span: Window, limit: int, backwards: bool, null: str
) -> list[Row]:
    """At most `limit` bars of a span whose nearest part may be empty, in the order they are found."""
    found: list[Row] = []
    (lo, hi), overhang = span, interval.calendar.overhang
    wide = max(1, interval.width // DAY)  # days in a bucket
    while lo < hi and len(found) < limit:
        # One day more than bars: the day at the span's edge may have its bars on the other side of it.
        most = min((limit - len(found)) * wide + 1, DAYS_AT_ONCE)
        within = LEVELS["1d"].floor(lo), hi + overhang
        rows = await snapshot.fetch(DAYS_SQL[backwards], arguments(symbol, within, most, null))
        days = [day for (day,) in rows]
        for part in _parts(days, wide):
            windows = list(_windows(interval, sorted(part), lo, hi))
            if windows:
                query, args = _query(interval, symbol, windows, limit - len(found), backwards, null)
                found += await snapshot.fetch(query, args)
                lo, hi = (lo, windows[0][0]) if backwards else (windows[-1][1], hi)
            if len(found) >= limit:
                break
        if len(days) < most:
            break
    return found


def _query(interval: Interval, symbol: str, windows: list[Window], limit: int, backwards: bool, null: str) -> Query:
    if interval.derived:
        return derived_query(interval, symbol, windows, limit, backwards, null)
    return bars_query(interval, symbol, (windows[0][0], windows[-1][1]), limit, backwards, null)


def _parts(days: Sequence[int], wide: int) -> Iterator[Sequence[int]]:
    """The days of 1, 2, 4 … buckets: each day has at least one bar, so few suffice."""
    done, count = 0, 1
    while done < len(days):
        yield days[done : done + count * wide]
        done, count = done + count * wide, min(count * 2, 64)


def _windows(interval: Interval, days: Sequence[int], lo: int, hi: int) -> Iterator[Window]:
    """The buckets in [lo, hi) that these days are in, those that touch as one window."""
    start = end = lo
    for day in days:
        first = max(lo, interval.floor(day - interval.calendar.overhang))
        if first > end or start == end:
            if start < end:
                yield start, end
            start = min(first, hi)
        end = min(hi, max(start, interval.ceil(day + DAY)))
    if start < end:
        yield start, end


def after_window(window: Window, span: Window, backwards: bool) -> Window | None:
    """What is left of a span beyond its first window."""
    left = (span[0], window[0]) if backwards else (window[1], span[1])
    return left if left[0] < left[1] else None
