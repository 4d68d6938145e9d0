"""Reads from a standby: never from the past of what was served, never cached wrongly, and without it just the same."""

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from barwright import migrations, sql
from barwright.api.database import Database, Snapshot, retried
from barwright.api.replica import Replica
from barwright.commands import status
from barwright.doctor import replica as doctors
from barwright.doctor.examination import Examination
from barwright.doctor.look import look
from barwright.embedded.postgres import Postgres
from barwright.settings import Settings
from tests.api.conftest import Api, eventually, serving
from tests.api.streams import Follower
from tests.api.truth import check, expected
from tests.links.standby import Standby, replicated
from tests.services import Server
from tests.sql.market import Market

LAG = "1.5"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Postgres, Standby]]:
    """A primary, migrated, and its standby."""
    with replicated(tmp_path_factory.mktemp("replicated")) as (primary, standby):
        migrations.upgrade(Settings(database_url=primary.url))
        yield primary, standby


@pytest.fixture(scope="module")
def connection(pair: tuple[Postgres, Standby]) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the primary."""
    with sql.connect(pair[0].url, "test", autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def eras() -> Iterator[int]:
    return count(1700, 2)


@pytest.fixture
def m(connection: psycopg.Connection[Any], eras: Iterator[int]) -> Market:
    """A market of two closed days."""
    made = Market(connection, era=eras)
    connection.execute("insert into symbols (symbol) values (%s)", (made.symbol,))
    first = made.at("02-01 00:00")
    made.insert(*(made.trade(first + timedelta(minutes=7 * n), str(100 + n % 17)) for n in range(400)))
    made.seal(made.at("02-04 00:00"))
    return made


@pytest.fixture(scope="module")
def api(pair: tuple[Postgres, Standby], valkey: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API that reads from the standby."""
    primary, standby = pair
    log = tmp_path_factory.mktemp("api") / "serve.log"
    settings = {"DATABASE_READ_URL": standby.url, "BARWRIGHT_REPLICA_LAG": LAG, "BARWRIGHT_LOG_FORMAT": "json"}
    with serving(primary.url, valkey.url, log, **settings) as running:
        yield running


def state(api: Api) -> dict[str, Any]:
    """What /v1/status says of the standby."""
    return dict(api.json("/v1/status")["replica"])


def used(api: Api, wanted: bool, seconds: float = 10) -> None:
    """Wait until reads go to the standby, or not."""

    def look() -> None:
        assert state(api)["used"] is wanted

    eventually(look, seconds)


def test_bars_of_a_standby_equal_the_oracle(api: Api, m: Market, pair: tuple[Postgres, Standby]) -> None:
    used(api, True)
    pair[1].caught_up()
    check(api, m)
    used(api, True)
    assert api.json("/health/ready")["checks"]["replica"] == "up"
    assert pair[1].ask("select count(*) > 0 from pg_stat_activity where application_name = 'barwright serve'")


def doctor(settings: Settings) -> tuple[list[tuple[str, str]], dict[str, Any] | None]:
    """What is found about the standby, as (state, what is said and is to do), and what `barwright status` tells."""
    standing = doctors.Standby(settings)
    with sql.connect(settings.database_url, "test", autocommit=True) as connection:
        found = [*standing.checks(connection, thoroughly=True)]
        whole = Examination(found, look(connection), None, standing if standing.state else None)
    return [(each.state, f"{each.said} {each.todo}") for each in found], status.told(whole)["replica"]


def measured(api: Api, name: str) -> list[str]:
    """The lines of a metric."""
    return re.findall(rf"^barwright_{name}(?:{{.*}})? .*$", api.client.get("/metrics").text, re.MULTILINE)


def test_metrics_status_and_doctor_tell_of_it(api: Api, pair: tuple[Postgres, Standby]) -> None:
    used(api, True)

    def is_read() -> None:
        assert measured(api, "reads_from") == [
            'barwright_reads_from{server="primary"} 0.0', 'barwright_reads_from{server="standby"} 1.0',
        ]  # fmt: skip
        assert measured(api, "replica_lag_seconds") == ["barwright_replica_lag_seconds 0.0"]

    eventually(is_read, 10)
    [(state, said), *_], told = doctor(Settings(database_url=pair[0].url, database_read_url=pair[1].url))
    assert (state, said[:14]) == ("well", "a standby, 0.0")
    assert told is not None
    assert (told["state"], told["lag_bytes"]) == ("up", 0)


def tell_of_the_lag(api: Api, primary: Postgres, standby: Standby) -> None:
    """Metrics, status and doctor do, while the replay is paused."""
    assert measured(api, "reads_from")[0] == 'barwright_reads_from{server="primary"} 1.0'
    [line] = measured(api, "replica_lag_seconds")
    assert float(line.split()[1]) > float(LAG)
    settings = Settings(database_url=primary.url, database_read_url=standby.url, replica_lag=float(LAG))
    [(state, said), *_], told = doctor(settings)
    assert state == "warning"
    assert "behind: reads go to the primary" in said
    assert "pg_wal_replay_resume" in said
    assert told is not None
    assert told["state"] == "lagging"
    assert told["lag_seconds"] > float(LAG)
    assert told["lag_bytes"] > 1000


def test_doctor_says_what_a_standby_is_not(pair: tuple[Postgres, Standby], postgres: Server, database: str) -> None:
    primary, standby = pair
    settings = Settings(database_url=primary.url)

    def read(url: str, **login: str) -> Settings:
        return settings.model_copy(update={"database_read_url": make_conninfo(url, **login)})

    assert doctor(settings) == ([], None)
    [(state, said)], told = doctor(read("postgresql://127.0.0.1:1/none"))
    assert (state, told) == ("warning", {"state": "down", "lag_seconds": None, "lag_bytes": None})
    assert "It does not answer" in said
    [(state, said)], _ = doctor(read(primary.url))
    assert (state, "names the primary" in said) == ("warning", True)
    if postgres.embedded:
        [(state, said)], _ = doctor(read(database))
        assert (state, "another cluster" in said) == ("problem", True)
    found, _ = doctor(read(standby.url))
    assert [state for state, _ in found] == ["well", "warning", "warning"]
    assert "as the superuser barwright" in found[1][1]
    assert "after 0.1 s" in found[2][1]
    assert "hot_standby_feedback" in found[2][1]
    prefix = settings.role_prefix
    with psycopg.connect(primary.url, autocommit=True) as connection:
        for kind in ("read", "api"):
            connection.execute(f"alter role {prefix}_{kind} password 'known'".encode())
        standby.caught_up()
        [(state, said)], _ = doctor(read(standby.url, user=f"{prefix}_read", password="known"))
        assert (state, "may not read what the API reads" in said) == ("problem", True)
        found, _ = doctor(read(standby.url, user=f"{prefix}_api", password="known"))
        assert [state for state, _ in found] == ["well", "warning"]
        connection.execute(f"revoke select on barwright.level from {prefix}_api".encode())
        standby.caught_up()
        try:
            found, _ = doctor(read(standby.url, user=f"{prefix}_api", password="known"))
            assert f"{prefix}_api may not read level there" in found[1][1]
        finally:
            connection.execute(f"grant select on barwright.level to {prefix}_api".encode())


def test_another_database_of_the_standby_is_not_read(pair: tuple[Postgres, Standby]) -> None:
    """Its log is as far as the primary's, since it is the same server."""
    primary, standby = pair
    settings = Settings(database_url=primary.url, database_read_url=standby.url_of("another"))
    with psycopg.connect(primary.url, autocommit=True) as connection:
        connection.execute("create database another template template0")
        try:
            with psycopg.connect(primary.url_of("another"), autocommit=True) as other:
                other.execute("create schema barwright")
                other.execute("create table barwright.meta as select 'another' as epoch")
                other.execute("create table barwright.alembic_version as select '0001' as version_num")
            standby.caught_up()
            found, _ = doctor(settings)
            assert found == [("problem", "It names another database than DATABASE_URL. Correct DATABASE_READ_URL.")]

            async def against() -> str:
                replica = Replica(settings, Database(settings))
                assert replica.database.replica is not None
                await replica._look(replica.database.replica)
                for probe in replica.probes:
                    await probe.close()
                return replica.against

            assert asyncio.run(against()) == "DATABASE_READ_URL names another Barwright's database"
        finally:
            connection.execute("drop database another with (force)")


def test_an_old_snapshot_is_never_cached_and_nothing_goes_back(
    api: Api, m: Market, pair: tuple[Postgres, Standby], valkey: Server, tmp_path: Path
) -> None:
    primary, standby = pair
    used(api, True)
    standby.caught_up()
    old = expected(m, "1m")
    eventually(lambda: _equal(api, m, old))
    standby.pause()
    try:
        m.insert(m.trade("02-01 03:00:30", "999"))
        m.repair()
        new = expected(m, "1m")
        assert new != old
        # Another process is never behind, and reads the same Redis: what the first keeps there must be right.
        with serving(primary.url, valkey.url, tmp_path / "other.log") as other:
            seen, deadline = [], time.monotonic() + 6
            while time.monotonic() < deadline and (not seen or not seen[-1]):
                seen.append(_is(api, m, old, new))
                assert _is(other, m, old, new)
            assert seen[-1]  # the standby was left when it was too far behind
            assert seen == sorted(seen)  # the new never becomes the old again
            assert not state(api)["used"]
            assert api.json("/health/ready")["checks"]["replica"] == "lagging"
            tell_of_the_lag(api, primary, standby)
            standby.resume()
            deadline = time.monotonic() + 15
            while not state(api)["used"]:
                assert _is(api, m, old, new)
                assert time.monotonic() < deadline
            for _ in range(20):
                assert _is(api, m, old, new)
            check(other, m)
        check(api, m)
    finally:
        standby.resume()


def test_what_this_process_wrote_is_found(api: Api, pair: tuple[Postgres, Standby]) -> None:
    used(api, True)
    pair[1].pause()
    try:
        name = f"W{time.time_ns()}"
        body = {"source": "kafka", "start": "2026-01-01"}
        answer = api.client.put(f"/v1/symbols/{name}", json=body)
        assert answer.status_code == 201, answer.text
        assert api.json(f"/v1/symbols/{name}")["symbol"] == name
    finally:
        pair[1].resume()
    used(api, True)
    assert api.json(f"/v1/symbols/{name}")["symbol"] == name


@pytest.mark.slow
def test_a_stream_never_goes_back(api: Api, m: Market, pair: tuple[Postgres, Standby]) -> None:
    _, standby = pair
    used(api, True)
    follower = Follower([api], m.symbol, "1m", start=m.at("02-01 00:00").isoformat())
    try:
        for n in range(3):
            standby.pause() if n == 1 else standby.resume()
            m.insert(m.trade(m.at("02-01 05:00") + timedelta(minutes=7 * n), str(500 + n)))
            m.repair()
            m.insert(m.trade(m.at("02-05 00:00") + timedelta(seconds=n), str(600 + n)))
            time.sleep(0.3)
        standby.resume()
        eventually(lambda: _same(follower, expected(m, "1m")), 15)
        assert "reset" not in follower.store.counts
        revs = [message["rev"] for message in follower.store.log]
        assert revs == sorted(revs)
    finally:
        standby.resume()
        follower.end()


@pytest.mark.slow
def test_a_stream_resumed_on_a_lagging_process_waits(
    api: Api, m: Market, pair: tuple[Postgres, Standby], valkey: Server, tmp_path: Path
) -> None:
    primary, standby = pair
    used(api, True)
    standby.caught_up()
    with serving(primary.url, valkey.url, tmp_path / "other.log") as ahead:
        follower = Follower([ahead, api], m.symbol, "1m", start=m.at("02-01 00:00").isoformat())
        try:
            eventually(lambda: _same(follower, expected(m, "1m")), 10)
            standby.pause()
            m.insert(m.trade("02-01 09:00:30", "777"))
            m.repair()
            eventually(lambda: _same(follower, expected(m, "1m")), 10)
            follower.cut()  # it comes again at the other process, whose standby knows nothing of this yet
            time.sleep(0.3)
            standby.resume()
            m.insert(m.trade("02-01 10:00:30", "778"))
            m.repair()
            eventually(lambda: _same(follower, expected(m, "1m")), 15)
            assert follower.cuts == 1
            assert "reset" not in follower.store.counts
        finally:
            standby.resume()
            follower.end()


@pytest.mark.slow
def test_of_several_standbys_one_is_read(
    m: Market, pair: tuple[Postgres, Standby], valkey: Server, tmp_path: Path
) -> None:
    """Two behind one name, one of them held up: connections are spread by chance, answers come from one server."""
    primary, first = pair
    second = Standby(tmp_path / "second", primary)
    second.start()
    try:
        for standby in (first, second):
            standby.caught_up()
        second.pause()
        old = expected(m, "1m")
        m.insert(m.trade("02-01 04:00:30", "888"))
        m.repair()
        new = expected(m, "1m")
        first.caught_up()
        hosts = {"host": "127.0.0.1,127.0.0.1", "port": f"{first.port},{second.port}", "load_balance_hosts": "random"}
        both = make_conninfo(first.url, **hosts)
        settings = {"DATABASE_READ_URL": both, "BARWRIGHT_PAGE_CACHE_BARS": "0", "BARWRIGHT_DATABASE_POOL": "6"}
        with serving(primary.url, "redis://127.0.0.1:1/0", tmp_path / "serve.log", **settings) as api:
            found: list[bool] = []

            def ask() -> None:
                while len(found) < 400:
                    found.append(_is(api, m, old, new))

            used(api, True, 20)
            threads = [threading.Thread(target=ask) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            # The primary had it from the start, and one standby: the other's past is never seen.
            assert all(found)
    finally:
        second.stop()


def test_who_waits_for_a_connection_of_a_standby_that_is_left_reads_elsewhere(pair: tuple[Postgres, Standby]) -> None:
    primary, standby = pair
    settings = Settings(database_url=primary.url, database_read_url=standby.url, database_pool=1)
    where = "select pg_is_in_recovery()"

    async def run() -> list[Any]:
        database = Database(settings)
        replica = Replica(settings, database)
        await database.open()
        watching = asyncio.create_task(replica.run())
        try:
            while not replica.used:
                await asyncio.sleep(0.05)
            watching.cancel()
            async with database.snapshot() as snapshot:
                assert await snapshot.fetch(where, {}) == [(True,)]
                waiting = asyncio.create_task(database.fetch(where))
                await asyncio.sleep(0.1)
                database.use(database.primary, "the standby is away")
                return await waiting
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await database.close()

    assert asyncio.run(run()) == [(False,)]


def test_a_standby_that_dies_is_left_at_once(api: Api, m: Market, pair: tuple[Postgres, Standby]) -> None:
    _, standby = pair
    used(api, True)
    standby.caught_up()
    wanted, found, over = expected(m, "1h"), list[tuple[float, int]](), threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=api.client.base_url, timeout=20) as client:
            while not over.is_set():
                began = time.monotonic()
                # Without a start what is asked for is never only from memory.
                answer = client.get("/v1/bars/latest", params={"symbol": m.symbol, "interval": "2h"})
                found.append((began, answer.status_code))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    standby.kill()
    try:
        used(api, False)
        left = time.monotonic()
        eventually(lambda: _more([each for each in found if each[0] > left], 20), 10)
        over.set()
        for thread in threads:
            thread.join()
        # Where the primary's connections take longer than 2 s to make, who was on the way is told to come again.
        assert {status for _, status in found} <= {200, 503}
        assert {status for began, status in found if began > left} == {200}
        eventually(lambda: _equal(api, m, wanted, "1h"), 10)
    finally:
        over.set()
        standby.start()
    used(api, True, 20)
    eventually(lambda: _equal(api, m, wanted, "1h"))


@pytest.mark.slow
def test_a_query_in_the_way_of_the_log_is_asked_again(
    pair: tuple[Postgres, Standby], connection: psycopg.Connection[Any]
) -> None:
    primary, standby = pair
    connection.execute("create table if not exists barwright.in_the_way (n int)")
    standby.caught_up()
    settings = Settings(database_url=primary.url, database_read_url=standby.url)

    async def run() -> tuple[int, list[Any]]:
        database = Database(settings)
        replica = Replica(settings, database)
        await database.open()
        watching = asyncio.create_task(replica.run())
        tries = 0

        @retried
        async def read() -> list[Any]:
            nonlocal tries
            tries += 1
            async with database.snapshot() as snapshot:
                await snapshot.fetch("select * from barwright.in_the_way", {})
                if tries == 1:
                    # Its exclusive lock has to be replayed, and the snapshot stands in its way.
                    await asyncio.to_thread(connection.execute, "alter table barwright.in_the_way add column m int")
                    await _cut(snapshot)
                return await snapshot.fetch("select 1", {})

        try:
            while not replica.used:
                await asyncio.sleep(0.05)
            return tries, [await read(), tries]
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await database.close()

    _, (found, tries) = asyncio.run(run())
    assert found == [(1,)]
    assert tries >= 2


async def _cut(snapshot: Snapshot) -> None:
    """Ask until the standby ends it."""
    for _ in range(200):
        await snapshot.fetch("select * from barwright.in_the_way", {})
        await asyncio.sleep(0.05)
    raise AssertionError("the standby waits for ever")


def _more(found: list[Any], count: int) -> None:
    assert len(found) > count


def _equal(api: Api, m: Market, wanted: list[dict[str, Any]], interval: str = "1m") -> None:
    assert api.bars(m.symbol, interval, limit=10000) == wanted


def _is(api: Api, m: Market, old: list[dict[str, Any]], new: list[dict[str, Any]]) -> bool:
    """Whether an answer is the new one; it must be one of both."""
    bars = api.bars(m.symbol, limit=10000)
    assert bars in (old, new)
    return bars == new


def _same(follower: Follower, wanted: list[dict[str, Any]]) -> None:
    assert [{**bar} for bar in follower.store.list()] == wanted
