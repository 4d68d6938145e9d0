"""The intervals of bars: their names and aliases, and what each is made of.

An interval is a multiple of a level and is computed from the largest level that divides it. Its buckets are UTC: widths
that divide a day begin at midnight, others are counted from Monday 2000-01-03, months from January 2000. With `tz` they
follow a local clock, with `session` they hold a part of each day; the rules are those of `calendars`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from math import gcd
from typing import Final

from barwright.api.calendars import Calendar, Days, Even, Hours, LocalMonths, Months, Piece, Session
from barwright.api.clocks import clock, zone
from barwright.api.errors import bad
from barwright.api.moments import DAY as DAY
from barwright.api.moments import EPOCH as EPOCH
from barwright.api.moments import FIRST as FIRST
from barwright.api.moments import LAST as LAST
from barwright.api.moments import MONDAY as MONDAY
from barwright.api.moments import moment as moment

HOUR = 3600
WEEK = 7 * DAY
WIDTHS: Final = {"1m": 60, "5m": 300, "15m": 900, "30m": 1800, "1h": HOUR, "4h": 4 * HOUR, "1d": DAY}
MOST_DAYS, MOST_MONTHS = 3660, 120  # ten years
_UNITS = {"s": 1, "m": 60, "min": 60, "h": HOUR, "d": DAY, "w": WEEK}
_SESSION = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-(?:([01]\d|2[0-3]):([0-5]\d)|24:00)", re.ASCII)
ALLOWED_SESSION = "HH:MM-HH:MM, the end up to 24:00; an end at or before the start is on the next day"


@dataclass(frozen=True, slots=True)
class Interval:
    """One interval; `interval()` makes it. Those of equal keys are equal.

    `level` is the level whose bars it is made of, `closed_by` the one whose watermark closes its buckets: a level is
    its own, weeks and months are made of days. `derived` means that no view has it as it is. `width` is in seconds, 0
    for months, and nominal where a local clock rules. Times are seconds since 1970.
    """

    name: str
    key: str
    width: int
    level: str
    closed_by: str
    derived: bool
    tz: str | None
    session: str | None
    calendar: Calendar = field(compare=False, repr=False)

    def floor(self, t: int) -> int:
        """The start of the bucket that holds `t`; between sessions, of the one before."""
        return self.calendar.after(t, 0)

    def ceil(self, t: int) -> int:
        """The first bucket start at or after `t`."""
        return self.calendar.after(t - 1, 1) if t > FIRST else FIRST

    def after(self, t: int, count: int = 1) -> int:
        """The start of the `count`-th bucket after the one that holds `t`; negative counts go back."""
        return self.calendar.after(t, count)

    def starts(self, lo: int, hi: int) -> list[int]:
        """Every bucket start in [lo, hi), ascending."""
        return self.calendar.starts(lo, hi)

    def end(self, start: int) -> int:
        """The end of what is in a bucket: the next start, or the end of its session."""
        return self.calendar.end(start)

    def reach(self, lo: int, hi: int) -> int:
        """The end of what is in the buckets that start in [lo, hi): `hi`, but for a session that goes over midnight."""
        return max(hi, self.end(self.floor(hi - 1))) if self.calendar.overhang and lo < hi < LAST else hi

    def pieces(self, lo: int, hi: int) -> Iterator[Piece]:
        """What is in the buckets that start in [lo, hi): ascending spans (from, to, bucket)."""
        return self.calendar.pieces(lo, hi)

    def closed_before(self, watermark: int) -> int:
        """The first bucket that is not closed by this watermark of level `closed_by`."""
        return self.calendar.closed_before(watermark)

    def page(self, t: int) -> int:
        """The number of the page, some hundred aligned buckets, that holds `t`."""
        return self.calendar.page(t)

    def page_span(self, number: int) -> tuple[int, int]:
        """The span of a page, in bucket starts."""
        return self.calendar.page_span(number)


def _plain(name: str, width: int) -> Interval:
    """An interval in UTC."""
    level = largest(width or DAY)
    known = name in (*WIDTHS, "1w", "1mo")
    calendar = Even(width, WIDTHS[level]) if width else Months(int(name.removesuffix("mo")))
    return Interval(name, name, width, name if known else level, level, not known, None, None, calendar)


def largest(width: int) -> str:
    """The largest level that divides a width."""
    return next(name for name, part in reversed(WIDTHS.items()) if width % part == 0)


LEVELS: Final = {name: _plain(name, width) for name, width in {**WIDTHS, "1w": WEEK, "1mo": 0}.items()}


@lru_cache(1024)
def interval(text: str, tz: str | None = None, session: str | None = None) -> Interval:
    """The interval of a name or an alias (`60m`, `24h`, `14d`) by a zone's clock and in a session; ApiError 400."""
    name, width, count = _read(text)
    where = None if tz is None else zone(tz)
    if session is None:
        if tz is not None and 0 < width < HOUR:
            raise bad("tz", tz, f"tz goes with intervals from 1h on, not with {name}.", "an interval from 1h on",
                      "Without tz its buckets are the same.")  # fmt: skip
        if where in (None, "UTC"):
            return LEVELS.get(name) or _plain(name, width)
    return _local(name, width, count, where or "UTC", session)


def _read(text: str) -> tuple[str, int, int]:
    """The name, the width in seconds and the months of an interval; one of the two is 0."""
    if re.fullmatch(r"\d+M", text, re.ASCII):
        raise bad(
            "interval", text, f"Interval {text:.40} is ambiguous.", list(LEVELS), f"For months, use {text[:-1]}mo."
        )
    match = re.fullmatch(r"(\d{1,9})(s|m|min|h|d|w|mo)", text, re.ASCII)
    count = int(match[1]) if match else 0
    if match and match[2] == "mo" and 0 < count <= MOST_MONTHS:
        return f"{count}mo", 0, count
    width = count * _UNITS[match[2]] if match and match[2] != "mo" else 0
    if width == 0 or width % 60 or width > MOST_DAYS * DAY:
        raise bad(
            "interval",
            text,
            f"There is no interval {text!r:.40}.",
            list(LEVELS),
            f"Or a multiple of a level: whole minutes up to {MOST_DAYS}d, or months up to {MOST_MONTHS}mo.",
        )
    unit, size = next((unit, size) for unit, size in (("w", WEEK), ("d", DAY), ("h", HOUR), ("m", 60))
                      if width % size == 0)  # fmt: skip
    return f"{width // size}{unit}", width, 0


def _local(name: str, width: int, count: int, tz: str, session: str | None) -> Interval:
    """An interval by a local clock."""
    hours = _session(session)
    part = gcd(*(n for n in (900, width if width < DAY else 0, *(hours or ())) if n))
    level = "15m" if part == 900 else "5m" if part == 300 else "1m"
    key = "@".join([name, tz, *([session] if session else [])])
    calendar: Calendar
    if count:
        calendar = LocalMonths(clock(tz), count, hours)
    elif width % DAY == 0:
        calendar = Days(clock(tz), width // DAY, hours)
    elif hours and width > DAY:
        raise bad("session", session, f"A session goes with intervals below a day or of whole days, not with {name}.",
                  ALLOWED_SESSION)  # fmt: skip
    elif hours or DAY % width == 0:
        calendar = Hours(clock(tz), width, hours)
    else:
        calendar = Even(width, WIDTHS[level], clock(tz).first(MONDAY))
    return Interval(name, key, width, level, level, True, tz, session, calendar)


def _session(text: str | None) -> Session | None:
    """A part of each day."""
    if text is None:
        return None
    match = _SESSION.fullmatch(text)
    if match is None:
        raise bad("session", text[:40], f"session={text!r:.40} is no part of a day.", ALLOWED_SESSION,
                  "For instance session=09:30-16:00&tz=America/New_York")  # fmt: skip
    opens = int(match[1]) * HOUR + int(match[2]) * 60
    closes = int(match[3]) * HOUR + int(match[4]) * 60 if match[3] else DAY
    return Session(opens, closes if closes > opens else closes + DAY)
