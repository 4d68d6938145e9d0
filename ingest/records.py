"""Records that a `covered` mark ends, read into imports: the rules of a bar, and those of the record as a whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from typing import Final

from barwright.ingest.claims import Claim, Letter
from barwright.ingest.decode import Bad, Glance, Item, Raws, glance
from barwright.ingest.imports import Import
from barwright.ingest.marks import Mark, span_of
from barwright.ingest.ticks import (
    ITEMS,
    MINUTE,
    NULL,
    NUMBER,
    SYMBOL,
    WIDTHS,
    Bar,
    RefusedError,
    Window,
    bar_row,
    read_time,
    symbol_of,
)

# A minute's row as COPY text, if it needs no second look but at the order of its prices (above zero where the low is).
PLAIN_BAR: Final = re.compile(
    r"[0-9]{4}-[0-9][0-9]-[0-9][0-9]T(?:[01][0-9]|2[0-3]):[0-5][0-9]:00(?:\.0{1,6})?(?:Z|\+00:00)"
    rf"\t{SYMBOL}\t-1\t{NUMBER}\t{NUMBER}\t\\N\t{NUMBER}\t{NUMBER}\t(?=[0.]*[1-9]){NUMBER}\t(?:{NUMBER}|\\N)"
    r"\t(?:[0-9]{1,9}|\\N)\n"
).fullmatch
# Minutes of a day by their text: half as dear as to read both numbers.
CLOCK: Final = {f"{minute // 60:02}:{minute % 60:02}": minute for minute in range(1440)}
_EPOCH: Final = date(1970, 1, 1).toordinal()
_MAX_ID: Final = 2**63 - 1


def read_import(
    claim: Claim, offset: int, items: Sequence[Item], value: bytes, window: Window
) -> tuple[Import, list[Letter]]:
    """A record that ends in a `covered` mark, and the letters of single bars that were refused.

    Raises RefusedError where the record as a whole proves nothing.
    """
    mark = items[-1]
    assert isinstance(mark, Mark)
    if len(items) > ITEMS:
        raise RefusedError(f"more than {ITEMS:,} items in one record")
    if mark.count != len(items) - 1:
        raise RefusedError(f"count: says {mark.count:,} bars, and {len(items) - 1:,} are in its record")
    found = _header(claim, offset, mark, window)
    letters = _fill(found, items[:-1], value, window)
    if len(set(found.buckets)) < len(found.buckets):
        raise RefusedError("ts: two bars of one bucket")
    return found, letters


def _header(claim: Claim, offset: int, mark: Mark, window: Window) -> Import:
    """An import without its bars. Raises RefusedError."""
    symbol, width = symbol_of(mark.symbol or ""), WIDTHS.get(mark.interval or "")
    if width is None or mark.interval is None:
        raise RefusedError(f"interval: none of {', '.join(WIDTHS)}")
    # Hours and days that are missing are asked for as whole days, each of which has one source.
    unit = MINUTE if width == 1 else 1440 * MINUTE
    start, end = span_of(mark, Window(0, window.newest))
    if start == end or start % unit or end % unit:
        raise RefusedError(f"from, to: no span of whole {'minutes' if width == 1 else 'UTC days'}")
    if mark.task is not None and not (0 < mark.task <= _MAX_ID and 0 < (mark.attempt or 0) < 2**31):
        raise RefusedError("task, attempt: not numbers from 1 up")
    attempt = mark.attempt if mark.task is not None and mark.attempt else 1
    return Import(
        claim,
        offset,
        symbol,
        mark.interval,
        mark.source,
        start // MINUTE,
        end // MINUTE,
        mark.task,
        attempt,
        mark.final,
    )


def _fill(found: Import, bars: Sequence[Item], value: bytes, window: Window) -> list[Letter]:
    """Turn bars into rows, 3 us each; returns letters of those refused. Raises RefusedError where it concerns all."""
    letters: list[Letter] = []
    raws = Raws(value, len(bars) + 1)
    days: dict[str, int] = {}
    symbol, lo, hi, task = found.symbol, max(found.lo, -(-window.oldest // MINUTE)), found.hi, found.task
    is_fine, attempt = found.is_fine, found.attempt
    add_row, add_bucket, add_place = found.rows.append, found.buckets.append, found.places.append
    for place, bar in enumerate(bars):
        if is_fine and type(bar) is Bar and bar.symbol == symbol and bar.task == task and type(bar.ts) is str:
            ts, quote, trades = bar.ts, bar.quote_volume, bar.trades
            row = (
                f"{ts}\t{symbol}\t-1\t{bar.close}\t{bar.volume}\t\\N\t{bar.open}\t{bar.high}\t{bar.low}"
                f"\t{NULL if quote is None else quote}\t{NULL if trades is None else trades}\n"
            )
            if bar.interval == "1m" and PLAIN_BAR(row) and _is_ordered(bar):
                midnight = days.get(ts[:10])
                if midnight is None:
                    midnight = days[ts[:10]] = _midnight(ts[:10])
                minute = midnight + CLOCK[ts[11:16]]
                if lo <= minute < hi and (task is None or bar.attempt == attempt):
                    add_row(row)
                    add_bucket(minute)
                    add_place(place)
                    continue
        try:
            _look(found, bar, place, window)
        except _ForeignError:
            raise
        except RefusedError as refused:
            minute = _minute_of(found, bar)
            if not found.lo <= minute < found.hi:
                raise
            found.refused.add(minute)
            raw = bar.raw if isinstance(bar, Bad) else raws.of(place)
            letters.append(Letter(found.claim, found.offset, place, refused.message, raw))
    return letters


def _look(found: Import, bar: Item, place: int, window: Window) -> None:
    """Add a bar after looking at each part of it. Raises RefusedError."""
    if isinstance(bar, Bad):
        raise RefusedError(bar.reason)
    if not isinstance(bar, Bar):
        raise _ForeignError("a record that a covered mark ends has nothing but bars")
    asked = (found.symbol, found.interval, found.task, found.attempt if found.task else bar.attempt)
    if (bar.symbol, bar.interval, bar.task, bar.attempt) != asked:
        raise _ForeignError("symbol, interval, task, attempt: a bar and its mark differ")
    row, time = bar_row(bar, window if found.is_fine else Window(0, window.newest))
    if not found.lo <= time // MINUTE < found.hi:
        raise _ForeignError("ts: a bar lies outside what its mark covers")
    found.rows.append(row)
    found.buckets.append(time // MINUTE)
    found.places.append(place)


class _ForeignError(RefusedError):
    """It concerns the whole record."""


def _minute_of(found: Import, bar: Item) -> int:
    """The minute of a bar that was refused, -1 where it cannot be told."""
    seen = glance(bar.raw) if isinstance(bar, Bad) else bar
    time = read_time(seen.ts) if isinstance(seen, Bar | Glance) and seen.ts is not None else None
    if time is None or not isinstance(seen, Bar | Glance) or seen.symbol != found.symbol:
        return -1
    return time // MINUTE


def _is_ordered(bar: Bar) -> bool:
    """Whether low <= open, close <= high, as far as floats tell: they are never wrong about less, only about equal."""
    low, high, first, last = bar.low, bar.high, bar.open, bar.close
    bottom, top, left, right = float(low), float(high), float(first), float(last)
    return (
        (bottom < left or low == first)
        and (bottom < right or low == last)
        and (left < top or first == high)
        and (right < top or last == high)
    )


def _midnight(day: str) -> int:
    """The minute, counted from 1970, at which a day begins; far outside every span where there is no such day."""
    try:
        return (date.fromisoformat(day).toordinal() - _EPOCH) * 1440
    except ValueError:
        return -(2**60)
