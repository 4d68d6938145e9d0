"""The SQL contract: the same bars on both engines, to the last digit, whatever has been rolled up or not."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barwright.sql.engine import levels
from tests.sql.market import INTERVALS, Market

New = Callable[..., Market]
LEVELS = INTERVALS[:7]


def test_ties_in_the_timestamp_are_ordered_by_seq(new: New) -> None:
    m = new()
    m.insert(m.trade("03-01 00:00:01", "102", seq=3), m.trade("03-01 00:00:01", "100", seq=1),
             m.trade("03-01 00:00:01", "101", seq=2))  # fmt: skip
    assert [(b["open"], b["close"]) for b in m.bars("1m")] == [(100, 102)]
    m.check()
    m.seal("03-03 00:00")
    m.check()


def test_seq_orders_trades_even_against_their_times(new: New) -> None:
    """An exchange's ids are the order of its matching; its clock may step back."""
    m = new()
    m.insert(m.trade("03-01 00:00:09", "1", seq=7), m.trade("03-01 00:00:05", "2", seq=8),
             m.trade("03-01 00:00:01", "3", seq=9))  # fmt: skip
    assert [(b["open"], b["close"]) for b in m.bars("1m")] == [(1, 3)]
    m.seal("03-03 00:00")
    m.check()


def test_out_of_order_arrival(new: New) -> None:
    m = new()
    first, second, third = (m.trade(f"03-01 00:0{n}:30", str(100 + n)) for n in (1, 2, 3))
    m.insert(third, first, second)
    m.check()
    m.seal("03-01 00:03")
    m.check()


@pytest.mark.parametrize(
    "sealed", ["01-01 00:00", "03-01 07:02", "03-01 07:05", "03-01 07:15", "03-01 08:00", "03-02 00:00"]
)
def test_the_open_bucket_of_every_level(new: New, sealed: str) -> None:
    m = new()
    m.insert(*(m.trade(f"0{d}-0{d} 0{h}:{n}:07", str(100 + n)) for d in (2, 3) for h in (6, 7) for n in (10, 16, 59)))
    m.insert(*(m.trade(f"03-01 07:0{n}:30", str(90 + n)) for n in range(8)))
    m.seal(sealed)
    m.check()
    m.insert(m.trade("03-02 00:00:00", "95"), m.trade("03-02 00:01:00", "94"))
    m.check()


def test_a_late_tick_below_the_watermark_of_every_level(new: New) -> None:
    m = new()
    m.insert(m.trade("03-01 00:00:01", "100"), m.trade("03-01 00:07:00", "101"), m.trade("03-05 00:00:00", "102"))
    m.seal("03-06 00:00")
    assert all(level.watermark == m.at("03-06 00:00") for level in levels(m.connection))
    before = {i: m.bars(i) for i in INTERVALS}
    m.insert(m.trade("03-01 00:00:30", "999"))
    # A closed bar does not change until the repair: no level shows what another does not.
    assert {i: m.bars(i) for i in INTERVALS} == before
    assert m.repair() == 1
    m.check()
    assert m.repair() == 0


@pytest.mark.parametrize("passed", range(8))
def test_a_late_tick_where_only_some_levels_have_passed(new: New, passed: int) -> None:
    m = new()
    m.insert(m.trade("03-01 00:00:01", "100"), m.trade("03-01 23:59:59", "101"))
    m.connection.execute("select move_seal(%s)", (m.at("03-02 00:00"),))
    m.advance(*[level.name for level in levels(m.connection)][:passed])
    m.insert(m.trade("03-01 00:00:30", "999"))
    m.repair()
    m.check()
    m.advance()
    m.check()


def test_a_late_tick_in_the_bucket_that_closed_last(new: New) -> None:
    m = new()
    m.insert(m.trade("03-01 23:59:01", "100"), m.trade("03-02 00:00:01", "101"))
    m.seal("03-02 00:00")
    m.insert(m.trade("03-01 23:59:30", "999"))
    m.repair()
    m.check()


def test_a_repair_moves_the_counter_that_caches_follow(new: New) -> None:
    m = new()
    m.insert(m.trade("03-01 00:00:01", "100"))
    m.seal("03-02 00:00")
    counter = "select rev, (select max(rev) from revision where symbol = %s) from meta"
    ((before, _),) = m.connection.execute(counter, (m.symbol,)).fetchall()
    m.insert(m.trade("03-01 00:00:30", "999"))
    m.repair()
    assert m.connection.execute(counter, (m.symbol,)).fetchall() == [(before + 1, before + 1)]


def test_a_repair_after_a_quiet_market_reaches_past_the_last_data(new: New) -> None:
    m = new()
    m.insert(m.trade("03-01 00:00:30", "1"))
    m.seal("03-01 06:00")
    m.insert(*(m.trade(f"03-01 0{h}:{n:02}:00", str(n)) for h in (2, 5) for n in range(1, 60, 7)))
    m.repair()
    m.check()


def test_many_late_ticks_far_apart(new: New) -> None:
    m = new()
    m.insert(*(m.trade(f"{month:02}-03 12:00:00", str(month)) for month in range(1, 10)))
    m.seal("10-01 00:00")
    m.insert(*(m.trade(f"{month:02}-03 12:00:{month:02}", str(50 + month)) for month in range(1, 10)))
    m.insert(m.trade("05-05 05:05:05", "5", symbol="OTHER"))
    assert m.repair() == 10
    m.check()
    revised = m.connection.execute("select symbol, span from revision where upper(span) > %s", (m.start,)).fetchall()
    assert len([r for r in revised if r[0] == m.symbol]) == 9


def test_an_imported_bar_stands_in_for_its_trades(new: New) -> None:
    m = new()
    m.insert(m.trade("03-01 00:00:30", "500"), m.trade("03-01 00:01:30", "101"))
    m.insert(m.bar("03-01 00:00", "10 20 5 15", "7.5", "99.25", 12))
    m.check()
    assert m.bars("5m")[0]["open"] == 10
    assert m.bars("5m")[0]["imported"] is True
    m.insert(m.trade("03-01 00:00:59", "777"))  # a trade under an imported bar stays uncounted
    m.seal("03-02 00:00")
    m.check()
    m.insert(m.bar("03-01 00:00", "11 21 6 16", "8", None, None))  # the vendor corrects it
    m.repair()
    m.check()
    assert m.bars("1d")[0]["trades"] is None


def test_nulls_spread(new: New) -> None:
    m = new()
    m.insert(m.trade("03-01 00:00:30", "10", side=None), m.trade("03-01 00:01:30", "10"))
    m.insert(m.bar("03-01 00:05", "1 1 1 1", "2", quote="2", trades=None), m.trade("03-01 00:06:30", "10"))
    m.insert(m.bar("03-01 00:10", "1 1 1 1", "2", quote=None, trades=3), m.trade("03-01 00:11:30", "10"))
    for sealed in ("03-01 00:00", "03-01 00:06", "03-02 00:00"):
        m.seal(sealed)
        m.check()
    tells = [(b["trades"], b["quote_volume"], b["buy_volume"]) for b in m.bars("5m")]
    assert tells == [(2, 20, None), (None, 12, None), (4, None, None)]
    assert m.bars("15m")[0]["vwap"] is None


def test_a_bar_without_volume_has_no_vwap(new: New) -> None:
    m = new()
    m.insert(m.trade("03-01 00:00:30", "10", size="0"))
    assert m.bars("1m")[0]["vwap"] is None
    m.check()


def test_weeks_months_leap_day_and_year_end(new: New) -> None:
    m = new(leap=True)
    days = ["01-01", "01-31", "02-28", "02-29", "03-01", "12-28", "12-31", "+1-01-01", "+1-01-02"]
    m.insert(*(m.trade(f"{d} 23:59:59.999999", str(i + 1)) for i, d in enumerate(days)))
    m.insert(*(m.trade(f"{d} 00:00:00", str(i + 50)) for i, d in enumerate(days)))
    m.check()
    m.seal("12-31 12:00")
    m.check()
    m.seal("+1-01-03 00:00")
    m.check()


def test_eighteen_digits(new: New) -> None:
    m = new()
    huge, tiny = "999999999999999999.999999999999999999", "0.000000000000000001"
    m.insert(m.trade("03-01 00:00:01", huge, huge), m.trade("03-01 00:00:02", tiny, tiny),
             m.trade("03-01 00:00:03", "0.1", "0.2"), m.trade("03-01 00:01:03", "3", tiny))  # fmt: skip
    m.check()
    m.seal("03-02 00:00")
    m.check()


@pytest.mark.parametrize(
    ("quote", "volume", "vwap"),
    [("1", "3", "0.333333333333"), ("2", "3", "0.666666666667"), ("1", "2000000000000", "0.000000000001"),
     ("1", "2000000000001", "0.000000000000"), (None, "1", None), ("1", "0", None)],
)  # fmt: skip
def test_vwap_is_rounded_half_up_to_12_places(new: New, quote: str, volume: str, vwap: str) -> None:
    got = new().connection.execute("select vwap(%s::numeric, %s::numeric)::text", (quote, volume)).fetchone()[0]
    assert got == vwap


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "-Infinity", "0", "-1", "1e18", "0.0000000000000000001"])
def test_the_table_itself_refuses_bad_prices(new: New, bad: str) -> None:
    m = new()
    with pytest.raises(Exception, match="violates check constraint"):
        m.insert(m.trade("03-01 00:00:01", bad))
    m.ticks.clear()
    m.check()


def test_an_empty_symbol(new: New) -> None:
    m = new()
    m.seal("03-01 00:00")
    assert [m.bars(i) for i in INTERVALS] == [[]] * len(INTERVALS)


def test_symbols_with_separators(new: New) -> None:
    m = new()
    names = ["BTC/USD", "binance:BTC-USDT", "A.B_C@D+E=F", "btc/usd"]
    m.insert(*(m.trade("03-01 00:00:01", str(n + 1), symbol=f"{name}{m.year}") for n, name in enumerate(names)))
    m.seal("03-01 00:01")
    m.insert(*(m.trade("03-01 00:00:02", str(n + 9), symbol=f"{name}{m.year}") for n, name in enumerate(names)))
    m.repair()
    m.check()


def test_a_refresh_that_runs_twice(new: New) -> None:
    m = new()
    m.insert(*(m.trade(f"03-01 0{h}:00:01", str(h)) for h in range(1, 9)))
    m.seal("03-01 05:00")
    m.seal("03-01 05:00")
    m.check()
    m.seal("03-01 04:00")  # backwards: nothing moves
    assert levels(m.connection)[0].sealed == m.at("03-01 05:00")
    m.check()


@pytest.mark.parametrize("level", LEVELS)
def test_a_roll_up_killed_before_its_watermark_moved_is_done_again(new: New, level: str) -> None:
    m = new()
    m.insert(*(m.trade(f"03-0{d} 0{h}:00:01", str(d * h)) for d in (1, 2) for h in range(1, 9)))
    m.connection.execute("select move_seal(%s)", (m.at("03-03 00:00"),))
    if m.engine.name == "postgres":
        m.advance(*LEVELS[: LEVELS.index(level)])
        with m.connection.transaction(force_rollback=True):
            m.engine.advance(level)
    else:
        # A TimescaleDB refresh commits by itself: the kill leaves bars without our watermark.
        before = {lv.name: lv.watermark for lv in levels(m.connection)}
        m.advance(*LEVELS[: LEVELS.index(level) + 1])
        m.connection.execute("update level set watermark = %s where name = %s", (before[level], level))
    m.check()
    m.insert(m.trade("03-01 01:30:00", "999"))
    m.advance()
    m.repair()
    m.check()


def test_a_roll_up_that_is_refused_moves_no_watermark(new: New) -> None:
    m = new()
    if m.engine.name == "postgres":
        pytest.skip("rows and watermark are one statement there, which any role may call")
    m.insert(m.trade("03-01 00:00:01", "1"))
    m.connection.execute("select move_seal(%s)", (m.at("03-02 00:00"),))
    role = f"nobody_{uuid4().hex[:8]}"
    m.connection.execute(f"create role {role}")
    m.connection.execute(f"grant usage on schema barwright to {role}")
    m.connection.execute(f"grant select, update on level, policy to {role}")
    m.connection.execute(f"grant execute on all functions in schema barwright to {role}")
    m.connection.execute(f"set role {role}")
    try:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            m.engine.advance("1m")
    finally:
        m.connection.execute("reset role")
        m.connection.execute(f"drop owned by {role}")
        m.connection.execute(f"drop role {role}")
    assert levels(m.connection)[0].watermark == m.start
    m.check()
    m.advance()
    m.check()


def test_a_policy_that_went_past_the_seal_hides_no_tick(new: New) -> None:
    """With maintain dead a policy refreshes beyond our seal: later ticks there are late, what it did is revised."""
    m = new()
    if m.engine.name != "timescaledb":
        pytest.skip("the postgres engine has no policies")
    m.connection.execute("insert into symbols (symbol) values (%s)", (m.symbol,))
    m.insert(m.trade("03-01 00:00:30", "100"), m.trade("03-01 00:09:30", "100"))
    m.connection.execute("call refresh_continuous_aggregate('ohlcv_1m', %s::timestamptz, %s::timestamptz)",
                         (m.at("03-01 00:00"), m.at("03-01 00:10")))  # fmt: skip
    m.insert(m.trade("03-01 00:00:40", "999"))
    assert m.connection.execute("select count(*) from late_range").fetchone() == (1,)
    m.engine.seal(datetime.now(UTC) - m.at("03-02 00:00"))
    m.advance()
    assert m.repair() == 2
    m.check()
    row = m.connection.execute("select max(upper(span)) from revision where symbol = %s", (m.symbol,)).fetchone()
    assert row == (m.at("03-01 00:10"),)


def test_a_roll_up_after_an_hour_without_data(new: New) -> None:
    m = new()
    m.insert(m.trade("03-01 00:00:01", "1"))
    m.seal("03-01 00:05")
    m.seal("03-01 01:30")
    m.insert(m.trade("03-01 01:30:01", "2"))
    m.check()
    m.seal("03-01 03:00")
    m.check()


def test_a_catch_up_of_many_days(new: New) -> None:
    m = new()
    m.insert(*(m.trade(f"{month:02}-{day:02} 12:00:00", str(day)) for month in (1, 2, 3) for day in range(1, 28, 3)))
    m.seal("04-01 00:00")
    m.check()


# Times that crowd around the edges of every level's buckets, a few days in all, several in one minute.
edges = st.sampled_from([0, 0, 0, 60, 300, 900, 3600, 14400, 86400, 31 * 86400])
instants = st.sampled_from([-1, 0, 1, 500_000, 30_000_000, 59_999_999]) | st.integers(0, 120_000_000)
offsets = st.builds(lambda seconds, us: timedelta(seconds=seconds, microseconds=us), edges, instants)
wide = st.decimals("0.000000000000000001", "999999999999999999", allow_nan=False, places=18).map(str)
numbers = st.sampled_from(["1", "0.1", "0.2", "100.05", "7", "8", "9"]) | wide
trades = st.tuples(instants, numbers, st.just("0") | numbers, st.sampled_from(["b", "s", None]))
steps = st.lists(
    st.tuples(st.just("trades"), edges, st.lists(trades, min_size=1, max_size=6))
    | st.tuples(st.just("bar"), offsets, st.lists(numbers, min_size=4, max_size=4), st.none() | st.integers(0, 9))
    | st.tuples(st.just("seal"), offsets)
    | st.tuples(st.just("repair")),
    min_size=4, max_size=20,
)  # fmt: skip


def test_random_ticks_orders_and_roll_ups(new: New) -> None:
    """Whatever came in whichever order, after a repair every level equals the oracle."""
    in_wasm = getattr(new().engine, "takes_options", True) is False

    @settings(max_examples=8 if in_wasm else 24, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(steps=steps)
    def equal(steps: list[tuple[Any, ...]]) -> None:
        m = new()
        base = m.at("01-31 00:00")  # the days below reach over a month's end
        for step in steps:
            play(m, base, *step)
        m.repair()
        m.check()
        m.seal(base + timedelta(days=40))
        m.check()

    equal()


def play(m: Market, base: datetime, kind: str, *args: Any) -> None:
    """One step of a random story."""
    match kind, args:
        case "trades", [edge, burst]:
            at = base + timedelta(seconds=edge)
            m.insert(*(m.trade(at + timedelta(microseconds=us), *rest) for us, *rest in burst))
        case "bar", [offset, prices, trades]:
            low, *between, high = sorted(prices, key=Decimal)
            minute = (base + offset).replace(second=0, microsecond=0)
            m.insert(m.bar(minute, f"{between[0]} {high} {low} {between[1]}", "2", None, trades))
        case "seal", [offset]:
            m.seal(base + offset)
        case "repair", []:
            m.repair()
        case _:
            raise AssertionError(f"no such step: {kind}")
