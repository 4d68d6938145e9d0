"""Traps that an experiment met once: rows in opposite order, one bar twice, imports into compressed chunks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from barwright import sql
from barwright.ingest.store import Store
from tests.ingest.conftest import batch_of, claim_of, eventually
from tests.ingest.messages import bar, trade


def test_the_same_rows_in_opposite_order_in_two_transactions(database: str, stores: list[Store]) -> None:
    """A deadlock ends one transaction; its batch is tried again on the same connection, and lands."""
    store = stores[0]
    insert = "insert into ticks (symbol, ts, seq, price, size) values ('BTCUSD', '2023-03-01T00:00:{}0Z', {}, 1, 1)"
    batch = batch_of(store, claim_of(store), trade(1), trade(2))
    store._prepare(batch)
    backend = store.connection.info.backend_pid
    with sql.connect(database) as other, ThreadPoolExecutor(1) as thread:
        other.execute("set local deadlock_timeout = '20s'")  # it is the store that looks first, and gives way
        other.execute(insert.format(2, 2))
        landing = thread.submit(store.land, batch)
        waiting = "select wait_event_type from pg_stat_activity where pid = %s"
        eventually(lambda: stores[1].connection.execute(waiting, (backend,)).fetchone(), ("Lock",))
        other.execute(insert.format(1, 1))  # waits for the store, which waits for this
        other.rollback()
        landing.result(20)
    assert store.connection.info.backend_pid == backend
    assert store.connection.execute("select seq from ticks order by seq").fetchall() == [(1,), (2,)]


def test_one_imported_bar_twice_in_a_batch(stores: list[Store]) -> None:
    """On conflict alone this is 21000 for ever."""
    store = stores[0]
    held = claim_of(store)
    held.slow_until = 1e18
    store.land(batch_of(store, held, [bar(0), bar(0, close="16"), bar(0, close="17")]))
    assert store.connection.execute("select price from ticks").fetchall() == [(17,)]


def test_a_day_is_imported_again_into_a_compressed_chunk(database: str, stores: list[Store]) -> None:
    """With the extension's default limit this is 53400 for ever."""
    store = stores[0]
    if store.engine != "timescaledb":
        pytest.skip("the postgres engine has no columnstore; name a TimescaleDB server by DATABASE_URL")
    held = claim_of(store)
    minutes = range(1440)
    store.land(batch_of(store, held, *([bar(n) for n in minutes[k : k + 100]] for k in range(0, 1440, 100))))
    held.next = 15
    with sql.connect(database, autocommit=True) as owner:
        owner.execute("alter table ticks set (timescaledb.compress, timescaledb.compress_segmentby = 'symbol', "
                      "timescaledb.compress_orderby = 'ts, seq')")  # fmt: skip
        owner.execute("select compress_chunk(c) from show_chunks('ticks') as c")
        limit = "timescaledb.max_tuples_decompressed_per_dml_transaction = 1"
        owner.execute(f"alter database {store.connection.info.dbname} set {limit}")
    again = Store(database, store.clock, {})
    again.land(
        batch_of(again, held, *([bar(n, close="16") for n in minutes[k : k + 100]] for k in range(0, 1440, 100)))
    )
    found = again.connection.execute("select count(*), min(price), max(price) from ticks").fetchall()
    again.close()
    assert found == [(1440, 16, 16)]
