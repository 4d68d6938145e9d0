"""Marks: what a feed says beside the trades and bars it sends, and a batch's account of what live sessions sent.

`live`: so many trades of my session went to this partition since the mark before, and there were no others in a span.
`missed`: trades of a span never came. `covered` ends an import (imports.py).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple

import msgspec

from barwright.ingest.ticks import MINUTE, RefusedError, Window, read_time, stamp, symbol_of, time_of

# Minutes of one `missed` mark: a session that is blind for longer has ended, and a span of years would be 500,000 rows.
MOST_MISSED: Final = 1440
# Numbers and counts stay below this: the database adds to them.
MOST: Final = 2**62
_is_name = re.compile(r"[!-~]{1,100}").fullmatch
_is_text = re.compile(r"[ -~]{0,100}").fullmatch


class Mark(msgspec.Struct, tag_field="type", tag="mark", gc=False, rename={"start": "from", "end": "to"}):
    """One mark as it arrived; which fields it needs is its event's to say."""

    event: Literal["live", "missed", "covered"]
    start: str | int
    end: str | int
    source: str = ""
    count: int = 0
    session: str | None = None
    partition: int | None = None
    n: int | None = None
    symbols: list[str] | None = None
    symbol: str | None = None
    interval: str | None = None
    task: int | None = None
    attempt: int | None = None
    final: bool = False


class Heard(NamedTuple):
    """Of one session in one batch on one partition: its marks in their order, and the trades after the last."""

    session: str
    marks: list[dict[str, Any]]
    rest: int


class Tally:
    """What live sessions sent to one partition, as far as a batch holds it."""

    def __init__(self) -> None:
        # Trades of each session since its last mark here. They are counted one by one in Batch.
        self.counts: defaultdict[str, int] = defaultdict(int)
        self._marks: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)

    def mark(self, mark: Mark, window: Window) -> None:
        """Take a live mark, with the trades that came before it. Raises RefusedError."""
        if mark.session is None or not _is_name(mark.session):
            raise RefusedError("session: missing, or not up to 100 characters without spaces")
        if mark.n is None or not 1 <= mark.n < MOST:
            raise RefusedError("n: not a number from 1 up")
        symbols = None if mark.symbols is None else [symbol_of(symbol) for symbol in mark.symbols]
        start, end = span_of(mark, window)
        self._marks[mark.session].append({
            "n": mark.n, "from": stamp(start), "to": stamp(end), "count": mark.count, "source": mark.source,
            "symbols": symbols, "seen": self.counts.pop(mark.session, 0),
        })  # fmt: skip

    def sessions(self) -> Iterator[Heard]:
        """By session; a trade's session that no mark could name is nobody's."""
        for session in sorted(self._marks.keys() | self.counts.keys()):
            if _is_name(session):
                yield Heard(session, self._marks.get(session, []), self.counts.get(session, 0))


def span_of(mark: Mark, window: Window) -> tuple[int, int]:
    """A mark's span in microseconds since 1970, its count and source checked. Raises RefusedError."""
    if not 0 <= mark.count < MOST:
        raise RefusedError("count: not a count")
    if not _is_text(mark.source):
        raise RefusedError("source: not up to 100 printable characters")
    start, end = (time_of(ts, window) for ts in (mark.start, mark.end))
    if start > end:
        raise RefusedError("to: before from")
    return start, end


def missed_minutes(mark: Mark) -> tuple[str, range]:
    """The symbol of a `missed` mark and its minutes, counted from 1970: its span widened. Raises RefusedError."""
    symbol = symbol_of(mark.symbol or "")
    start, end = read_time(mark.start), read_time(mark.end)
    # A span of no length is the moment of a trade that could not be read: its minute.
    if start is None or end is None or start > end:
        raise RefusedError("from, to: no span of time")
    minutes = range(start // MINUTE, max(-(-end // MINUTE), start // MINUTE + 1))
    if len(minutes) > MOST_MISSED:
        raise RefusedError(f"from, to: more than {MOST_MISSED:,} minutes missed at once")
    return symbol, minutes
