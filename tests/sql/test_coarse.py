"""Deep history: hours and days where there are no minutes, seamless with them, on both engines."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.sql.history import History
from tests.sql.market import Market

New = Callable[..., Market]


@pytest.fixture
def h(new: New) -> History:
    """Days 03-01 and 03-02 as days, 03-03 as hours, 03-04 as minutes; all sealed and repaired."""
    m = new()
    h = History(m)
    m.insert(m.trade("03-03 10:00:00", "777"))  # a stray tick of a day of hours
    h.import_minutes(
        "03-04 00:00", "03-05 00:00", m.bar("03-04 00:00", "40 42 39 41", "4"), m.bar("03-04 23:59", "41 41 38 38", "1")
    )
    m.seal("03-10 00:00")
    h.import_coarse(
        "1d",
        "03-01 00:00",
        "03-03 00:00",
        bar(h, "03-01 00:00", "10 12 9 11", "1"),
        bar(h, "03-02 00:00", "20 22 19 21", "2"),
    )
    h.import_coarse(
        "1h",
        "03-03 00:00",
        "03-04 00:00",
        bar(h, "03-03 00:00", "30 32 29 31", "3"),
        bar(h, "03-03 05:00", "31 33 31 33", "5"),
    )
    m.repair()
    return h


def bar(h: History, ts: str, prices: str, volume: str) -> dict[str, Any]:
    """A bar that is no tick of the market's: the oracle of minutes does not know it."""
    return h.market.bar(ts, prices, volume)


def test_every_level_is_seamless_across_the_boundaries(h: History) -> None:
    minute, minutes = ("03-04 00:00", 40, 42, 39, 41, 4), ("03-04 23:59", 41, 41, 38, 38, 1)
    assert h.bars("1m") == [("03-03 10:00", 777, 777, 777, 777, 1), minute, minutes]
    hours = [("03-03 00:00", 30, 32, 29, 31, 3), ("03-03 05:00", 31, 33, 31, 33, 5)]
    assert h.bars("1h") == [*hours, minute, ("03-04 23:00", *minutes[1:])]
    assert h.bars("4h") == [hours[0], ("03-03 04:00", *hours[1][1:]), minute, ("03-04 20:00", *minutes[1:])]
    days = [("03-01 00:00", 10, 12, 9, 11, 1), ("03-02 00:00", 20, 22, 19, 21, 2), ("03-03 00:00", 30, 33, 29, 33, 8),
            ("03-04 00:00", 40, 42, 38, 38, 5)]  # fmt: skip
    assert h.bars("1d") == days
    assert h.bars("1mo") == [("03-01 00:00", 10, 42, 9, 38, 16)]
    assert h.gaps() == []


def test_a_day_proves_days_and_an_hour_hours(h: History) -> None:
    assert h.covered("1m") == [("03-04 00:00", "03-05 00:00")]
    assert h.covered("15m") == h.covered("1m")
    assert h.covered("4h") == [("03-03 00:00", "03-05 00:00")]
    assert h.covered("1w") == [("03-01 00:00", "03-05 00:00")]


def test_a_late_tick_in_a_day_of_hours_changes_no_hour(h: History) -> None:
    before = {level: h.bars(level) for level in ("1h", "4h", "1d", "1w", "1mo")}
    h.market.insert(h.market.trade("03-03 05:30:00", "9999"), h.market.trade("03-02 05:30:00", "9999"))
    h.market.repair()
    assert {level: h.bars(level) for level in before} == before


def test_hours_take_the_place_of_days_and_days_never_that_of_hours(h: History) -> None:
    h.import_coarse("1d", "03-03 00:00", "03-04 00:00", bar(h, "03-03 00:00", "1 1 1 1", "1"))
    h.market.repair()
    assert len(h.bars("1h")) == 4
    h.import_coarse("1h", "03-02 00:00", "03-03 00:00", bar(h, "03-02 07:00", "21 22 20 20", "7"))
    h.market.repair()
    assert h.bars("1d")[1] == ("03-02 00:00", 21, 22, 20, 20, 7)
    assert h.covered("1h") == [("03-02 00:00", "03-05 00:00")]
    assert h.gaps() == []


def test_minutes_take_their_place_in_one_step_once_the_whole_day_has_come_and_is_repaired(h: History) -> None:
    m = h.market
    before = {level: h.bars(level) for level in ("1h", "4h", "1d", "1mo")}
    h.import_minutes("03-03 00:00", "03-03 12:00", m.bar("03-03 01:00", "50 52 49 51", "6"))
    m.repair()
    assert {level: h.bars(level) for level in before} == before
    h.import_minutes("03-03 12:00", "03-04 00:00", m.bar("03-03 13:00", "51 51 51 51", "7"))
    assert {level: h.bars(level) for level in before} == before  # covered, but not yet repaired
    rev = m.connection.execute("select rev from meta").fetchone()
    m.repair()
    # The stray trade at 10:00 lies in a minute that nobody vouched for: the import has removed nothing of it.
    assert h.bars("1h")[:3] == [("03-03 01:00", 50, 52, 49, 51, 6), ("03-03 10:00", 777, 777, 777, 777, 1),
                                ("03-03 13:00", 51, 51, 51, 51, 7)]  # fmt: skip
    assert h.bars("1d")[2] == ("03-03 00:00", 50, 777, 49, 51, 14)
    assert h.covered("1m") == [("03-03 00:00", "03-05 00:00")]
    row = m.connection.execute("select count(*) from coarse_bars where symbol = %s and bucket >= %s",
                               (h.symbol, m.at("03-03 00:00"))).fetchone()  # fmt: skip
    assert row == (0,)
    row = m.connection.execute("select count(*) from revision where rev > %s and symbol = %s and span @> %s",
                               (rev[0], h.symbol, m.at("03-03 20:00"))).fetchone()  # fmt: skip
    assert row[0] >= 1
    m.connection.execute("select 1 from settled_day where symbol = %s", (h.symbol,))
    assert m.repair() == 0


def test_a_revision_is_written_when_coarse_bars_come(h: History) -> None:
    row = h.connection.execute(
        "select count(*) from revision where symbol = %s and span && %s",
        (h.symbol, h.span("03-01 00:00", "03-02 00:00")),
    ).fetchone()
    assert row[0] >= 1
