"""Intervals are what a plain look at every minute says, and their arithmetic is consistent."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barwright.api.errors import ApiError
from barwright.api.intervals import DAY, FIRST, LAST, LEVELS, Interval, interval, moment
from tests import oracle_calendar as truth

# Where clocks change, and how: (zone, a day around the change).
CHANGES = [
    ("America/New_York", "2024-03-10"), ("America/New_York", "2024-11-03"), ("Europe/London", "2016-03-27"),
    ("Europe/London", "2016-10-30"), ("Australia/Lord_Howe", "2016-04-03"), ("Australia/Lord_Howe", "2016-10-02"),
    ("America/St_Johns", "2009-03-08"), ("America/St_Johns", "2009-11-01"),  # at 00:01
    ("America/Sao_Paulo", "2017-10-15"), ("America/Sao_Paulo", "2018-02-18"),  # at midnight
    ("America/Havana", "2016-03-13"), ("America/Havana", "2016-11-06"), ("Pacific/Apia", "2011-12-30"),  # a day skipped
    ("Pacific/Kwajalein", "1993-08-21"), ("Asia/Kathmandu", "1986-01-01"),  # by a quarter of an hour
    ("Asia/Pyongyang", "2018-05-04"), ("America/Caracas", "2007-12-09"), ("Africa/Casablanca", "2019-05-05"),
    ("Europe/Dublin", "2020-10-25"), ("Antarctica/Troll", "2016-03-27"),  # by two hours
    ("Asia/Kolkata", "2020-01-01"), ("UTC", "2020-02-29"),
]  # fmt: skip
LOCAL = ["1h", "2h", "3h", "4h", "6h", "12h", "90m", "5h", "36h", "1d", "2d", "1w", "1mo", "3mo"]
IN_SESSION = ["1m", "7m", "15m", "1h", "2h", "12h", "1d", "3d", "1w", "1mo"]
SESSIONS = ["09:30-16:00", "00:00-24:00", "18:00-17:00", "22:00-06:00", "01:30-02:30", "02:00-03:00", "00:00-00:00",
            "23:45-00:15"]  # fmt: skip
sessions = st.sampled_from(SESSIONS) | st.builds(
    lambda a, b: f"{a // 60:02}:{a % 60:02}-{b // 60:02}:{b % 60:02}", st.integers(0, 1439), st.integers(0, 1440)
)


def minutes(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) // 60


def compare(name: str, zone: str | None, session: str | None, lo: int, hi: int) -> None:
    """Which minutes are in which bucket, where buckets begin and end, and what closes them."""
    found = interval(name, zone, session)
    wanted = truth.labels(name, zone, session, lo, hi)
    placed: list[int | None] = [None] * (hi - lo)
    first = found.floor(lo * 60 - found.calendar.overhang - DAY)
    for a, b, label in found.pieces(first, hi * 60):
        assert first <= label <= a < b
        for minute in range(max(lo, a // 60), min(hi, b // 60)):
            placed[minute - lo] = label // 60
    where = next((n for n, pair in enumerate(zip(placed, wanted, strict=True)) if pair[0] != pair[1]), None)
    assert placed == wanted, (name, zone, session, where and moment((lo + where) * 60))
    assert found.closed_by == truth.level(name, zone, session)
    for mark in range(lo, hi, 211):
        over = next((label for label in wanted[mark - lo :] if label is not None), None)
        edge = found.closed_before(mark * 60)
        assert over is None or edge == over * 60, (name, zone, session, moment(mark * 60))


@pytest.mark.parametrize(("zone", "day"), CHANGES)
def test_around_every_kind_of_change(zone: str, day: str) -> None:
    lo = minutes(day) - 1440
    for name in LOCAL:
        compare(name, zone, None, lo, lo + 3 * 1440)
    for n, session in enumerate(SESSIONS):
        for name in (IN_SESSION[n % len(IN_SESSION)], IN_SESSION[-n - 1]):
            compare(name, zone, session, lo, lo + 3 * 1440)


@settings(max_examples=40, deadline=None)
@given(
    zone=st.sampled_from([zone for zone, _ in CHANGES]), day=st.dates(date(1980, 1, 1), date(2037, 1, 1)),
    name=st.sampled_from([*LOCAL, *IN_SESSION]), session=sessions, has=st.booleans(),
)  # fmt: skip
def test_any_day_and_session(zone: str, day: date, name: str, session: str, has: bool) -> None:
    width, _ = truth.read(name)
    if has and width > 1440 and width % 1440:
        return
    if not has and 0 < width < 60:
        return
    lo = minutes(day.isoformat())
    compare(name, zone, session if has else None, lo, lo + 2 * 1440)


every = st.one_of(
    st.builds(lambda n: interval(f"{n}m"), st.integers(1, 20_000)),
    st.builds(lambda n, u: interval(f"{n}{u}"), st.integers(1, 120), st.sampled_from(["h", "d", "w", "mo"])),
    st.builds(interval, st.sampled_from(LOCAL), st.sampled_from([zone for zone, _ in CHANGES])),
    st.builds(interval, st.sampled_from(IN_SESSION), st.sampled_from([zone for zone, _ in CHANGES]), sessions),
)
times = st.one_of(st.integers(FIRST, LAST), st.integers(-(10**9), 4 * 10**9), st.sampled_from([FIRST, LAST, 0]))


@settings(max_examples=400, deadline=None)
@given(found=every, t=times, count=st.integers(-600, 600))
def test_arithmetic(found: Interval, t: int, count: int) -> None:
    floor, after = found.floor(t), found.after(t)
    assert FIRST <= floor <= t or floor == FIRST
    assert t < after or after == LAST
    assert found.floor(floor) == floor
    assert found.ceil(floor) == floor or floor in (FIRST, LAST)
    assert floor <= found.ceil(t)
    assert found.after(floor, 0) == floor
    there = found.after(t, count)
    assert FIRST <= there <= LAST
    if min(floor, there) > FIRST and max(floor, there) < LAST and count:
        lo, hi = sorted((floor, there))
        starts = found.starts(lo, hi)
        assert len(starts) == abs(count)
        assert starts == sorted(set(starts))
        assert starts[0] == lo
        assert found.after(there, -count) == floor or floor == FIRST
        assert all(found.end(a) <= b or found.calendar.overhang for a, b in pairwise(starts))


@settings(max_examples=200, deadline=None)
@given(found=every, t=times)
def test_pages_tile_time(found: Interval, t: int) -> None:
    number = found.page(t)
    lo, hi = found.page_span(number)
    assert lo <= t < hi or t == LAST
    assert found.page(lo) == number or lo < FIRST
    # A page of sessions may begin where one would, were it not skipped.
    assert found.floor(max(lo, FIRST)) == lo or lo <= FIRST or found.session
    if lo > FIRST and hi < LAST:
        assert found.page_span(number + 1)[0] == hi
        assert found.page_span(number - 1)[1] == lo
        assert 1 <= len(found.starts(lo, hi)) <= 3000


@pytest.mark.parametrize(("text", "name", "level"), [
    ("60m", "1h", "1h"), ("24h", "1d", "1d"), ("14d", "2w", "1d"), ("3m", "3m", "1m"), ("10m", "10m", "5m"),
    ("2h", "2h", "1h"), ("8h", "8h", "4h"), ("90m", "90m", "30m"), ("45m", "45m", "15m"), ("3d", "3d", "1d"),
    ("2w", "2w", "1d"), ("3mo", "3mo", "1d"), ("12mo", "12mo", "1d"), ("7h", "7h", "1h"), ("120min", "2h", "1h"),
    ("1w", "1w", "1w"), ("7d", "1w", "1w"), ("1mo", "1mo", "1mo"), ("5400s", "90m", "30m"),
])  # fmt: skip
def test_names_and_levels(text: str, name: str, level: str) -> None:
    found = interval(text)
    assert (found.name, found.key, found.level, found.derived) == (name, name, level, name not in LEVELS)
    assert found == interval(name)


@pytest.mark.parametrize(("args", "parameter"), [
    (("1M",), "interval"), (("3M",), "interval"), (("0m",), "interval"), (("90s",), "interval"), (("1y",), "interval"),
    (("121mo",), "interval"), (("3661d",), "interval"), (("m",), "interval"), (("1.5h",), "interval"),
    (("30m", "Europe/London"), "tz"), (("1m", "UTC"), "tz"), (("1h", "Mars/Olympus"), "tz"), (("1h", ""), "tz"),
    (("1h", "../etc"), "tz"), (("1h", None, "9:30-16:00"), "session"), (("1h", None, "24:00-01:00"), "session"),
    (("1h", None, "09:30-25:00"), "session"), (("36h", None, "09:30-16:00"), "session"), (("1h", None, ""), "session"),
])  # fmt: skip
def test_what_is_refused(args: tuple[str, ...], parameter: str) -> None:
    with pytest.raises(ApiError) as caught:
        interval(*args)
    assert caught.value.status == 400
    assert caught.value.details["parameter"] == parameter
    assert caught.value.hint or caught.value.details.get("allowed")


def test_every_zone_has_hours_and_days() -> None:
    now = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp())
    for zone in sorted(available_timezones()):
        if zone not in ("Factory", "localtime"):
            found = interval("1d", zone.swapcase())
            assert timedelta(hours=22) <= timedelta(seconds=found.after(now) - found.floor(now)) <= timedelta(hours=26)


def test_zones_without_a_clock_of_their_own_are_utc() -> None:
    assert interval("4h", "Etc/UTC") is interval("4h") is LEVELS["4h"]
    assert interval("1h", "America/New_York").key == "1h@America/New_York"
    assert interval("1h", "America/New_York", "09:30-16:00").key == "1h@America/New_York@09:30-16:00"
