"""Whatever is killed, stopped or taken away: the set of rows is the set of messages, each once."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from barwright import migrations
from barwright.ingest.kafka import Consumer, KafkaError, Membership, member
from barwright.settings import Settings
from tests import services
from tests.ingest.conftest import World, eventually
from tests.ingest.messages import trade
from tests.services import Server, send_all

SYMBOLS = 8
TOGETHER = 50


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Servers of this module's own: what it does to them is nothing for other tests."""
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def postgres(home: Path) -> Iterator[Server]:
    """PostgreSQL that may be stopped."""
    yield from services.server("", lambda: services.postgres(home))


@pytest.fixture(scope="module")
def kafka(home: Path) -> Iterator[Server]:
    """Kafka that may be stopped."""
    yield from services.server("", lambda: services.kafka(home))


@pytest.fixture(scope="module")
def valkey(home: Path) -> Iterator[Server]:
    """Valkey that may be stopped."""
    yield from services.server("", lambda: services.valkey(home))


@pytest.fixture
def database(postgres: Server) -> str:
    """A new database; it goes with its server, since no connection to it outlives a test."""
    url = make_conninfo(postgres.url, dbname=f"test_{uuid4().hex[:12]}")
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(SQL("create database {}").format(Identifier(conninfo_to_dict(url)["dbname"])))  # type: ignore[arg-type]
    migrations.upgrade(Settings(database_url=url))
    return url


def produce(world: World, ticks: int, rate: float = 0, stop: threading.Event | None = None) -> int:
    """Send so many trades, in arrays, over all partitions; `rate` is how many a second. Returns how many were sent."""
    began, sent = time.monotonic(), 0
    futures = []
    for first in range(0, ticks, TOGETHER):
        if stop and stop.is_set():
            break
        symbol = f"S{first // TOGETHER % SYMBOLS}"
        trades = [trade(n, symbol=symbol) for n in range(first, first + TOGETHER)]
        futures.append(world.send_later(trades, partition=first // TOGETHER % SYMBOLS % 4))
        sent += TOGETHER
        if rate:
            time.sleep(max(began + sent / rate - time.monotonic(), 0))
    for future in futures:
        future.get(timeout=120)
    return sent


def exact(world: World, ticks: int, seconds: float = 60) -> None:
    """Every trade sent is one row, and nothing else is."""
    eventually(lambda: world.one("select count(*) from ticks"), ticks, seconds)
    wrong = world.one(
        "select count(*) from generate_series(0, %s - 1) as n full join ticks on seq = n"
        " where n is null or seq is null or symbol <> 'S' || (n / %s %% %s)",
        ticks, TOGETHER, SYMBOLS,
    )  # fmt: skip
    assert wrong == 0
    assert world.one("select count(*) from dead_letter") == 0
    assert world.one("select sum(rows) from ingest_offset") == ticks


def kills(world: World, ticks: int, times: int) -> None:
    """Replay while ingest is killed at random moments, so many times."""
    world.topic()
    process = world.spawn()
    sender = threading.Thread(target=produce, args=(world, ticks))
    sender.start()
    for _ in range(times):
        eventually(lambda: world.one("select count(*) from ingest_offset") > 0, True)
        before = world.one("select sum(rows) from ingest_offset")
        eventually(lambda b=before: world.one("select sum(rows) from ingest_offset") > b or b == ticks, True, 60)  # type: ignore[misc]
        time.sleep(random.uniform(0, 0.3))
        process.kill()
        process.wait()
        process = world.spawn()
    sender.join()
    exact(world, ticks, 120)


# The minute of chaos breaks the same; this is the one fault by itself.
@pytest.mark.slow
def test_killed_at_random_moments(world: World) -> None:
    kills(world, ticks=200_000, times=3)


@pytest.mark.slow
def test_killed_twenty_times_in_a_million(world: World) -> None:
    kills(world, ticks=1_000_000, times=20)


def test_two_processes_one_killed_and_one_frozen_in_the_middle(world: World) -> None:
    world.topic()
    first, second = world.spawn(), world.spawn()
    eventually(lambda: world.one("select count(*) from ingest_offset"), 4)
    sender = threading.Thread(target=produce, args=(world, 60_000, 10_000))
    sender.start()
    time.sleep(1)
    first.kill()
    time.sleep(1)
    # Frozen beyond its session: another takes its partitions, and it is fenced when it wakes.
    second.send_signal(signal.SIGSTOP)
    third = world.spawn()
    sender.join()
    eventually(lambda: world.one("select count(*) from ticks") > 40_000, True, 60)
    second.send_signal(signal.SIGCONT)
    exact(world, 60_000)
    assert third.poll() is None
    assert second.poll() is None


def test_frozen_in_the_middle_of_a_copy(world: World) -> None:
    """No timeout of the server's ends a COPY whose client is silent: who takes over does."""
    world.topic()
    frozen = world.spawn()
    copies = (
        "select count(*) from pg_stat_activity where datname = current_database() and state = 'active'"
        " and application_name = 'barwright ingest' and query like 'copy ticks%%' and wait_event_type = %s"
    )
    # Its COPY begins while it is frozen: never by chance.
    with psycopg.connect(world.settings.database_url) as locked:
        locked.execute("select prepare_ticks(array['2023-03-01', '2023-03-04']::timestamptz[])")
        locked.commit()
        locked.execute("lock table ticks in exclusive mode")
        produce(world, 20_000)
        eventually(lambda: world.one(copies, "Lock") > 0, True)
        frozen.send_signal(signal.SIGSTOP)
        # It runs on until the system has stopped all its threads, 7 ms on a busy machine: enough to end the COPY.
        os.waitid(os.P_PID, frozen.pid, os.WSTOPPED)
    eventually(lambda: world.one(copies, "Client") > 0, True)
    world.spawn()
    exact(world, 20_000)
    assert frozen.poll() is None
    frozen.send_signal(signal.SIGCONT)
    time.sleep(1)
    exact(world, 20_000)
    assert frozen.poll() is None


def outage(world: World, stop: Callable[[], None], start: Callable[[], None]) -> None:
    """Take a server away for some seconds while trades are sent."""
    world.topic()
    process = world.spawn()
    done = threading.Event()
    counts: list[int] = []
    sender = threading.Thread(target=lambda: counts.append(produce(world, 10**6, 5_000, done)))
    sender.start()
    eventually(lambda: world.one("select count(*) from ticks") > 0, True)
    stop()
    time.sleep(5)
    start()
    time.sleep(2)
    done.set()
    sender.join()
    exact(world, counts[0])
    assert process.poll() is None


def test_the_database_is_stopped_and_started_again(world: World, postgres: Server) -> None:
    outage(world, postgres.stop, postgres.start)  # type: ignore[attr-defined]


# The minute of chaos breaks the same; this is the one fault by itself.
@pytest.mark.slow
def test_the_database_is_killed(world: World, postgres: Server) -> None:
    outage(world, postgres.kill, postgres.start)  # type: ignore[attr-defined]


# The minute of chaos breaks the same; this is the one fault by itself.
@pytest.mark.slow
def test_the_broker_is_killed_and_started_again(world: World, kafka: Server) -> None:
    outage(world, kafka.kill, kafka.start)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_broker_is_stopped_and_started_again(world: World, kafka: Server) -> None:
    outage(world, kafka.stop, kafka.start)  # type: ignore[attr-defined]


# The minute of chaos breaks the same; this is the one fault by itself.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["postgres", "kafka", "valkey"])
def test_a_server_is_frozen(world: World, request: pytest.FixtureRequest, name: str) -> None:
    server = request.getfixturevalue(name)
    # Kafka beyond its session with its controller (3 s): it wakes up fenced, and may say that there are no brokers.
    outage(world, lambda: send_all(server.pid, signal.SIGSTOP), lambda: send_all(server.pid, signal.SIGCONT))


@pytest.mark.parametrize("world", ["confluent"], indirect=True)
def test_a_client_that_nobody_answers_begins_anew(world: World, kafka: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """librdkafka that was told of no brokers asks none ever again. But a member of a group that has no more partitions
    waits for as long as it takes."""
    from barwright.ingest import confluent

    monkeypatch.setattr(confluent, "SILENCE", 4.0)
    topic = world.topic(partitions=1)
    membership = Membership(f"group-{topic}", [topic], None, lambda _: None, lambda _: None)
    members = [member(world.settings, membership) for _ in range(2)]
    deadline = time.monotonic() + 12
    while time.monotonic() < deadline:
        assert not any(one.poll(0.05) for one in members)
    assert sorted(len(one.assignment()) for one in members) == [0, 1]
    send_all(kafka.pid, signal.SIGSTOP)
    try:
        for one in members:
            with pytest.raises(KafkaError, match="has answered for 4 s"):
                polled(one, 400)
    finally:
        send_all(kafka.pid, signal.SIGCONT)
        for one in members:
            one.close()
    world.start()
    world.send(trade(1))
    eventually(lambda: world.one("select count(*) from ticks"), 1)


def polled(one: Consumer, times: int) -> None:
    """Poll so often."""
    for _ in range(times):
        one.poll(0.05)


def test_without_valkey_everything_lands_and_nothing_waits(world: World, valkey: Server) -> None:
    outage(world, valkey.stop, valkey.start)  # type: ignore[attr-defined]
