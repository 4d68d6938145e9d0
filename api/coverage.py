"""What one snapshot says of a symbol's coverage, and what that means for a span of an answer.

Times are microseconds since 1970; a span is half open, [from, to). Judging is strict: whatever nobody vouches for is
null, and better null than a lie.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from barwright.api.database import Look, Row
from barwright.api.intervals import EPOCH, FIRST, LAST, Interval

Span = tuple[int, int]
SECOND, MINUTE = 1_000_000, 60_000_000
FINENESS: Final = ("1m", "1h", "1d")  # of what imports prove, finest first
GAPS, BACKFILLS = 50, 20  # listed in an answer at most


class Task(NamedTuple):
    """An open backfill task."""

    id: int
    lo: int
    hi: int
    status: str
    attempt: int
    error: str | None


@dataclass(slots=True, eq=False)
class Summary:
    """A symbol's coverage in one snapshot.

    `alive` ends with the next revision. `heard` is the monotonic time at which it was here: bars asked for later are no
    older. It is good until the monotonic time `until`.
    """

    symbol: str
    epoch: str
    rev: int
    start: int | None  # history is wanted from here
    end: int | None  # and up to here; None: up to now
    grace: int
    wanted: bool  # a source gives its history and nobody has stopped it: what is missing is a gap
    registered: bool
    proved: dict[str, list[Span]]  # by FINENESS: what bars of this interval or finer ones prove; ascending, disjoint
    late: list[Span]  # what awaits repair
    tasks: list[Task]
    dropped: dict[str, int] = field(default_factory=dict)  # by level: its bars below were dropped, by age
    heard: float = 0.0
    until: float = 0.0
    alive: bool = True
    tracked: bool = True

    def bound(self, now: int) -> int:
        """Up to where history can be asked for now."""
        surely = minute(now - self.grace)
        return surely if self.end is None else min(self.end, surely)

    def gaps(self, lo: int, hi: int, now: int, fineness: str = "1d") -> list[Span]:
        """Whole minutes of [lo, hi) that a source can still give and that nothing this fine proves."""
        if self.start is None or not self.wanted:
            return []
        span = max(lo, self.start), min(hi, self.bound(now))
        return merged((minute(a), -minute(-b)) for a, b in without(span, self.proved[fineness]))

    def awaiting(self, lo: int, hi: int) -> list[Span]:
        """What of [lo, hi) awaits repair, of the history that is wanted."""
        if self.start is None:
            return []
        lo = max(lo, self.start)
        return [(max(a, lo), min(b, hi)) for a, b in self.late if a < hi and b > lo]

    def missing(self, now: int) -> list[Span]:
        """All gaps: what view `gaps` says of this symbol."""
        if self.start is None or not self.wanted:
            return []
        whole = self.start, self.bound(now)
        return merged([*self.gaps(*whole, now), *self.awaiting(*whole)])


class Verdict(NamedTuple):
    """What an answer may say of its span."""

    complete: bool | None
    finest: str | None
    gaps: list[Span]
    tasks: list[Task]


def summary(symbol: str, row: Row, news: Look) -> Summary:
    """The row of query `coverage`, of the same snapshot as the look."""
    start, end, grace, wanted, registered, proved, late, tasks, dropped = row
    return Summary(
        symbol, news.epoch, news.rev, start, end, grace, wanted, registered,
        {name: _spans(proved.get(name)) for name in FINENESS}, _spans(late), [Task(*task) for task in tasks or ()],
        dropped or {},
    )  # fmt: skip


def judge(known: Summary, interval: Interval, lo: int, hi: int, clock: float) -> Verdict:
    """Of whole buckets [lo, hi) in seconds, at `clock` in seconds by the database.

    What is over of the span must be proved and its bars kept; the minute now open must have been followed from its
    beginning.
    """
    a, b, now = lo * SECOND, hi * SECOND, int(clock * SECOND)
    over = min(b, minute(now))
    needed = (a, over + 1) if b > minute(now) else (a, over)
    sound = a < b and a <= minute(now)
    finest = next((name for name in FINENESS if sound and holds(known.proved[name], needed)), None)
    needs = fineness(interval)
    false = bool(known.gaps(a, over, now) or known.awaiting(a, b))
    proved = known.start is not None and a >= known.start and finest is not None
    there = a >= known.dropped.get(interval.level, a)
    good = proved and there and FINENESS.index(str(finest)) <= FINENESS.index(needs)
    gaps = merged([*known.gaps(a, over, now, needs), *known.awaiting(a, b)])
    tasks = [task for task in known.tasks if task.lo < b and task.hi > a]
    return Verdict(False if false else True if good else None, finest if proved else None, gaps, tasks)


def fineness(interval: Interval) -> str:
    """The coarsest import that proves bars of an interval."""
    return {"1d": "1d", "4h": "1h", "1h": "1h"}.get(interval.closed_by, "1m")


def told(verdict: Verdict) -> bytes:
    """The JSON of a verdict."""
    return _encode({
        "complete": verdict.complete, "finest": verdict.finest,
        "gaps": [[rfc3339(a), rfc3339(b)] for a, b in verdict.gaps[:GAPS]],
        "more_gaps": max(0, len(verdict.gaps) - GAPS),
        "backfills": [
            {"id": task.id, "from": rfc3339(task.lo), "to": rfc3339(task.hi), "status": task.status,
             "attempt": task.attempt, "error": task.error} for task in verdict.tasks[:BACKFILLS]
        ],
        "more_backfills": max(0, len(verdict.tasks) - BACKFILLS),
    })  # fmt: skip


_encode = msgspec.json.Encoder().encode


def minute(t: int) -> int:
    """The minute that holds a time."""
    return t - t % MINUTE


def rfc3339(t: int) -> str:
    """A time as text, without a fraction that is zero."""
    return text(EPOCH + timedelta(microseconds=min(max(t, FIRST * SECOND), LAST * SECOND)))


def text(t: datetime) -> str:
    """An aware time as text in UTC, without a fraction that is zero."""
    return (EPOCH + (t - EPOCH)).isoformat().replace("+00:00", "Z")


def holds(spans: Sequence[Span], wanted: Span) -> bool:
    """Whether one of some disjoint ascending spans holds all of another."""
    n = bisect_right(spans, (wanted[0], 2**63)) - 1
    return n >= 0 and spans[n][1] >= wanted[1]


def without(span: Span, spans: Sequence[Span]) -> Iterator[Span]:
    """The parts of a span that disjoint ascending ones leave."""
    at, hi = span
    for n in range(max(0, bisect_right(spans, (at, 2**63)) - 1), len(spans)):
        a, b = spans[n]
        if a >= hi or at >= hi:
            break
        if a > at:
            yield at, a
        at = max(at, b)
    if at < hi:
        yield at, hi


def merged(spans: Any) -> list[Span]:
    """Spans in order, those that touch as one."""
    result: list[Span] = []
    for a, b in sorted(spans):
        if result and a <= result[-1][1]:
            result[-1] = result[-1][0], max(result[-1][1], b)
        else:
            result.append((a, b))
    return result


def _spans(pairs: Any) -> list[Span]:
    return [(lo, hi) for lo, hi in pairs or ()]
