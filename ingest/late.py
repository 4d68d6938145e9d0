"""Late rows: which spans of a symbol must be repaired after a batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from barwright.ingest.ticks import MINUTE, stamp

# Late minutes of a symbol less than this many apart are one late range: a repair of a few quiet minutes costs less
# than another range, but one very late tick must not dirty the days between.
GAP: Final = 15


def late_ranges(minutes: Mapping[str, Iterable[int]], seal: int) -> list[tuple[str, str, str]]:
    """(symbol, first minute, minute after the last) of runs below the seal, itself a minute counted from 1970."""
    found: list[tuple[str, int, int]] = []
    for symbol in sorted(minutes):
        late = sorted(minute for minute in minutes[symbol] if minute < seal)
        first = 0
        for n, minute in enumerate(late):
            if n + 1 == len(late) or late[n + 1] - minute > GAP:
                found.append((symbol, late[first], minute + 1))
                first = n + 1
    return [(symbol, stamp(lo * MINUTE), stamp(hi * MINUTE)) for symbol, lo, hi in found]
