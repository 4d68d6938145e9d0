"""Imports: the bars of one record with the mark that proves exactly their span. They land together or not at all."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from barwright.ingest.claims import Claim


class Task(NamedTuple):
    """A backfill task as it stands, its span and the minutes to be left alone ([lo, hi) each) counted from 1970; an
    import without a task has only the latter."""

    id: int | None
    symbol: str
    interval: str
    lo: int
    hi: int
    attempt: int
    kept: str
    los: list[int]
    his: list[int]


@dataclass(eq=False)
class Import:
    """Bars of [lo, hi) of one symbol, minutes counted from 1970; `rows`, `buckets` and `places` (in the record) are of
    one length. `refused` are the minutes of bars that became dead letters."""

    claim: Claim
    offset: int
    symbol: str
    interval: str
    source: str
    lo: int
    hi: int
    task: int | None
    attempt: int
    final: bool
    rows: list[str] = field(default_factory=list)
    buckets: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    refused: set[int] = field(default_factory=set)
    # What lands, once the database has told what stands: see `settle`.
    landing: list[str] = field(default_factory=list)
    landed: list[int] = field(default_factory=list)
    spoiled: set[int] = field(default_factory=set)
    kept: str = "{}"
    again: bool = False

    @property
    def is_fine(self) -> bool:
        """Whether its bars are minutes, which become ticks."""
        return self.interval == "1m"

    def settle(self, task: Task | None, has_bars: bool) -> bool:
        """Take what the database says of its task; False where that has gone, is further, or is about something else.

        Minutes that live trades prove are left alone. Where imported bars are already they are merged, not copied.
        """
        self.landing, self.landed, self.spoiled = [], [], set()
        if task is None or task.attempt > self.attempt:
            return False
        if (task.symbol, task.interval) != (self.symbol, self.interval) or not task.lo <= self.lo < self.hi <= task.hi:
            return False
        self.kept, self.again = task.kept, has_bars
        self.landing, self.landed = self.rows, self.buckets
        if task.los and self.is_fine:
            free = [n for n, minute in enumerate(self.buckets) if not _lies_in(minute, task.los, task.his)]
            self.landing, self.landed = [self.rows[n] for n in free], [self.buckets[n] for n in free]
        return True

    def whole_days(self) -> list[tuple[int, int]]:
        """The runs of days, minutes counted from 1970, of which no bar was refused."""
        bad = {minute // 1440 for minute in self.refused}
        edges = [self.lo // 1440 - 1, *sorted(bad), self.hi // 1440]
        runs = [((before + 1) * 1440, after * 1440) for before, after in pairwise(edges)]
        return [(lo, hi) for lo, hi in runs if lo < hi]

    def spoil(self, row: str) -> int:
        """A row that the database refused: it proves nothing of its minute. Returns its place in the record."""
        n = self.rows.index(row)
        self.spoiled.add(self.buckets[n])
        self.landed = [minute for minute in self.landed if minute != self.buckets[n]]
        return self.places[n]


def _lies_in(minute: int, los: list[int], his: list[int]) -> bool:
    """Whether a minute lies in one of these spans, which are in order."""
    n = bisect_right(los, minute) - 1
    return n >= 0 and minute < his[n]
