"""One batch, one transaction: duplicates, corrections, late ranges, and rows the database refuses though we did not."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import errors

from barwright import sql
from barwright.ingest.announce import Announcer
from barwright.ingest.claims import Chunk
from barwright.ingest.landing import Landing
from barwright.ingest.late import GAP, late_ranges
from barwright.ingest.store import Clock, Rules, Store
from barwright.ingest.writer import Shared, Writer
from barwright.metrics.health import Health
from barwright.settings import Settings
from tests.ingest.conftest import batch_of, claim_of
from tests.ingest.messages import bar, encode, trade


def rows(store: Store, statement: str) -> list[tuple[Any, ...]]:
    """Rows of a query."""
    return store.connection.execute(statement).fetchall()  # type: ignore[call-overload,no-any-return]


def late(store: Store) -> list[tuple[str, str, str]]:
    """The late ranges noted, and forgotten with that."""
    found = rows(store, "delete from late_range returning symbol, lower(span), upper(span)")
    return sorted((symbol, f"{lo:%d %H:%M}", f"{hi:%d %H:%M}") for symbol, lo, hi in found)


@pytest.fixture
def store(stores: list[Store]) -> Store:
    """One writer's connection."""
    return stores[0]


def land(store: Store, *messages: Any, letters: int = 0) -> None:
    """Land a batch at the position."""
    claim = store.__dict__.setdefault("claim", None) or claim_of(store)
    store.__dict__["claim"] = claim
    batch = batch_of(store, claim, *messages)
    assert len(batch.letters) == letters
    store.land(batch)
    claim.next = batch.spans[claim].end


def test_a_symbol_that_a_restored_database_lacks_is_registered_again(database: str) -> None:
    # `make torture`, seed 4: restored from a copy of before its first trade, it was unknown to the API.
    rules: Rules = {}
    before = Store(database, Clock(), rules)
    land(before, trade(1))
    before.connection.execute("delete from symbols")
    before.close()
    after = Store(database, Clock(), rules)
    after.__dict__["claim"] = before.__dict__["claim"]
    land(after, trade(2))
    assert rows(after, "select symbol, seq_rule from symbols") == [("BTCUSD", "id")]
    after.close()


class Forgotten(dict[str, Any]):
    """What the writers know, from which another, that looked before, takes out at once what this one adds."""

    def update(self, *news: Any, **more: Any) -> None:
        """See dict."""


def test_a_symbol_that_another_writer_just_forgot_is_registered_all_the_same(database: str) -> None:
    store = Store(database, Clock(), Forgotten())
    land(store, trade(1))
    assert rows(store, "select symbol from symbols") == [("BTCUSD",)]
    store.close()


def test_a_trade_sent_twice_is_one_row_and_not_late_again(store: Store) -> None:
    land(store, trade(1), trade(2))
    assert late(store) == [("BTCUSD", "01 00:00", "01 00:01")]
    land(store, trade(1), trade(2), trade(1, price="9"))
    assert late(store) == []
    land(store, trade(2), trade(30), trade(30), [trade(31), trade(31)])
    assert late(store) == [("BTCUSD", "01 00:05", "01 00:06")]
    assert rows(store, "select seq, price from ticks order by seq") == [
        (n, Decimal(trade(n)["price"])) for n in (1, 2, 30, 31)
    ]
    assert rows(store, "select next_offset, rows from ingest_offset") == [(9, 10)]


def test_a_full_batch_leaves_the_rest_of_its_records(store: Store) -> None:
    claim = claim_of(store)
    whole = batch_of(store, claim, *(trade(n) for n in range(1, 6))).chunks[0]
    batch = batch_of(store, claim)
    rest = batch.add(whole, 2)
    assert rest is not None
    assert (batch.rows, batch.spans[claim].end, rest.begin, len(rest.records)) == (2, 2, 2, 3)


@pytest.mark.parametrize("table", ["ticks", "ingest_offset"])
def test_a_position_moves_with_its_rows_or_not_at_all(store: Store, table: str) -> None:
    """Whichever of the two fails, neither stays."""
    land(store, trade(1))
    store.connection.execute("create function fail() returns trigger language plpgsql as $$begin raise 'no'; end$$")
    store.connection.execute(
        f"create trigger fail before insert or update on {table} for each row execute function fail()"
    )  # type: ignore[call-overload]
    with pytest.raises(errors.RaiseException):
        land(store, trade(2))
    assert rows(store, "select next_offset, (select count(*) from ticks) from ingest_offset") == [(1, 1)]


def test_a_bar_sent_again_replaces_the_old_one_if_it_differs(store: Store) -> None:
    land(store, bar(0), bar(1), trade(1))
    late(store)
    land(store, bar(0), bar(1, close="15.000"))
    assert late(store) == []
    land(store, bar(1, close="16"), bar(1, close="17"), bar(2))
    assert late(store) == [("BTCUSD", "01 00:01", "01 00:03")]
    assert rows(store, "select extract(minute from ts)::int, price from ticks where seq = -1 order by ts") == [
        (0, Decimal(15)), (1, Decimal(17)), (2, Decimal(15))
    ]  # fmt: skip


def test_duplicates_keep_a_partition_on_the_slow_path_for_a_while(store: Store) -> None:
    land(store, trade(1))
    claim = store.__dict__["claim"]
    assert claim.slow_until == 0
    land(store, trade(1), trade(2))
    assert claim.slow_until > 0
    claim.slow_until = 1e-9
    land(store, trade(3))
    assert claim.slow_until == 1e-9


def test_only_the_late_minutes_are_noted_each_symbol_by_itself(store: Store) -> None:
    (now,) = rows(store, "select date_bin('1 minute', now(), '2000-01-03') + interval '1 second'")[0]
    land(store, trade(1), trade(7), trade(7 + 6 * (GAP + 1)), trade(8, symbol="B"), trade(9, ts=now.isoformat()))
    assert late(store) == [
        ("B", "01 00:01", "01 00:02"), ("BTCUSD", "01 00:00", "01 00:02"), ("BTCUSD", "01 00:17", "01 00:18")
    ]  # fmt: skip


@given(st.dictionaries(st.sampled_from("ab"), st.sets(st.integers(0, 200))), st.integers(0, 200))
def test_late_ranges_hold_every_late_minute_and_end_at_one(minutes: dict[str, set[int]], seal: int) -> None:
    def minute(text: str) -> int:
        return int(datetime.fromisoformat(text).timestamp()) // 60

    spans = [(symbol, minute(lo), minute(hi)) for symbol, lo, hi in late_ranges(minutes, seal)]
    for symbol, touched in minutes.items():
        wanted = {m for m in touched if m < seal}
        mine = [(lo, hi) for s, lo, hi in spans if s == symbol]
        assert all(any(lo <= m < hi for lo, hi in mine) for m in wanted)
        assert all(lo in wanted and hi - 1 in wanted for lo, hi in mine)
        assert all(after[0] - before[1] >= GAP for before, after in pairwise(mine))


def test_the_seal_waits_for_an_open_batch_and_a_batch_below_it_does_not_hold_it(store: Store) -> None:
    land(store, trade(1))
    batch = batch_of(store, store.__dict__["claim"], trade(2))
    Landing(store.connection, batch, store._seal).open()
    with sql.connect(store.connection.info.dsn, password=store.connection.info.password) as other:
        other.execute("set lock_timeout = '200ms'")
        other.execute("select move_seal(now())")
    store.connection.rollback()
    (now,) = rows(store, "select now()")[0]
    batch = batch_of(store, store.__dict__["claim"], trade(2, ts=now.isoformat()))
    store._prepare(batch)
    Landing(store.connection, batch, store._seal).open()
    moved = threading.Event()

    def seal() -> None:
        with sql.connect(store.connection.info.dsn, password=store.connection.info.password) as other:
            other.execute("select move_seal(now())")
        moved.set()

    thread = threading.Thread(target=seal)
    thread.start()
    assert not moved.wait(0.3)
    store.connection.rollback()
    thread.join(5)
    assert moved.is_set()


def test_a_row_that_only_the_database_refuses_becomes_a_dead_letter(store: Store) -> None:
    land(store, trade(1))
    rows_before = 1
    store.connection.execute("alter table ticks add constraint no_sevens check (price <> 107.5 and size <> 7)")
    messages = [trade(n, price=f"{100 + n % 50}.5") for n in range(2, 100)]
    land(store, *messages[:50], messages[50:], bar(3, volume="7"), bar(4))
    bad = [message for message in messages if message["price"] == "107.5"]
    assert rows(store, "select count(*) from ticks") == [(rows_before + len(messages) - len(bad) + 1,)]
    letters = rows(store, 'select "offset", item, reason, raw from dead_letter order by 1, 2')
    assert len(letters) == len(bad) + 1 == 3
    assert all("no_sevens" in reason for _, _, reason, _ in letters)
    assert b'"107.5"' in letters[0][3]
    assert b'"volume":"7"' in letters[-1][3]


def test_such_a_dead_letter_names_its_item_also_where_the_offset_numbers_trades(store: Store) -> None:
    store.connection.execute("alter table ticks add constraint no_sevens check (price <> 107.5)")
    land(store, [trade(n, id=None, price=f"{100 + n}.5") for n in range(10)])
    assert rows(store, 'select "offset", item from dead_letter') == [(0, 7)]
    assert rows(store, "select count(*), min(seq), max(seq) from ticks") == [(9, 0, 9)]


def test_a_missing_partition_is_made_and_no_dead_letter(store: Store) -> None:
    if store.engine != "postgres":
        pytest.skip("the hypertable makes its chunks itself")
    land(store, trade(1))
    store.connection.execute("drop table ticks_20230227")
    land(store, trade(2))
    assert rows(store, "select seq from ticks") == [(2,)]
    assert rows(store, "select count(*) from dead_letter") == [(0,)]


def test_the_database_s_clock_is_now(store: Store) -> None:
    (now,) = rows(store, "select clock_timestamp()")[0]
    assert abs(store.clock.now() - now.timestamp()) < 0.1
    store.clock.ahead += 1000
    store._clock_at -= 61
    store.set_clock()
    assert abs(store.clock.now() - datetime.now(UTC).timestamp()) < 1


def test_a_slow_answer_moves_the_clock_no_further_than_it_must() -> None:
    clock = Clock()
    clock.set(1000, 999.9, 1000)
    assert clock.ahead == pytest.approx(0.05)
    # Asked just before a freeze of 12 s: half-way between would be 6 s behind, and good trades in the future.
    clock.set(2000, 1999.9, 2012)
    assert clock.ahead == pytest.approx(0.05)
    clock.set(2060, 1999.9, 2012)
    assert clock.ahead == pytest.approx(48)
    clock.set(1940, 1999.9, 2012)
    assert clock.ahead == pytest.approx(-59.9)


def test_who_stood_still_between_two_records_finds_none_in_the_future(database: str, store: Store) -> None:
    class Frozen(Writer):
        """One that stands still for a minute with each chunk that it takes."""

        def _take(self) -> Chunk | None:
            self.shared.clock.ahead += 60
            return super()._take()

    settings = Settings(database_url=database)
    writer = Frozen(Shared(settings, Announcer(settings), Health(settings, "ingest")), 0)
    now, held = time.time(), claim_of(store)
    for n in range(3):
        value = encode(trade(n, ts=int((now + 60 * n) * 1000)))
        writer.put(Chunk(held, n, [(n, value)]))
    batch = writer._next()
    assert batch is not None
    assert (len(batch.trades), batch.letters) == (3, [])
    assert writer._store is not None
    writer._store.close()
