"""The traps of the seal and the roll-up, each of which an experiment showed, on a server with several connections.

On TimescaleDB these run where DATABASE_URL names such a server; the WASM build has one connection only.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from barwright import sql
from barwright.ingest.maintain import round_of
from barwright.sql.engine import engine_of, levels
from tests.sql.market import Market

New = Callable[..., Market]
Connect = Callable[..., psycopg.Connection[Any]]


@pytest.fixture
def connect(engine_dsn: str) -> Iterator[Connect]:
    """More connections to the market's database."""
    if "sslmode=disable" in engine_dsn:
        pytest.skip("the WASM build of TimescaleDB takes one connection; name a server by DATABASE_URL")
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(sql.connect(engine_dsn, "test", **options))


def in_thread(work: Callable[[], Any]) -> threading.Thread:
    """Start `work` beside the test."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def wait_for_lock(connection: psycopg.Connection[Any], pid: int) -> None:
    """Until the backend waits for a lock."""
    for _ in range(200):
        row = connection.execute("select wait_event_type from pg_stat_activity where pid = %s", (pid,)).fetchone()
        if row and row[0] == "Lock":
            return
        time.sleep(0.02)
    raise AssertionError("it never waited for a lock")


def test_a_tick_that_waited_for_the_seal_sees_the_new_seal(new: New, connect: Connect) -> None:
    """Lock and seal in a statement each: the seal read after the wait is the one that was waited for."""
    m, sealer, ingest = new(), connect(), connect()
    sealer.execute("select move_seal(%s)", (m.at("03-01 00:05"),))
    seen: list[Any] = []

    def land() -> None:
        ingest.execute("select hold_seal()")
        seen.append(ingest.execute("select late_below()").fetchone())

    thread = in_thread(land)
    wait_for_lock(m.connection, ingest.info.backend_pid)
    sealer.commit()
    thread.join(10)
    assert seen == [(m.at("03-01 00:05"),)]


def test_the_seal_waits_for_an_open_ingest_transaction(new: New, connect: Connect) -> None:
    """What an open transaction inserted above the old seal is in the roll-up that follows the new one."""
    m, ingest, watch = new(), connect(), connect(autocommit=True)
    ingest.execute("select hold_seal()")
    m.connection.execute("select prepare_ticks(%s)", ([m.at("03-01 00:00")],))
    tick = m.trade("03-01 00:00:30", "7")
    ingest.execute("insert into ticks (symbol, ts, seq, price, size, side) "
                   "values (%(symbol)s, %(ts)s, %(seq)s, %(price)s, %(size)s, %(side)s)", tick)  # fmt: skip
    m.ticks[tick["symbol"], tick["ts"], tick["seq"]] = tick
    sealed = in_thread(lambda: m.seal("03-02 00:00"))
    wait_for_lock(watch, m.connection.info.backend_pid)
    ingest.commit()
    sealed.join(10)
    m.check()


def test_a_seal_that_cannot_be_had_lets_ingest_pass(new: New, connect: Connect) -> None:
    """A seal in the lock's queue would stop all ingest behind it; it gives up, the round goes on and repairs."""
    m, slow, quick = new(), connect(), connect()
    m.insert(m.trade("03-01 00:00:30", "7"))
    m.seal("03-02 00:00")
    m.insert(m.trade("03-01 00:00:40", "8"))
    slow.execute("select hold_seal()")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        m.engine.seal(timedelta(0))
    quick.execute("set statement_timeout = '2s'")
    quick.execute("select hold_seal()")
    assert round_of(m.engine, m.connection, timedelta(0)) == 1
    m.check()


def test_visible_bars_stay_visible_while_a_long_span_is_rolled_up(new: New, connect: Connect) -> None:
    """The default refresh showed 80 of 2,880 bars for 1.6 s."""
    m, reader = new(), connect(autocommit=True)
    m.insert(*(m.trade(m.start + timedelta(minutes=n), "7") for n in range(2880)))
    counts, done = [], threading.Event()

    def read() -> None:
        while not done.is_set():
            row = reader.execute("select count(*) from ohlcv_1m where symbol = %s", (m.symbol,)).fetchone()
            counts.append(row and row[0])

    thread = in_thread(read)
    m.seal(m.start + timedelta(days=2))
    done.set()
    thread.join(10)
    assert set(counts) == {2880}
    assert len(counts) >= 2


@pytest.mark.parametrize("delay", [0.002, 0.01, 0.03, 0.1, 0.3])
def test_a_killed_catch_up_is_continued_from_the_watermark(new: New, connect: Connect, delay: float) -> None:
    """Continued from the old seal, 600 of 2,880 bars remained."""
    m, worker = new(), connect(autocommit=True)
    m.insert(*(m.trade(m.start + timedelta(minutes=3 * n), str(n + 1)) for n in range(960)))
    m.connection.execute("select move_seal(%s)", (m.start + timedelta(days=2),))
    engine = engine_of(worker)

    def advance() -> None:
        try:
            for level in levels(worker):
                engine.advance(level.name)
        except psycopg.Error:
            pass  # it was killed, which is the point

    thread = in_thread(advance)
    time.sleep(delay)
    m.connection.execute("select pg_terminate_backend(%s::integer)", (worker.info.backend_pid,))
    thread.join(10)
    m.check()
    m.advance()
    m.check()


def test_two_maintainers_never_overwrite_a_repair(new: New, connect: Connect) -> None:
    """The one with the older snapshot once wrote last, for good."""
    m = new()
    m.insert(*(m.trade(m.start + timedelta(minutes=n), "7") for n in range(120)))
    m.seal(m.start + timedelta(days=1))
    workers = [connect(autocommit=True) for _ in range(2)]
    errors: list[Exception] = []
    done = threading.Event()

    def maintain(connection: psycopg.Connection[Any]) -> None:
        engine = engine_of(connection)
        while not done.is_set():
            try:
                engine.repair()
            except psycopg.Error as error:
                errors.append(error)

    threads = [in_thread(lambda c=c: maintain(c)) for c in workers]  # type: ignore[misc]
    for n in range(60):
        m.insert(m.trade(m.start + timedelta(minutes=n % 5, seconds=30), str(100 + n)))
    done.set()
    for thread in threads:
        thread.join(10)
    m.repair()
    assert errors == []
    m.check()


def test_a_repair_waits_for_who_maintains(new: New, connect: Connect) -> None:
    m, other, second = new(), connect(), connect(autocommit=True)
    m.insert(m.trade("03-01 00:00:30", "100"))
    m.seal("03-02 00:00")
    m.insert(m.trade("03-01 00:00:40", "999"))
    other.execute("select hold_maintenance()")
    engine, repaired = engine_of(second), list[int]()
    thread = in_thread(lambda: repaired.append(engine.repair()))
    wait_for_lock(m.connection, second.info.backend_pid)
    assert repaired == []
    other.rollback()
    thread.join(10)
    assert repaired == [1]
    m.check()


def test_partitions_are_made_behind_a_reader_and_by_two_at_once(new: New, connect: Connect) -> None:
    """`create table … partition of` waits for every reader, and two at once deadlock; attaching does neither."""
    m, reader, makers = new(), connect(), [connect(autocommit=True) for _ in range(2)]
    reader.execute("select count(*) from ticks")  # an open transaction holds its lock on ticks
    weeks = [m.start + timedelta(weeks=n) for n in range(8)]
    errors: list[Exception] = []

    def make(connection: psycopg.Connection[Any], times: list[Any]) -> None:
        try:
            connection.execute("set statement_timeout = '5s'")
            connection.execute("select prepare_ticks(%s)", (times,))
        except psycopg.Error as error:
            errors.append(error)

    threads = [in_thread(lambda: make(makers[0], weeks)), in_thread(lambda: make(makers[1], weeks[::-1]))]
    for thread in threads:
        thread.join(10)
    assert errors == []
    m.insert(*(m.trade(week, "1") for week in weeks))
    m.check()


def test_steady_traffic(new: New, connect: Connect) -> None:
    """Writers with open transactions and late ticks, a seal that moves all the time: nothing wrong, nothing left over.

    Time runs 600 times as fast: a minute is sealed every 0.1 s or so.
    """
    m = new()
    m.connection.execute("select prepare_ticks(%s)", ([m.start - timedelta(days=1), m.start],))
    began, done, landed = time.monotonic(), threading.Event(), []

    def now() -> Any:
        return m.start + timedelta(seconds=600 * (time.monotonic() - began))

    def write(connection: psycopg.Connection[Any], seed: int) -> None:
        rng = random.Random(seed)
        n = (seed + 1) * 1_000_000
        while not done.is_set():
            connection.execute("select hold_seal()")
            row = connection.execute("select late_below()").fetchone()
            assert row
            batch = []
            for _ in range(rng.randrange(1, 8)):
                n += 1
                ago = rng.uniform(0, 1200) if rng.random() < 0.05 else rng.uniform(0, 30)
                batch.append(m.trade(now() - timedelta(seconds=ago), str(rng.randrange(1, 999)), seq=n))
            connection.cursor().executemany(
                "insert into ticks (symbol, ts, seq, price, size, side) "
                "values (%(symbol)s, %(ts)s, %(seq)s, %(price)s, %(size)s, %(side)s)", batch)  # fmt: skip
            minutes = {t["ts"].replace(second=0, microsecond=0) for t in batch}
            for minute in sorted(minute for minute in minutes if minute < row[0]):
                connection.execute("insert into late_range (symbol, span) values (%s, tstzrange(%s, %s))",
                                   (m.symbol, minute, minute + timedelta(minutes=1)))  # fmt: skip
            time.sleep(rng.choice([0, 0, 0.02, 0.1]))
            connection.commit()
            landed.extend(batch)

    connections = [connect() for _ in range(3)]
    threads = [in_thread(lambda c=c, n=n: write(c, n)) for n, c in enumerate(connections)]  # type: ignore[misc]
    repaired = 0
    while time.monotonic() - began < 4:
        m.connection.execute("select move_seal(%s)", (now() - timedelta(seconds=10),))
        m.advance()
        repaired += m.repair()
    done.set()
    for thread in threads:
        thread.join(10)
    m.repair()
    m.ticks.update({(t["symbol"], t["ts"], t["seq"]): t for t in landed})
    m.check()
    assert repaired > 5, "the test met no late tick"
    assert m.connection.execute("select count(*) from late_range").fetchone() == (0,)
