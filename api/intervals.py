"""The intervals of bars: their names and aliases, and the arithmetic of their UTC buckets.

Times are whole seconds since 1970, between the years 1 and 9999.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from barwright.api.errors import bad

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MONDAY = 946_857_600  # 2000-01-03, where buckets of every width are counted from
DAY = 86_400
FIRST, LAST = -62_135_596_800, 253_402_300_799  # the years a timestamp of RFC 3339 can name


@dataclass(frozen=True, slots=True)
class Interval:
    """One interval: its name, its width in seconds (a month's: 0), and the level whose watermark closes it."""

    name: str
    width: int
    closed_by: str

    def floor(self, t: int) -> int:
        """The start of the bucket that holds `t`."""
        return t - (t - MONDAY) % self.width if self.width else month(months(t))

    def ceil(self, t: int) -> int:
        """The first bucket start at or after `t`."""
        return self.after(t - 1) if t > FIRST else FIRST

    def after(self, t: int, count: int = 1) -> int:
        """The start of the `count`-th bucket after the one that holds `t`; negative counts go back."""
        start = self.floor(t) + count * self.width if self.width else month(months(t) + count)
        return min(max(start, FIRST), LAST)


def months(t: int) -> int:
    """Months since the year 0."""
    date = moment(t)
    return date.year * 12 + date.month - 1


def month(number: int) -> int:
    """The start of a month counted from the year 0, kept between the years 1 and 9999."""
    number = min(max(number, 12), 9999 * 12 + 11)
    return int((datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC) - EPOCH).total_seconds())


def moment(t: int) -> datetime:
    """The datetime of a time, held between the years 1 and 9999."""
    return EPOCH + timedelta(seconds=min(max(t, FIRST), LAST))


LEVELS = {
    interval.name: interval
    for interval in (
        Interval("1m", 60, "1m"), Interval("5m", 300, "5m"), Interval("15m", 900, "15m"),
        Interval("30m", 1800, "30m"), Interval("1h", 3600, "1h"), Interval("4h", 14400, "4h"),
        Interval("1d", DAY, "1d"), Interval("1w", 7 * DAY, "1d"), Interval("1mo", 0, "1d"),
    )
}  # fmt: skip
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": DAY, "w": 7 * DAY}
_BY_WIDTH = {interval.width: interval for interval in LEVELS.values() if interval.width}


def interval(text: str) -> Interval:
    """The interval of a name or an alias (`60m`, `24h`, `7d`); ApiError 400 where there is none."""
    if text in LEVELS:
        return LEVELS[text]
    if re.fullmatch(r"\d+M", text, re.ASCII):
        raise bad("interval", text, f"Interval {text} is ambiguous.", list(LEVELS), "For months, use 1mo.")
    match = re.fullmatch(r"(\d{1,9})(s|m|min|h|d|w)", text, re.ASCII)
    found = _BY_WIDTH.get(int(match[1]) * _UNITS[match[2]]) if match else None
    if found is None:
        raise bad("interval", text, f"There is no interval {text!r:.40}.", list(LEVELS))
    return found
