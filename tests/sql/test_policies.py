"""Compression and retention on both engines: ticks go and their bars stay, whatever is computed afterwards.

One market of the last two months serves all tests; each leaves its bars equal to what they were.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from barwright.ingest.policies import apply
from barwright.settings import Settings
from barwright.sql.engine import levels
from tests.sql.history import History
from tests.sql.market import INTERVALS, Market

KEPT = 30.0
DAYS = 45


@pytest.fixture(scope="module")
def m(connection: psycopg.Connection[Any]) -> Market:
    """Two symbols' trades of each day up to the last midnight and an imported bar, rolled up; a chunk for each week."""
    _quiet(connection)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    m = Market(connection, "KEPT", era=iter([today.year]))
    applied(m, chunk_hours=168)
    m.start = today - timedelta(days=DAYS)
    connection.execute("update level set sealed = date_bin(width, %(t)s, '2000-01-03Z'), "
                       "watermark = date_bin(width, %(t)s, '2000-01-03Z')", {"t": m.start})  # fmt: skip
    for symbol, each in (("KEPT", 3), ("GONE", 1)):
        _land(m, symbol, each)
    m.insert(m.bar(day(m, 3, 7), "1 2 0.5 1.50", "3", "4.5", 6))
    m.seal(today)
    m.check()
    return m


def _land(m: Market, symbol: str, each: int) -> None:
    """So many trades of a symbol each day, in one statement."""
    trades = [
        m.trade(day(m, d, 5.02 * n), str(100 + (3 * d + n) % 7), f"0.{n + 1}", "bs"[n % 2], symbol=symbol)
        for d in range(DAYS)
        for n in range(each)
    ]
    columns = {name: [trade[name] for trade in trades] for name in ("symbol", "ts", "seq", "price", "size", "side")}
    m.connection.execute("select prepare_ticks(%(ts)s)", columns)
    m.connection.execute(
        'insert into ticks (symbol, ts, seq, price, size, side) select symbol, ts, seq, price, size, side::"char" '
        "from unnest(%(symbol)s::text[], %(ts)s::timestamptz[], %(seq)s::bigint[], %(price)s::numeric[], "
        "%(size)s::numeric[], "
        "%(side)s::text[]) as t (symbol, ts, seq, price, size, side)",
        columns,
    )
    m.ticks |= {(symbol, trade["ts"], trade["seq"]): trade for trade in trades}
    m.connection.execute("insert into symbols (symbol) values (%s)", (symbol,))


def _quiet(connection: psycopg.Connection[Any]) -> None:
    """The extension's own refreshes, which start when they are made, would come in between on a real server."""
    row = connection.execute("select to_regclass('timescaledb_information.jobs')").fetchone()
    if row and row[0]:
        connection.execute("select alter_job(job_id, scheduled => false) from timescaledb_information.jobs "
                           "where proc_name = 'policy_refresh_continuous_aggregate'")  # fmt: skip
        running = "select from pg_stat_activity where datname = current_database() and application_name like 'Refresh%'"
        while connection.execute(running).fetchall():
            time.sleep(0.1)


def day(m: Market, n: int, hours: float = 0) -> datetime:
    """A day of the market, counted from its first."""
    return m.start + timedelta(days=n, hours=hours)


def applied(m: Market, **given: Any) -> bool:
    """Apply settings as maintain does."""
    return apply(m.connection, Settings(**{"compress_after_days": 0, **given}))


def one(m: Market, query: str, *args: Any) -> Any:
    """The one value of a query."""
    row = m.connection.execute(query, args).fetchone()  # type: ignore[arg-type]
    assert row is not None
    return row[0]


def oldest(m: Market) -> datetime:
    """The oldest tick that is left."""
    return one(m, "select min(ts) from ticks where symbol = %s", m.symbol)  # type: ignore[no-any-return]


def test_compressed_chunks_take_late_ticks_and_give_the_same_bars(m: Market) -> None:
    if m.engine.name != "timescaledb":
        pytest.skip("the postgres engine has no compression")
    before = {interval: m.bars(interval) for interval in INTERVALS}
    assert applied(m, compress_after_days=5)
    packed = (
        "select count(*) from policy cross join lateral chunks_of(policy.name) as c where c.is_compressed and name {}"
    )
    assert one(m, packed.format("= 'ticks'")) >= 5
    assert one(m, packed.format("<> 'ticks'")) > 7
    assert {interval: m.bars(interval) for interval in INTERVALS} == before
    # A late tick, an imported bar replaced, one that is sent no more, a trade that is there already.
    m.insert(m.trade(day(m, 9) + timedelta(seconds=1), "700"), m.bar(day(m, 3, 7), "2 9 1 3"))
    again = next(t for t in m.ticks.values() if t["seq"] > 0)
    m.insert(again)
    assert m.repair() > 0
    m.check()
    m.connection.execute(
        "delete from ticks where symbol = %s and seq = -1 and ts = any(%s)", (m.symbol, [day(m, 3, 7)])
    )
    m.ticks = {key: tick for key, tick in m.ticks.items() if tick["seq"] != -1}
    m.connection.execute("insert into late_range (symbol, span) values (%s, tstzrange(%s, %s))",
                         (m.symbol, m.start, day(m, 5)))  # fmt: skip
    m.repair()
    m.check()
    # What came late is packed with the rest, once.
    assert one(m, "select count(*) from compressible()") > 0
    assert applied(m, compress_after_days=5)
    assert one(m, "select count(*) from compressible()") == 0
    m.check()


def test_dropped_ticks_leave_every_bar(m: Market) -> None:
    first = oldest(m)
    assert applied(m, raw_retention_days=KEPT)
    since = one(m, "select since from policy where name = 'ticks'")
    assert first < since <= oldest(m)
    assert since <= datetime.now(UTC) - timedelta(days=KEPT)
    m.check()
    # A repair over everything, forced too: what the auditor asks for trusts nothing.
    m.connection.execute("insert into late_range (symbol, span) values (%(s)s, tstzrange(%(a)s, %(b)s))",
                         {"s": m.symbol, "a": m.start, "b": datetime.now(UTC)})  # fmt: skip
    m.connection.execute("insert into late_range (symbol, span, forced) values (%(s)s, tstzrange(%(a)s, %(b)s), true)",
                         {"s": m.symbol, "a": m.start, "b": since + timedelta(hours=5)})  # fmt: skip
    m.repair()
    assert one(m, "select count(*) from late_range") == 0
    m.check()
    if m.engine.name == "timescaledb":
        # A level whose watermark was set back is rolled up again from there on, not below.
        back = "update level set watermark = date_bin(width, %s, '2000-01-03Z') where name = '1m'"
        m.connection.execute(back, (m.start,))
        m.advance()
        m.check()


def test_late_ticks_above_the_line_are_repaired_and_below_it_change_no_bar(m: Market) -> None:
    assert applied(m, raw_retention_days=KEPT)
    since = one(m, "select since from policy where name = 'ticks'")
    m.insert(m.trade(since + timedelta(minutes=1), "500"))
    m.repair()
    m.check()
    before = {interval: m.bars(interval) for interval in INTERVALS}
    m.insert(m.trade(since - timedelta(minutes=1), "999"))
    m.repair()
    assert one(m, "select count(*) from late_range") == 0
    assert {interval: m.bars(interval) for interval in INTERVALS} == before


def test_the_auditor_does_not_judge_bars_whose_ticks_are_gone(m: Market) -> None:
    assert applied(m, raw_retention_days=KEPT)
    since = one(m, "select since from policy where name = 'ticks'")
    audit = "select audit_bucket(%s, %s, %s)"
    for level in levels(m.connection):
        assert one(m, audit, m.symbol, level.name, level.floor(since - timedelta(days=2))) is None
        assert one(m, audit, m.symbol, level.name, level.ceil(since + timedelta(days=2))) is True
    for _ in range(10):
        assert one(m, "select bucket from audit_sample(%s)", m.symbol) >= since - timedelta(days=1)


def test_nothing_is_dropped_that_is_not_rolled_up_or_awaits_repair(m: Market) -> None:
    assert applied(m, raw_retention_days=KEPT)
    line = "select droppable_until(%s)"
    assert one(m, line, "ticks") <= datetime.now(UTC) - timedelta(days=KEPT)
    assert one(m, line, "1h") is None
    with m.connection.transaction(force_rollback=True):
        m.connection.execute("update level set watermark = %s where name = '1m'", (day(m, 8),))
        assert one(m, line, "ticks") == day(m, 8)
        m.connection.execute(
            "insert into late_range (symbol, span) values ('KEPT', tstzrange(%s, %s))", (day(m, 5), day(m, 6))
        )
        assert one(m, line, "ticks") == day(m, 5)


def test_minutes_that_would_be_refused_are_asked_for_as_hours(m: Market) -> None:
    assert applied(m, raw_retention_days=KEPT)
    h = History(m)
    m.connection.execute(
        "update symbols set history_end = null, history_start = %s where symbol = %s", (m.start, m.symbol)
    )
    assert h.file() > 0
    rows = m.connection.execute('select "interval", min(lower(span)), max(upper(span)) from backfill_task '
                                "where symbol = %s group by 1", (m.symbol,)).fetchall()  # fmt: skip
    spans = {interval: (lo, hi) for interval, lo, hi in rows}
    line = one(m, "select minutes_from()")
    assert spans["1m"][0] == line == spans["1h"][1]
    assert line >= datetime.now(UTC) - timedelta(days=KEPT)
    m.connection.execute("select stop_symbol(%s)", (m.symbol,))


def test_the_width_follows_the_setting_and_no_two_partitions_overlap(m: Market) -> None:
    later = day(m, 7 * 20)
    for hours in (24, 6, 168):
        assert applied(m, chunk_hours=hours)
        for n in range(3):
            m.insert(m.trade(later + timedelta(days=2 * n, hours=hours % 5), "1"))
        later += timedelta(days=7)
    m.connection.execute("delete from ticks where symbol = %s and ts > now()", (m.symbol,))
    if m.engine.name == "postgres":
        widths = {hi - lo for _, lo, hi in m.connection.execute("select * from tick_partitions()")}
        assert widths == {timedelta(days=7), timedelta(days=1), timedelta(hours=6)}


@pytest.mark.parametrize(("rows", "hours"), [(1_000, 24), (100_000_000, 2), (10**10, 1)])
def test_the_width_fits_the_data_rate(m: Market, rows: int, hours: int) -> None:
    widths = [timedelta(hours=n) for n in (1, 2, 4, 6, 12, 24)]
    memory = one(m, "select pg_size_bytes(current_setting('effective_cache_size'))")
    wanted = max((w for w in widths if rows * 72 * w.total_seconds() / 86_400 <= memory / 4), default=widths[0])
    with m.connection.transaction(force_rollback=True):
        m.connection.execute("create or replace function ticks_per_day() returns bigint language sql "
                             f"stable set search_path = barwright, pg_temp as 'select {rows}::bigint'")  # fmt: skip
        assert one(m, "select width_by_rate(%s)", widths) == wanted
    assert memory != 4 * 2**30 or wanted == timedelta(hours=hours)


def test_levels_go_by_their_own_days_and_coarser_ones_stay(m: Market) -> None:
    before = {interval: m.bars(interval) for interval in INTERVALS}
    rev = one(m, "select rev from meta")
    assert applied(m, raw_retention_days=10, level_retention="1m=20,5m=20,15m=25")
    for name, days in (("1m", 20), ("5m", 20), ("15m", 25)):
        since = one(m, "select since from policy where name = %s", name)
        assert since <= datetime.now(UTC) - timedelta(days=days)
        assert m.bars(name) == [bar for bar in before[name] if bar["bucket"] >= since] != before[name]
    for name in ("30m", "1h", "4h", "1d", "1w", "1mo"):
        assert m.bars(name) == before[name]
    m.connection.execute("insert into late_range (symbol, span) values (%s, tstzrange(%s, %s))",
                         (m.symbol, m.start, datetime.now(UTC)))  # fmt: skip
    m.repair()
    for name in ("30m", "1h", "4h", "1d", "1w", "1mo"):
        assert m.bars(name) == before[name]
    assert one(m, "select count(*) from revision where rev > %s and symbol = %s", rev, m.symbol) >= 3


def test_a_purged_symbol_leaves_no_bar_though_its_ticks_were_dropped(m: Market) -> None:
    assert applied(m, raw_retention_days=KEPT)
    m.connection.execute("select purge_symbol('GONE')")
    m.repair()
    m.ticks = {key: tick for key, tick in m.ticks.items() if key[0] != "GONE"}
    assert one(m, "select count(*) from ohlcv_1h where symbol = 'GONE'") == 0


def test_the_engines_own_refresh_stays_above_what_is_dropped(m: Market) -> None:
    if m.engine.name != "timescaledb":
        pytest.skip("the postgres engine refreshes nothing by itself")
    floors = ("select array_agg(distinct (config ->> 'start_offset')::interval) from timescaledb_information.jobs "
              "where proc_name = 'policy_refresh_continuous_aggregate'")  # fmt: skip
    assert applied(m, raw_retention_days=10, level_retention="1m=15")
    assert one(m, floors) == [timedelta(days=9)]
    assert applied(m, refresh_floor_days=5)
    assert one(m, floors) == [timedelta(days=5)]
    assert applied(m)
    assert one(m, floors) == [timedelta(days=30)]
