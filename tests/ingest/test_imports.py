"""Imports: bars and what they prove land together, by the rules of their task, or not at all."""

from __future__ import annotations

import threading
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barwright import sql
from barwright.ingest.claims import Chunk, Claim
from barwright.ingest.decode import native
from barwright.ingest.marks import Mark
from barwright.ingest.policies import apply
from barwright.ingest.records import PLAIN_BAR, read_import
from barwright.ingest.store import Store
from barwright.ingest.ticks import Bar, RefusedError, Window, bar_row
from barwright.settings import Settings
from barwright.sql.engine import engine_of
from tests.ingest.history import Desk, covered_mark, live, minute, record, tick
from tests.ingest.messages import START, TOPIC_ID, bar, encode

DAY = 1440
SPAN = [(0, 3600)]


@pytest.fixture
def desk(stores: list[Store]) -> Desk:
    """A writer and a symbol."""
    return Desk(stores[0])


def test_bars_land_with_what_they_prove_and_the_last_record_ends_the_task(desk: Desk) -> None:
    task = desk.task(0, 60)
    desk.land(record(range(30, 60), 30, 60, task, final=False))
    assert desk.status(task) == ("publishing", 1, 30)
    assert desk.covered() == [(1800, 3600)]
    desk.land(record([0, 2], 0, 30, task))
    assert desk.status(task) == ("repairing", 1, 32)
    assert desk.covered() == SPAN
    assert [m for m, _ in desk.bars()] == [0, 2, *range(30, 60)]
    assert desk.late() == [(0, 3), (30, 60)]
    assert desk.run("select source, kind from coverage") == [("simulator", "import")]


def test_an_empty_day_is_covered_without_bars(desk: Desk) -> None:
    task = desk.task(0, DAY)
    desk.land(record([], 0, DAY, task))
    assert desk.covered() == [(0, DAY * 60)]
    assert desk.status(task) == ("repairing", 1, 0)
    assert desk.late() == []


@pytest.mark.parametrize("case", ["older attempt", "landed", "cancelled", "gone", "another symbol", "interval", "span"])
def test_what_fits_no_task_is_dropped_whole_and_no_dead_letter(desk: Desk, case: str) -> None:
    status = case if case in ("landed", "cancelled") else "publishing"
    task = desk.task(0, 60, status=status, attempt=2 if case == "older attempt" else 1,
                     interval="1h" if case == "interval" else "1m")  # fmt: skip
    fields = {"symbol": "ETHUSD"} if case == "another symbol" else {}
    hi = 61 if case == "span" else 60
    desk.land(record([0, 1], 0, hi, task + (case == "gone"), **fields))
    assert desk.covered() == []
    assert desk.one("select count(*) from ticks") == 0
    assert desk.run("select symbol from symbols") == [("BTCUSD",)]
    assert desk.status(task)[0] == status
    assert desk.one("select count(*) from dead_letter") == 0
    assert desk.one("select next_offset from ingest_offset") == 1


def test_of_two_attempts_the_older_is_dropped_and_a_database_gone_back_takes_the_newer(desk: Desk) -> None:
    task = desk.task(0, 60, attempt=2)
    desk.land(record([0], 0, 60, task, 1, close="11"))
    assert desk.bars() == []
    desk.land(record([1], 0, 60, task, 2, close="12"))
    assert desk.bars() == [(1, 12)]
    ahead = desk.task(60, 120, attempt=1)
    desk.land(record([60], 60, 120, ahead, 3))
    assert desk.status(ahead) == ("repairing", 3, 1)


@pytest.mark.parametrize("slow", [False, True], ids=["fast", "slow"])
def test_an_import_again_replaces_and_removes_exactly_what_changed(desk: Desk, slow: bool) -> None:
    desk.claim.slow_until = 1e18 if slow else 0.0
    desk.land(record(range(50), 0, 60, desk.task(0, 60)))
    desk.late()
    same = desk.task(0, 60, reason="correction")
    desk.land(record(range(50), 0, 60, same))
    assert desk.late() == []
    again = desk.task(0, 60, reason="request")
    bars = record([*range(20), *range(40, 50)], 0, 60, again)
    bars[3] |= {"close": "16"}
    desk.land(bars)
    assert desk.late() == [(3, 4), (20, 40)]
    assert desk.bars() == [(m, 16 if m == 3 else 15) for m in (*range(20), *range(40, 50))]
    assert desk.covered() == SPAN


def test_a_gap_that_holds_old_bars_is_merged_and_keeps_its_partition_fast(desk: Desk) -> None:
    desk.land(bar(0), bar(1, close="11"))
    desk.late()
    desk.land(record([0, 1, 2], 0, 60, desk.task(0, 60)))
    assert desk.claim.slow_until == 0
    assert desk.bars() == [(0, 15), (1, 15), (2, 15)]
    assert desk.late() == [(1, 3)]


def test_revisions_and_bars_are_exact_after_a_correction(desk: Desk) -> None:
    if desk.store.engine != "postgres":
        pytest.skip("there maintain repairs by refreshing")
    desk.land(record([0, 1, 2], 0, 60, desk.task(0, 60)))
    desk.run("select repair_history()")
    before = desk.one("select rev from meta")
    desk.land(record([0, 1], 0, 60, desk.task(0, 60, reason="correction"), close="16"))
    desk.run("select repair_history()")
    assert desk.run("select lower(span), upper(span) from revision where rev > %s", before) == [(minute(0), minute(3))]
    assert desk.run("select bucket, close, imported from ohlcv_1m order by 1") == [
        (minute(0), 16, True), (minute(1), 16, True)
    ]  # fmt: skip


def test_live_minutes_are_left_alone_partial_and_imported_ones_replaced(desk: Desk) -> None:
    desk.land(*(tick(60 * m + 10) for m in range(5)), live(1, 30, 270, 5))
    first = desk.task(0, 3)
    # Minute 2 is live and imported, as after a correction of a minute that was once not covered.
    desk.run("insert into uncovered values ('BTCUSD', %s) returning 1", minute(2))
    desk.land(record(range(3), 0, 3, first))
    desk.run("delete from uncovered returning 1")
    desk.late()
    task = desk.task(0, 5)
    desk.land(record(range(5), 0, 5, task, close="16"))
    assert desk.bars() == [(0, 16), (2, 16), (4, 16)]
    assert desk.status(task) == ("repairing", 1, 3)
    assert desk.late() == [(0, 5)]
    assert desk.covered() == [(0, 300)]
    assert desk.run("select lower(span), upper(span) from imported_span order by 1") == [
        (minute(0), minute(1)), (minute(2), minute(3)), (minute(4), minute(5))
    ]  # fmt: skip


WRONG: list[tuple[dict[str, dict[str, Any]], str]] = [
    ({"mark": {"count": 3}}, "count: says 3 bars, and 2 are"),
    ({"mark": {"from": "2023-03-01T00:00:30Z"}}, "whole minutes"),
    ({"mark": {"to": "2023-03-01T00:00:00Z"}}, "whole minutes"),
    ({"mark": {"to": "2022-03-01T00:00:00Z"}}, "before from"),
    ({"mark": {"to": "2023-03-01T00:01:00Z"}}, "outside"),
    ({"mark": {"interval": "5m"}}, "interval"),
    ({"mark": {"interval": "1h"}}, "whole UTC days"),
    ({"mark": {"symbol": "ETHUSD"}}, "differ"),
    ({"mark": {"symbol": "A B"}}, "symbol"),
    ({"mark": {"attempt": 2}}, "differ"),
    ({"mark": {"attempt": None}}, "attempt"),
    ({"mark": {"task": None}}, "differ"),
    ({"mark": {"task": 2**70}}, "task|Expected"),
    ({"mark": {"source": "\0"}}, "source"),
    ({"bar": {"symbol": "ETHUSD"}}, "differ"),
    ({"bar": {"interval": "1h"}}, "differ"),
    ({"bar": {"task": 99}}, "differ"),
    ({"bar": {"ts": "2023-03-01T00:00:00Z"}}, "two bars"),
    ({"bar": {"ts": "2023-03-02T00:00:00Z"}}, "outside"),
    ({"bar": {"ts": "whenever"}}, "ts:"),
    ({"bar": {"open": None, "ts": 0.5}}, "open|Expected"),
    ({"bar": {"type": "trade", "price": "1", "size": "1"}}, "nothing but bars"),
]


def test_a_record_whose_mark_does_not_fit_its_bars_lands_nothing(desk: Desk) -> None:
    for change, reason in WRONG:
        items = record([0, 1], 0, 60, desk.task(0, 60))
        items[1] |= change.get("bar", {})
        items[2] |= change.get("mark", {})
        is_trade = change.get("bar", {}).get("type") == "trade"
        desk.land(items, letters=2 if is_trade else 3)
        letters = desk.run("delete from dead_letter returning item, reason")
        assert sorted(item for item, _ in letters) == ([0, 2] if is_trade else [0, 1, 2])
        assert any(part in dict(letters)[2] for part in reason.split("|")), (change, letters)
    assert desk.covered() == []
    assert desk.one("select count(*) from ticks where seq = -1") == 0


def test_bars_of_a_task_without_their_mark_and_a_mark_without_its_place_are_refused(desk: Desk) -> None:
    task = desk.task(0, 60)
    bars = record([0, 1], 0, 60, task)
    desk.land(bars[:2], letters=2)
    desk.land(bars[2], letters=1)  # it says two bars
    desk.land([bars[2], *bars[:2]], letters=3)
    desk.land(covered_mark(0, 60, 0, task=task, attempt=1) | {"event": "discovered"}, letters=1)
    assert desk.covered() == []
    assert desk.bars() == []


def test_a_refused_bar_is_a_dead_letter_and_its_minute_is_not_proved(desk: Desk) -> None:
    desk.land(record(range(5), 0, 60, desk.task(0, 60)))
    again = record(range(5), 0, 60, task := desk.task(0, 60, reason="request"), close="16")
    again[2] |= {"high": "1"}
    desk.run("delete from imported_span returning 1")
    desk.land(again, letters=1)
    # What was there of that minute stays.
    assert desk.bars() == [(0, 16), (1, 16), (2, 15), (3, 16), (4, 16)]
    assert desk.covered() == [(0, 120), (180, 3600)]
    assert desk.status(task) == ("repairing", 1, 4)
    assert desk.run("select item, raw from dead_letter") == [(2, encode(again[2]))]


def test_a_bar_that_only_the_database_refuses_proves_nothing_either(desk: Desk) -> None:
    task = desk.task(0, 60)
    desk.store.connection.execute("alter table ticks add constraint no_sevens check (price <> 7)")
    bars = record(range(5), 0, 60, task)
    bars[3] |= {"close": "7"}
    desk.land(tick(1), bars, tick(2))
    assert [m for m, _ in desk.bars()] == [0, 1, 2, 4]
    assert desk.covered() == [(0, 180), (240, 3600)]
    assert desk.one("select count(*) from ticks where seq >= 0") == 2
    ((offset, item, raw),) = desk.run('select "offset", item, raw from dead_letter')
    assert (offset, item, raw) == (1, 3, encode(bars[3]))
    assert desk.status(task) == ("repairing", 1, 4)


def test_imports_without_a_task_prove_their_span_and_register_their_symbol(desk: Desk) -> None:
    desk.land(*(tick(60 * m + 10) for m in range(3)), live(1, 0, 180, 3))
    desk.land(record(range(5), 0, 5), record([0], 0, 10, symbol="NEW"), bar(7, symbol="PLAIN"))
    assert [m for m, _ in desk.bars()] == [3, 4]
    assert desk.covered() == [(0, 300)]
    assert desk.covered(symbol="NEW") == [(0, 600)]
    assert desk.run("select symbol from symbols order by 1") == [("BTCUSD",), ("NEW",), ("PLAIN",)]
    # With a mark that does not fit they are bars of nobody's asking, as without one.
    desk.land([*record([20], 20, 30)[:1], covered_mark(20, 30, 5)], letters=1)
    assert [m for m, _ in desk.bars()] == [3, 4, 20]
    assert desk.covered() == [(0, 300)]


def test_a_batch_ends_before_bars_it_already_holds(desk: Desk) -> None:
    """In one statement the order of arrival would be lost: the first import would take away what the second brings."""
    first, second = record([0, 1], 0, 60, desk.task(0, 60)), record([1, 2], 0, 60, desk.task(0, 60), close="16")
    for messages, fit in (((first, second), 1), ((bar(0), first), 1), ((first, bar(0)), 1), ((first, tick(1)), 2)):
        batch = desk.batch(messages[0])
        rest = batch.add(_chunk(desk, 1, messages[1]), 10**9)
        assert (rest is None) == (fit == 2)
    other = record([0], 0, 60, desk.task(0, 60), symbol="ETHUSD")
    assert desk.batch(first, other, record([60], 60, 61)).rows == 4


def test_hours_and_days_stand_in_whole_days(desk: Desk) -> None:
    days, hours = desk.task(0, 10 * DAY, "1d"), desk.task(10 * DAY, 12 * DAY, "1h")
    desk.land(_coarse("1d", range(0, 10 * DAY, DAY), 0, 10 * DAY, days, trades=2**40))
    desk.land(_coarse("1h", range(10 * DAY, 12 * DAY, 60), 10 * DAY, 12 * DAY, hours, quote_volume=None))
    assert desk.run('select "interval", count(*), min(close), max(trades) from coarse_bars group by 1 order by 1') == [
        ("1d", 10, Decimal(15), 2**40), ("1h", 48, Decimal(15), 12)
    ]  # fmt: skip
    assert desk.covered("1d") == [(0, 12 * DAY * 60)]
    assert desk.covered("1h") == [(10 * DAY * 60, 12 * DAY * 60)]
    assert desk.covered() == []
    assert [desk.status(task) for task in (days, hours)] == [("repairing", 1, 10), ("repairing", 1, 48)]


def test_a_refused_day_is_not_proved_and_the_others_are(desk: Desk) -> None:
    task = desk.task(0, 4 * DAY, "1d")
    bars = _coarse("1d", range(0, 4 * DAY, DAY), 0, 4 * DAY, task)
    bars[1] |= {"open": "0"}
    desk.land(bars, letters=1)
    assert desk.covered("1d") == [(0, DAY * 60), (2 * DAY * 60, 4 * DAY * 60)]
    assert desk.status(task) == ("repairing", 1, 3)
    worst = desk.task(4 * DAY, 5 * DAY, "1d")
    desk.land([bar(0, interval="1d", ts="2023-03-05T00:00:00Z", low="99", task=worst, attempt=1),
               covered_mark(4 * DAY, 5 * DAY, 1, interval="1d", task=worst, attempt=1)], letters=1)  # fmt: skip
    assert desk.status(worst) == ("repairing", 1, 0)
    assert desk.covered("1d") == [(0, DAY * 60), (2 * DAY * 60, 4 * DAY * 60)]


def test_a_huge_record_lands_and_one_beyond_all_bounds_is_refused() -> None:
    claim = Claim("t", 0, TOPIC_ID, 1, 0)
    bars = [Bar("A", START_MS + 60_000 * n, "1m", "1", "1", "1", "1", "1") for n in range(30_000)]
    mark = Mark("covered", START_MS, START_MS + 60_000 * 30_000, count=30_000, symbol="A", interval="1m")
    found, letters = read_import(claim, 0, [*bars, mark], b"", Window(0, 2**60))
    assert (len(found.rows), letters) == (30_000, [])
    mark.count = 120_000
    with pytest.raises(RefusedError, match="more than"):
        read_import(claim, 0, [*bars * 4, mark], b"", Window(0, 2**60))


def test_bars_of_years_in_one_record_have_their_partitions(desk: Desk) -> None:
    task = desk.task(0, 800 * DAY)
    bars = [
        bar(0, ts=f"{START + timedelta(days=n):%Y-%m-%dT%H:%M:%SZ}", task=task, attempt=1) for n in range(0, 800, 40)
    ]
    desk.land([*bars, covered_mark(0, 800 * DAY, 20, task=task, attempt=1)])
    assert len(desk.bars()) == 20


def test_a_purge_and_an_import_wait_for_each_other(desk: Desk, stores: list[Store]) -> None:
    task = desk.task(0, 60)
    landing = threading.Thread(target=lambda: desk.land(record(range(60), 0, 60, task)))
    with sql.connect(stores[1].connection.info.dsn, password=stores[1].connection.info.password) as other:
        other.execute("select purge_symbol('BTCUSD')")
        landing.start()
        landing.join(0.3)
        assert landing.is_alive()
    landing.join(10)
    assert desk.bars() == []
    assert desk.run("select symbol from symbols") == []
    assert desk.covered() == []


PRICES = st.sampled_from(
    ["1", "1.0", "1.00", "2", "1.000000000000000001", "0.999999999999999999", "1e0", "0", "-1", "x"]
)


@given(PRICES, PRICES, PRICES, PRICES, st.sampled_from(["3", "0", "-1", "1e19"]), st.sampled_from([None, "5", ""]))
def test_a_bar_read_quickly_is_what_a_close_look_says(
    open_: str, high: str, low: str, close: str, volume: str, quote: str | None
) -> None:
    one = Bar("A", "2023-03-01T00:00:00Z", "1m", open_, high, low, close, volume, quote, 5)
    mark = Mark("covered", "2023-03-01T00:00:00Z", "2023-03-01T01:00:00Z", count=1, symbol="A", interval="1m")
    value = encode([one, mark])
    found, letters = read_import(Claim("t", 0, TOPIC_ID, 1, 0), 0, native(value), value, Window(0, 2**60))
    rows, reasons = [], []
    try:
        rows = [bar_row(one, Window(0, 2**60))[0]]
    except RefusedError as refused:
        reasons = [refused.message]
    assert [letter.reason for letter in letters] == reasons
    assert [_values(text) for text in found.rows] == [_values(row) for row in rows]
    assert all(PLAIN_BAR(text) for text in found.rows)


def test_times_of_bars_that_are_no_times(desk: Desk) -> None:
    for ts in ("2023-02-30T00:00:00Z", "2023-03-01T24:00:00Z", "2023-03-01T00:61:00Z", "2023-03-01 00:00:00+00:00"):
        mark = covered_mark(0, 60, 1)
        batch = desk.batch([bar(0, ts=ts), mark])
        assert len(batch.imports) == (ts[10] == " ")


def _values(row: str) -> list[Any]:
    return [Decimal(part) if part.replace(".", "").isdigit() else part for part in row.split("\t")[1:]]


def _coarse(interval: str, minutes: range, lo: int, hi: int, task: int, **fields: Any) -> list[dict[str, Any]]:
    of = {"task": task, "attempt": 1}
    bars = [bar(0, interval=interval, ts=f"{minute(m):%Y-%m-%dT%H:%M:%SZ}", **of, **fields) for m in minutes]
    return [*bars, covered_mark(lo, hi, len(bars), interval=interval, **of)]


def _chunk(desk: Desk, offset: int, message: Any) -> Any:
    return Chunk(desk.claim, offset, [(offset, encode(message))])


START_MS = int(START.timestamp()) * 1000


@pytest.mark.parametrize("slow", [False, True], ids=["fast", "slow"])
def test_compressed_chunks_take_trades_and_imports_as_any(desk: Desk, slow: bool) -> None:
    if desk.store.engine != "timescaledb":
        pytest.skip("the postgres engine has no compression; name a TimescaleDB server by DATABASE_URL")
    desk.land(record(range(50), 0, 60, desk.task(0, 60)), *(tick(3600 + 10 * n) for n in range(300)))
    engine = engine_of(desk.store.connection)
    engine.repair()
    packing = Settings(compress_after_days=1)
    apply(desk.store.connection, packing)
    packed = "select count(*) filter (where is_compressed), count(*) from policy cross join lateral chunks_of(name)"
    assert desk.run(packed) == [(8, 8)]
    desk.claim.slow_until = 1e18 if slow else 0.0
    desk.land(*(tick(3605 + 10 * n) for n in range(300)), tick(3600 * 10))
    desk.land(*(tick(3600 + 10 * n) for n in range(20)))
    bars = record([*range(20), *range(40, 50)], 0, 60, desk.task(0, 60, reason="correction"))
    bars[3] |= {"close": "16"}
    desk.land(bars)
    assert desk.bars() == [(m, 16 if m == 3 else 15) for m in (*range(20), *range(40, 50))]
    assert desk.one("select count(*) from ticks where seq >= 0") == 601
    engine.repair()
    for _ in range(2):
        right = desk.run(
            "select l.name, count(*), bool_and(audit_bucket('BTCUSD', l.name, bucket)) from level as l "
            "cross join lateral generate_series(%s::timestamptz, %s, l.width) as bucket group by 1",
            minute(0),
            minute(700),
        )
        assert all(found for _, _, found in right)
        assert len(right) == 7
        # What came late is packed with the rest.
        apply(desk.store.connection, packing)
        assert desk.run(packed) == [(8, 8)]
        assert desk.one("select count(*) from compressible()") == 0
