"""Calendars: where the buckets of an interval begin and end.

A bucket is named by its start. A calendar also cuts time into *pages* of some hundred buckets, the same for everybody,
so that caches can share them. Times are seconds since 1970 between FIRST and LAST; nothing begins outside of them.
"""

from abc import ABC, abstractmethod
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from typing import NamedTuple

from barwright.api.clocks import Clock
from barwright.api.moments import DAY, FIRST, LAST, MONDAY, month, months

PAGE = 500  # buckets in a page at most
PARTS = 30_000  # bars of its level that a page is made of at most, where that leaves a bucket: 0.1 s to aggregate
MONTHS = 120  # of months in a page, ten years: 500 would be forty
JANUARY = 2000 * 12  # where months are counted from
Piece = tuple[int, int, int]  # from, to, and the bucket that holds what is between


class Calendar(ABC):
    """The buckets of one interval."""

    overhang = 0  # seconds that a bucket's content may go on beyond the start of the next bucket

    @abstractmethod
    def after(self, t: int, count: int) -> int:
        """The start of the `count`-th bucket after the one that holds `t` (0: that one); negative counts go back."""

    @abstractmethod
    def page(self, t: int) -> int:
        """The number of the page that holds `t`."""

    @abstractmethod
    def page_span(self, number: int) -> tuple[int, int]:
        """The span of a page."""

    @abstractmethod
    def starts(self, lo: int, hi: int) -> list[int]:
        """Every bucket start in [lo, hi), ascending."""

    def end(self, start: int) -> int:
        """The end of what is in a bucket."""
        return self.after(start, 1)

    def pieces(self, lo: int, hi: int) -> Iterator[Piece]:
        """What is in the buckets that start in [lo, hi): ascending spans and the bucket of each."""
        return ((start, self.end(start), start) for start in self.starts(lo, hi))

    def closed_before(self, watermark: int) -> int:
        """The first bucket that holds something at or after the watermark: all before it are closed."""
        start = self.after(watermark - self.overhang, 0)
        while self.end(start) <= watermark < LAST:
            start = self.after(start, 1)
        return start


class Even(Calendar):
    """Buckets of one width, counted from an origin."""

    def __init__(self, width: int, part: int, origin: int = MONDAY) -> None:
        self.width, self.origin = width, origin
        self.paged = width * max(1, min(PAGE, PARTS * part // width))

    def after(self, t: int, count: int) -> int:
        """Counted."""
        return min(max(t - (t - self.origin) % self.width + count * self.width, FIRST), LAST)

    def page(self, t: int) -> int:
        """Counted."""
        return (t - self.origin) // self.paged

    def page_span(self, number: int) -> tuple[int, int]:
        """Counted."""
        return self.origin + number * self.paged, self.origin + (number + 1) * self.paged

    def starts(self, lo: int, hi: int) -> list[int]:
        """Counted."""
        return list(range(lo + (self.origin - lo) % self.width, hi, self.width))

    def closed_before(self, watermark: int) -> int:
        """The bucket that holds the watermark."""
        return self.after(watermark, 0)


class Months(Calendar):
    """UTC months, some at a time."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.paged = count * max(1, MONTHS // count)

    def after(self, t: int, count: int) -> int:
        """Counted."""
        number = months(t)
        return month(number - (number - JANUARY) % self.count + count * self.count) if t < LAST or count < 1 else LAST

    def page(self, t: int) -> int:
        """Counted."""
        return (months(t) - JANUARY) // self.paged

    def page_span(self, number: int) -> tuple[int, int]:
        """Counted."""
        return month(JANUARY + number * self.paged), month(JANUARY + (number + 1) * self.paged)

    def starts(self, lo: int, hi: int) -> list[int]:
        """Counted."""
        first = months(lo) + (JANUARY - months(lo)) % self.count
        found = (month(number) for number in range(first, months(hi - 1) + 1, self.count)) if lo < hi else ()
        return [start for start in found if lo <= start < hi]


class Session(NamedTuple):
    """A part of each day, in seconds from its midnight; one that goes over midnight belongs to the day it began."""

    open: int
    close: int  # up to a day after `open`


class Local(Calendar):
    """Buckets by a local clock. All its rules speak of local days, numbered from 1970.

    Nothing begins before the year 100 or after 9900: beyond, dates would leave what Python can count.
    """

    def __init__(self, clock: Clock, session: Session | None) -> None:
        self.clock, self.session = clock, session

    @abstractmethod
    def cut(self, number: int) -> int:
        """The local day with which a page begins."""

    @abstractmethod
    def page_of(self, day: int) -> int:
        """The page of a local day."""

    @abstractmethod
    def begins(self, day: int) -> int:
        """The instant at which the first bucket of a day, or its place, begins."""

    @abstractmethod
    def within(self, first: int, last: int) -> Iterable[int]:
        """The bucket starts of the local days [first, last), in any order; others may be among them."""

    @cached_property
    def ends(self) -> tuple[int, int]:
        """The first and the last page."""
        return self.page_of(-1870 * 365), self.page_of(7930 * 365)

    def page(self, t: int) -> int:
        """Guessed by the date, then looked for."""
        low, high = self.ends
        number = self.page_of(min(max(t, -1870 * 365 * DAY), 7930 * 365 * DAY) // DAY)
        while number < high and t >= self.begins(self.cut(number + 1)):
            number += 1
        while number > low and t < self.begins(self.cut(number)):
            number -= 1
        return number

    def page_span(self, number: int) -> tuple[int, int]:
        """Between the first buckets of two days; the first and the last page go on to the ends of time."""
        low, high = self.ends
        return (FIRST if number <= low else self.begins(self.cut(number)),
                LAST if number >= high else self.begins(self.cut(number + 1)))  # fmt: skip

    def hours(self, day: int) -> tuple[int, int]:
        """The session of a day, its ends being the first instants at which the clock shows them."""
        assert self.session is not None
        return self.clock.first(day * DAY + self.session.open), self.clock.first(day * DAY + self.session.close)

    def made(self, number: int) -> "array[int]":
        """The bucket starts of a page."""
        first, last = self.cut(number), self.cut(number + 1)
        lo, hi = self.begins(first), self.begins(last)
        return array("q", sorted({start for start in self.within(first, last) if lo <= start < hi}))

    def after(self, t: int, count: int) -> int:
        """Found in pages."""
        (low, high), number = self.ends, self.page(t)
        at = bisect_right(_starts(self, number), t) - 1 + count
        while at < 0:
            number -= 1
            if number < low:
                return FIRST
            at += len(_starts(self, number))
        while at >= (size := len(_starts(self, number))):
            number, at = number + 1, at - size
            if number > high:
                return LAST
        return _starts(self, number)[at]

    def starts(self, lo: int, hi: int) -> list[int]:
        """Found in pages."""
        found: list[int] = []
        for number in range(self.page(lo), self.page(hi - 1) + 1) if lo < hi else ():
            page = _starts(self, number)
            found += page[bisect_left(page, lo) : bisect_left(page, hi)]
        return found


@lru_cache(2048)
def _starts(calendar: Local, number: int) -> "array[int]":
    """The bucket starts of a page. Kept are 8 MB of them as a rule, whatever zones and sessions are asked for."""
    return calendar.made(number)


class Hours(Local):
    """Buckets shorter than a day: one begins whenever the clock shows a multiple of the width since midnight, or since
    the session's start; both times where an hour is repeated, at the jump where it is skipped."""

    def __init__(self, clock: Clock, width: int, session: Session | None) -> None:
        super().__init__(clock, session)
        self.width = width
        self.shown = session or Session(0, DAY)
        daily = -(-(self.shown.close - self.shown.open) // width)
        self.paged = max(2, PAGE // daily)  # two, so that a page with a skipped day holds something

    def cut(self, number: int) -> int:
        """Counted."""
        return MONDAY // DAY + number * self.paged

    def page_of(self, day: int) -> int:
        """Counted."""
        return (day - MONDAY // DAY) // self.paged

    def begins(self, day: int) -> int:
        """At the session's start."""
        return self.clock.first(day * DAY + self.shown.open)

    def within(self, first: int, last: int) -> Iterator[int]:
        """By the clock. A day's first moments may be shown again after the next has begun."""
        for day in range(first - 1, last + 1):
            if self.session and not self.clock.has(day):
                continue
            open_, close = self.hours(day) if self.session else (FIRST, LAST)
            for local in range(day * DAY + self.shown.open, day * DAY + self.shown.close, self.width):
                yield from (t for t in self.clock.all(local) if open_ <= t < close)

    def end(self, start: int) -> int:
        """The next start, or the end of the session."""
        following = self.after(start, 1)
        if self.session is None or start <= FIRST:
            return following
        day = self.clock.day(start)
        return min([following, *(b for a, b in map(self.hours, (day - 1, day, day + 1)) if a <= start < b)])


class _Dates(Local):
    """Buckets of whole local days, each named by the first instant of its first day."""

    def __init__(self, clock: Clock, session: Session | None) -> None:
        super().__init__(clock, session)
        # Three hours more than the session goes on after midnight: what the clock may have been put back.
        self.overhang = session.close - DAY + 3 * 3600 if session and session.close > DAY else 0

    def begins(self, day: int) -> int:
        """At its first instant."""
        return self.clock.first(day * DAY)

    def end(self, start: int) -> int:
        """The next start, or the end of the last session."""
        following = self.after(start, 1)
        whole = self.session is None or start <= FIRST or following == LAST
        return following if whole else max(b for _, b in self._sessions(start))

    def pieces(self, lo: int, hi: int) -> Iterator[Piece]:
        """Whole buckets, or the sessions in each."""
        if self.session is None:
            yield from super().pieces(lo, hi)
            return
        for start in self.starts(lo, hi):
            yield from ((a, b, start) for a, b in self._sessions(start) if a < b)

    def _sessions(self, start: int) -> list[tuple[int, int]]:
        """The sessions of a bucket's days."""
        days = range(self.clock.day(start), self.clock.day(self.after(start, 1)))
        return [self.hours(day) for day in days if self.clock.has(day)]


class Days(_Dates):
    """Some local days at a time, counted from Monday 2000-01-03."""

    def __init__(self, clock: Clock, count: int, session: Session | None) -> None:
        super().__init__(clock, session)
        self.count, self.paged = count, count * max(1, 400 // count)

    def cut(self, number: int) -> int:
        """Counted."""
        return MONDAY // DAY + number * self.paged

    def page_of(self, day: int) -> int:
        """Counted."""
        return (day - MONDAY // DAY) // self.paged

    def within(self, first: int, last: int) -> Iterator[int]:
        """Counted."""
        return (self.clock.first(day * DAY) for day in range(first, last, self.count))


class LocalMonths(_Dates):
    """Some local months at a time, counted from January 2000."""

    def __init__(self, clock: Clock, count: int, session: Session | None) -> None:
        super().__init__(clock, session)
        self.count, self.paged = count, count * max(1, 12 // count)

    def cut(self, number: int) -> int:
        """The first day of its first month."""
        return month(JANUARY + number * self.paged) // DAY

    def page_of(self, day: int) -> int:
        """By the month."""
        return (months(day * DAY) - JANUARY) // self.paged

    def within(self, first: int, last: int) -> Iterator[int]:
        """The first days of months."""
        numbers = range(months(first * DAY), months(last * DAY), self.count)
        return (self.clock.first(month(number)) for number in numbers)
