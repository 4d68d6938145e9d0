"""From the first landed schema, filled, to the newest: nothing is lost, and the database works on; on both engines."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from barwright import migrations, sql
from barwright.settings import Settings
from barwright.sql.engine import engine_of, levels
from tests import services
from tests.sql.market import INSERT
from tests.upgrades import load


class Place:
    """A server of one engine and its databases, one after the other."""

    def __init__(self, engine: str, request: pytest.FixtureRequest, patch: pytest.MonkeyPatch) -> None:
        self.engine, self.server = engine, request.getfixturevalue("postgres")
        self.wasm = None
        patch.setenv("BARWRIGHT_ENGINE", engine)
        if engine == "timescaledb" and not services.timescaledb_version(self.server.url):
            patch.setenv("BARWRIGHT_TIMESCALEDB_MINIMUM", "2.23")
            self.wasm = request.getfixturevalue("wasm")

    def empty(self) -> Iterator[str]:
        """The DSN of an empty database."""
        if self.wasm is None:
            with services.new_database(self.server.url) as url:
                yield url
            return
        with psycopg.connect(self.wasm.url, autocommit=True, prepare_threshold=None) as connection:
            connection.execute("drop schema if exists barwright cascade")
        yield self.wasm.url


@pytest.fixture(scope="module", params=["postgres", "timescaledb"])
def place(request: pytest.FixtureRequest, monkeypatch_module: pytest.MonkeyPatch) -> Place:
    return Place(request.param, request, monkeypatch_module)


@pytest.fixture
def dsn(place: Place) -> Iterator[str]:
    """The DSN of an empty database."""
    yield from place.empty()


def connect(dsn: str) -> psycopg.Connection[Any]:
    return sql.connect(dsn, "test", autocommit=True, prepare_threshold=None)


def build(dsn: str, place: Place, filled: bool) -> None:
    """The first landed schema."""
    with connect(dsn) as connection:
        if place.engine == "timescaledb":
            connection.execute("create extension if not exists timescaledb")
        load.first(connection, place.engine, filled)


def test_the_first_revision_still_builds_what_it_built_when_it_landed(dsn: str, place: Place) -> None:
    build(dsn, place, filled=False)
    with connect(dsn) as connection:
        landed = load.catalog(connection)
        connection.execute("drop schema barwright cascade")
    migrations.upgrade(Settings(database_url=dsn), "0001")
    with connect(dsn) as connection:
        assert load.catalog(connection) == landed
    assert len(landed) > 100


def test_a_filled_database_is_brought_forward(dsn: str, place: Place) -> None:
    build(dsn, place, filled=True)
    settings = Settings(database_url=dsn)
    with connect(dsn) as connection:
        before = load.state(connection)
    assert len(before["ticks"]) > 4000
    assert len({symbol for symbol, *_ in before["1d"]}) == 4
    migrations.upgrade(settings)
    with connect(dsn) as connection:
        assert load.state(connection) == before
        _goes_on(connection)
    migrations.upgrade(settings)


def test_nobody_waits_long_for_a_migration_that_waits(empty_database: str) -> None:
    """A long read holds a table that is to be changed; whoever else wants the table passes nevertheless."""
    settings = Settings(database_url=empty_database, engine="postgres")
    migrations.upgrade(settings, "0003")
    done = threading.Event()

    def upgrade() -> None:
        migrations.upgrade(settings)
        done.set()

    migrating, slowest, turns = threading.Thread(target=upgrade), 0.0, 0
    with connect(empty_database) as reader, connect(empty_database) as ingest:
        reader.execute("begin; select from symbols limit 1")
        migrating.start()
        began = time.monotonic()
        while not done.is_set():
            asked = time.monotonic()
            ingest.execute("insert into symbols (symbol) values ('A') on conflict do nothing")
            slowest, turns = max(slowest, time.monotonic() - asked), turns + 1
            if time.monotonic() - began > 3 and slowest > 0.5:
                reader.execute("rollback")  # it was waited for, and others had to wait with it
            time.sleep(0.01)
    migrating.join()
    assert turns > 20
    assert 0.5 < slowest < 10


def _goes_on(connection: psycopg.Connection[Any]) -> None:
    """What was late is repaired, what was open is closed, and new ticks land and are rolled up."""
    _round(connection, datetime(2026, 11, 20, tzinfo=UTC))
    for interval in load.INTERVALS:
        assert load.state(connection)[interval] == load.truth(connection, interval), interval
    for ts in (datetime(2026, 11, 1, 3, 0, 7, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC)):  # late, and new
        tick = {"symbol": "BTCUSD", "ts": ts, "seq": 10**6, "price": Decimal("9999.5"), "size": Decimal(1), "side": "b",
                **dict.fromkeys(("open", "high", "low", "quote", "trades"))}  # fmt: skip
        connection.execute("select prepare_ticks(%s)", ([ts],))
        connection.execute(INSERT, tick)
        connection.execute("insert into late_range (symbol, span) select %s, tstzrange(m, m + interval '1 minute') "
                           "from date_bin('1 minute', %s, '2000-01-03Z') as m where m < late_below()",
                           ("BTCUSD", ts))  # fmt: skip
    assert len(load.state(connection)["late"]) == 1
    _round(connection, ts + timedelta(days=1))
    state = load.state(connection)
    assert state["late"] == []
    for interval in load.INTERVALS:
        assert state[interval] == load.truth(connection, interval), interval


def _round(connection: psycopg.Connection[Any], until: datetime) -> None:
    """One round of maintain, with the clock at a time of ours."""
    connection.execute("select move_seal(%s)", (until,))
    engine = engine_of(connection)
    for level in levels(connection):
        load.patiently(engine.advance, level.name)
    load.patiently(engine.repair)
