"""Points in time as whole seconds since 1970, between the years 1 and 9999."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MONDAY = 946_857_600  # 2000-01-03, where buckets of every width are counted from
DAY = 86_400
FIRST, LAST = -62_135_596_800, 253_402_300_799  # the years a timestamp of RFC 3339 can name


def moment(t: int) -> datetime:
    """The datetime of a time, held between the years 1 and 9999."""
    return EPOCH + timedelta(seconds=min(max(t, FIRST), LAST))


def months(t: int) -> int:
    """Months since the year 0."""
    date = moment(t)
    return date.year * 12 + date.month - 1


def month(number: int) -> int:
    """The start of a month counted from the year 0, kept between the years 1 and 9999."""
    number = min(max(number, 12), 9999 * 12 + 11)
    return int((datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC) - EPOCH).total_seconds())
