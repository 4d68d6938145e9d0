"""The calendars of any interval, slow and plain: every minute of a span is looked at. Knows nothing of `api`.

Minutes are counted since 1970; a local minute is what a clock shows, counted the same way.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import accumulate
from zoneinfo import ZoneInfo

from tests import oracle

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = 1440
MONDAY = 10959 * DAY  # 2000-01-03
UNITS = {"m": 1, "h": 60, "d": DAY, "w": 7 * DAY}


@lru_cache(10_000)
def _day(zone: str, day: int) -> list[int]:
    """What a zone's clock shows at each minute of a UTC day."""
    clock, start = ZoneInfo(zone), EPOCH + timedelta(days=day)
    offsets = ((start + timedelta(minutes=n)).astimezone(clock).utcoffset() for n in range(DAY))
    return [day * DAY + n + int(offset.total_seconds()) // 60 for n, offset in enumerate(offsets) if offset is not None]


def clock(zone: str, lo: int, hi: int) -> list[int]:
    """What it shows at each minute of [lo, hi)."""
    days = [minute for day in range(lo // DAY, -(-hi // DAY)) for minute in _day(zone, day)]
    return days[lo % DAY : lo % DAY + hi - lo]


@lru_cache(100_000)
def first(zone: str, local: int) -> int:
    """The first minute at which the clock shows a local minute or a later one."""
    lo, hi = local - 30 * 60, local + 30 * 60
    return lo + next(n for n, now in enumerate(clock(zone, lo, hi)) if now >= local)


def months(day: int) -> int:
    """The months from January 2000 to the month of a day."""
    date = EPOCH + timedelta(days=day)
    return (date.year - 2000) * 12 + date.month - 1


def month(number: int) -> int:
    """The first day of a month counted from January 2000."""
    return (datetime(2000 + number // 12, number % 12 + 1, 1, tzinfo=UTC) - EPOCH).days


def read(interval: str) -> tuple[int, int]:
    """The minutes and the months of a canonical name; one of them is 0."""
    match = re.fullmatch(r"(\d+)(m|h|d|w|mo)", interval)
    assert match
    number = int(match[1])
    return (0, number) if match[2] == "mo" else (number * UNITS[match[2]], 0)


def hours(session: str | None) -> tuple[int, int] | None:
    """A session's minutes of the day; past 1440 is the next day."""
    if session is None:
        return None
    (a, b), (c, d) = (map(int, part.split(":")) for part in session.split("-"))
    opens, closes = a * 60 + b, c * 60 + d
    return opens, closes if closes > opens else closes + DAY


def labels(interval: str, zone: str | None, session: str | None, lo: int, hi: int) -> list[int | None]:
    """For each minute of [lo, hi) the bucket it belongs to; None outside of the session."""
    width, count = read(interval)
    zone, part = zone or "UTC", hours(session)
    seen = clock(zone, lo - 3 * DAY, hi)
    if count or width % DAY == 0:
        found = _by_days(zone, seen, width // DAY, count, part, lo - 3 * DAY)
    elif part is None and DAY % width:
        origin = first(zone, MONDAY)
        found = [t - (t - origin) % width for t in range(lo - 3 * DAY, hi)]
    else:
        found = _by_clock(zone, seen, width, part, lo - 3 * DAY)
    return found[3 * DAY :]


def _by_days(
    zone: str, seen: list[int], days: int, count: int, part: tuple[int, int] | None, start: int
) -> list[int | None]:
    """Whole days: a day has begun when the clock has shown it, even if it is put back after that."""
    dates: list[int | None] = [reached // DAY for reached in accumulate(seen, max)]
    if part is not None:
        dates = _sessions(zone, seen, part, start)
    labels: dict[int | None, int | None] = {None: None}
    for day in set(dates) - {None}:
        assert day is not None
        begins = month(months(day) // count * count) if count else day - (day - MONDAY // DAY) % days
        labels[day] = first(zone, begins * DAY)
    return [labels[day] for day in dates]


def _sessions(zone: str, seen: list[int], part: tuple[int, int], start: int) -> list[int | None]:
    """The day whose session each minute belongs to."""
    found: list[int | None] = [None] * len(seen)
    for day in range(seen[0] // DAY - 2, seen[-1] // DAY + 2):
        if has(zone, day):
            lo, hi = (first(zone, day * DAY + local) - start for local in part)
            for n in range(max(0, lo), min(len(seen), hi)):
                found[n] = day
    return found


@lru_cache(10_000)
def has(zone: str, day: int) -> bool:
    """Whether the clock ever shows a date."""
    return any(local // DAY == day for local in clock(zone, (day - 2) * DAY, (day + 3) * DAY))


def _by_clock(zone: str, seen: list[int], width: int, part: tuple[int, int] | None, start: int) -> list[int | None]:
    """Parts of a day: one begins when the clock shows a multiple of the width, or jumps over it."""
    found: list[int | None] = []
    days: list[int | None] = [0] * len(seen) if part is None else _sessions(zone, seen, part, start)
    label, session = None, None if part is None else -1
    for n, (local, day) in enumerate(zip(seen, days, strict=True)):
        since = 0 if part is None or day is None else day * DAY + part[0]
        before = seen[n - 1] if n else local - 1
        jumped = local > before + 1 and (local - since) // width > (before - since) // width
        if day is None:
            label = None
        elif (part and day != session) or (local >= since and ((local - since) % width == 0 or jumped)):
            label = start + n
        session = day
        found.append(label)
    return found


def level(interval: str, zone: str | None, session: str | None) -> str:
    """The level whose watermark closes an interval."""
    width, count = read(interval)
    if session is None and zone in (None, "UTC"):
        return "1d" if count else next(
            name for name in ("1d", "4h", "1h", "30m", "15m", "5m", "1m") if width % oracle.WIDTHS[name] == 0
        )  # fmt: skip
    parts = [*(hours(session) or ()), *([width] if width % DAY else [])]
    return next(name for name in ("15m", "5m", "1m") if all(part % oracle.WIDTHS[name] == 0 for part in parts))
