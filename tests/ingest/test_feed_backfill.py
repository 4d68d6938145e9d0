"""Backfill tasks against a real broker and database: each is published once it can be, whoever dies meanwhile."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from barwright.ingest import kafka
from barwright.ingest.feed import broker, desk, history, topics
from barwright.ingest.feed.desk import deadline_of, pause_after
from barwright.ingest.feed.history import Task, records
from barwright.ingest.feed.source import History, Market, MarketError, RateLimitedError, UnavailableError
from barwright.ingest.kafka import topic_of_symbol
from tests.ingest.conftest import World
from tests.ingest.feeding import Feeding, is_true
from tests.ingest.scripted import DAY, HOUR, Scripted, bars, utc, whole

ROOT = Path(__file__).parent.parent.parent

# A feed whose source never answers; says when it was asked.
STUCK = """
import sys, threading, time
from datetime import timedelta
from barwright.ingest import feed
from barwright.ingest.feed import desk
from barwright.settings import Settings
from tests.ingest.scripted import Scripted, whole
desk.LEASE = timedelta(seconds=1.5)
desk.RENEW = 0.3
source = Scripted()
source.slow = 600
feed.run(Settings(database_url=sys.argv[1], kafka_bootstrap_servers=sys.argv[2]), threading.Event(), lambda *_: source)
"""


@pytest.fixture
def feeding(world: World) -> Iterator[Feeding]:
    """See Feeding."""
    made = Feeding(world)
    yield made
    made.close()


def covers(log: Any) -> list[tuple[str, str, int, bool]]:
    """The marks of a history's records: from, to, count, final."""
    return [(m["from"][:16], m["to"][:16], m["count"], m["final"]) for m in log.all("covered")]


def test_a_task_is_published_as_one_record_that_proves_its_span(feeding: Feeding) -> None:
    symbol = feeding.symbol("A/B")
    task = feeding.task(symbol)
    feeding.start(Scripted())
    row = feeding.until(task, "published")
    assert (row["attempt"], row["error"]) == (1, None)
    assert 55 < (row["deadline"] - row["published_at"]).total_seconds() < 65
    log = feeding.log(symbol)
    assert covers(log) == [("2023-03-01T00:00", "2023-03-02T00:00", 1440, True)]
    (value,), (key,) = log.values[0], log.keys[0]
    assert value.startswith(b"[")
    assert key == symbol.encode()
    *found, mark = log.all()
    assert len(found) == 1440
    origin = {"source": "simulator", "task": task, "attempt": 1, "symbol": symbol, "interval": "1m"}
    assert all(message.items() >= origin.items() for message in (*found, mark))
    assert found[1].items() >= {"type": "bar", "ts": "2023-03-01T00:01:00Z", "open": "10", "volume": "7.5"}.items()


def task_of(interval: str, start: str, end: str) -> Task:
    return Task(7, "S", "simulator", "m", interval, utc(start), utc(end), 2)


@pytest.mark.parametrize(
    ("interval", "start", "end", "unit"),
    [
        ("1m", "00:30", "2023-03-01T23:59", 60),
        ("1h", "2023-01-01", "2023-03-20", 86_400),
        ("1d", "2020-01-01", "2023-01-01", 86_400),
    ],
)
def test_large_records_are_cut_into_ones_that_touch(
    monkeypatch: pytest.MonkeyPatch, interval: str, start: str, end: str, unit: int
) -> None:
    monkeypatch.setattr(history, "MOST", 20_000)
    task = task_of(interval, start, end)
    market = Market("S", "m")
    pieces = records(task, whole(market, interval, task.start, task.end))
    assert len(pieces) > 8
    assert all(len(piece.value) <= 20_000 for piece in pieces)
    assert all(before.end == after.start for before, after in pairwise(pieces))
    assert all(piece.start % (unit * 1_000_000) == 0 for piece in pieces)
    assert sum(len(piece.bars) for piece in pieces) == len(bars(market, interval, task.start, task.end))
    assert [b'"final":true' in piece.value for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def test_a_record_proves_what_the_source_has_finished() -> None:
    market = Market("S", "m")
    minutes = task_of("1m", "12:00", "13:00")
    (piece,) = records(minutes, History(bars(market, "1m", utc("12:00"), utc("12:58")), utc("12:00"), utc("12:57")))
    assert len(piece.bars) == 57
    assert b'"to":"2023-03-01T12:57:00.000000Z"' in piece.value
    assert b'"final":true' in piece.value
    assert not records(minutes, History([], utc("12:00"), utc("12:00")))
    # Hours come in whole days.
    hours = task_of("1h", "2023-03-01", "2023-03-04")
    (piece,) = records(hours, History(bars(market, "1h", hours.start, hours.end), hours.start, hours.end - HOUR))
    assert len(piece.bars) == 48
    # Before the first day there is nothing coarser: it is proved empty.
    days = task_of("1d", "2023-03-01", "2023-03-04")
    (piece,) = records(days, History([], days.start + 2 * DAY, days.end))
    assert b'"from":"2023-03-01T00:00:00.000000Z"' in piece.value
    assert len(records(minutes, History([], minutes.start, minutes.end))) == 1


def test_where_minutes_do_not_reach_hours_are_asked_for(feeding: Feeding) -> None:
    symbol = feeding.symbol("deep")
    task = feeding.task(symbol)

    def past(market: Market, interval: str, start: datetime, end: datetime) -> History:
        reach = utc("10:20") if interval == "1m" else start
        return History(bars(market, interval, max(start, reach), end), max(start, reach), end)

    source = Scripted()
    source.past = past
    feeding.start(source)
    row = feeding.until(task, "cancelled")
    assert "no 1m bars" in row["error"]
    since = "select minutes_since from symbols where symbol = %s"
    assert feeding.world.one(since, symbol) == utc("2023-03-02")
    assert task not in {message["task"] for message in feeding.log(symbol).all()}


def test_a_rate_limit_is_obeyed_and_other_sources_go_on(feeding: Feeding) -> None:
    limited, other = Scripted(), Scripted("ccxt:other")
    tasks = [feeding.task(feeding.symbol(f"R{n}")) for n in range(10)]
    free = feeding.task(feeding.symbol("F"), source="ccxt:other")
    over = time.monotonic() + 1.5
    refusals: list[float] = []

    def past(market: Market, interval: str, start: datetime, end: datetime) -> History | Exception:
        if (left := over - time.monotonic()) > 0:
            refusals.append(left)
            return RateLimitedError("slow down", retry_after=left)
        return whole(market, interval, start, end)

    limited.past = past
    feeding.start(limited, other)
    feeding.until(free, "published", 3)
    assert refusals
    for task in tasks:
        feeding.until(task, "published")
    # One for each worker that was under way when the first was refused; and nobody asked again before the time.
    assert len(refusals) <= feeding.settings.backfill_workers
    assert {feeding.row(task)["attempt"] for task in tasks} <= {1, 2}


def test_a_market_nobody_knows_waits_and_holds_up_no_other(feeding: Feeding) -> None:
    wrong, right = feeding.task(feeding.symbol("wrong")), feeding.task(feeding.symbol("right"), end="2023-03-01 12:00")
    source = Scripted()
    source.past = lambda market, *span: (
        MarketError("no such market") if market.symbol.endswith("wrong") else whole(market, *span)
    )
    feeding.start(source, backfill_workers=1)
    feeding.until(right, "published")
    row = feeding.until(wrong, "queued")
    assert row["error"] == "no such market"
    assert (
        feeding.world.one(
            "select extract(epoch from not_before - now())::float8 from backfill_task where id = %s", wrong
        )
        > 280
    )


def test_an_outage_is_tried_again(feeding: Feeding) -> None:
    task = feeding.task(symbol := feeding.symbol("again"))
    source = Scripted()
    answers: list[Exception] = [UnavailableError("garbage", retry_after=0.1), KeyError("a mistake")]
    source.past = lambda *asked: answers.pop() if answers else whole(*asked)
    feeding.start(source)
    row = feeding.until(task, "published", 30)
    assert row["attempt"] == 3
    assert {message["attempt"] for message in feeding.log(symbol).all()} == {3}
    assert deadline_of(3) == timedelta(minutes=4)
    assert deadline_of(50) == HOUR
    assert 150 <= pause_after(UnavailableError("away"), 30) <= 300


def test_what_does_not_land_in_time_is_published_again(feeding: Feeding, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "DEADLINE", 0.5)
    task = feeding.task(symbol := feeding.symbol("late"))
    feeding.start(Scripted())
    is_true(lambda: feeding.row(task)["attempt"] >= 2)
    feeding.until(task, "published")
    log = feeding.log(symbol)
    assert [mark["attempt"] for mark in log.all("covered")][:2] == [1, 2]


def test_a_task_that_was_cancelled_meanwhile_is_dropped(feeding: Feeding) -> None:
    symbol = feeding.symbol("gone")
    task, other = feeding.task(symbol), feeding.task(feeding.symbol("other"), end="2023-03-01 12:00")
    source = Scripted()
    source.slow = 1.0
    feeding.start(source, backfill_workers=1)
    feeding.until(task, "fetching")
    feeding.execute("select stop_symbol(%s)", symbol)
    feeding.until(other, "published")
    assert feeding.row(task)["status"] == "cancelled"
    assert feeding.log(symbol).all() == []


def test_the_task_of_a_feed_that_is_killed_is_taken_over(feeding: Feeding) -> None:
    task = feeding.task(symbol := feeding.symbol("killed"))
    command = [sys.executable, "-c", STUCK, feeding.settings.database_url, feeding.settings.kafka_bootstrap_servers]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    feeding.world.processes.append(process)
    feeding.until(task, "fetching")
    feeding.start(Scripted())
    # It lives: its lease is renewed, and nobody takes the task from it.
    time.sleep(2.5)
    assert (feeding.row(task)["attempt"], feeding.row(task)["status"]) == (1, "fetching")
    process.kill()
    row = feeding.until(task, "published")
    assert row["attempt"] == 2
    assert {message["attempt"] for message in feeding.log(symbol).all()} == {2}


def test_a_feed_that_is_stopped_gives_its_tasks_back(feeding: Feeding) -> None:
    task = feeding.task(feeding.symbol("back"))
    stuck = Scripted()
    stuck.slow = 600
    feeding.start(stuck)
    feeding.until(task, "fetching")
    feeding.stop()
    assert feeding.row(task)["status"] == "queued"
    feeding.start(Scripted())
    assert feeding.until(task, "published", 5)["attempt"] == 2


def test_a_quiet_topic_is_deleted_and_made_again(feeding: Feeding, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "LOOK", 0.5)
    symbol, settings = feeding.symbol("quiet"), feeding.settings
    topic = topic_of_symbol(symbol)
    first = feeding.task(symbol)
    busy = feeding.task(feeding.symbol("busy"))
    feeding.world.start()
    feeding.start(Scripted(), topic_quiet=1.0)
    position = "select coalesce(max(next_offset), 0) from ingest_offset where topic = %s"

    def exists(name: str) -> bool:
        return name in all_topics(settings)

    is_true(lambda: feeding.world.one(position, topic) == 1)
    is_true(lambda: feeding.world.one(position, topic_of_symbol(feeding.symbol("busy"))) == 1)
    feeding.execute("update backfill_task set status = 'landed' where id = %s", first)
    feeding.execute("update backfill_task set status = 'published' where id = %s", busy)
    is_true(lambda: not exists(topic))
    assert exists(topic_of_symbol(feeding.symbol("busy")))
    is_true(lambda: feeding.world.query("select from ingest_offset where topic = %s", topic) == [])
    second = feeding.task(symbol, "2023-03-02", "2023-03-03")
    assert feeding.until(second, "published")["attempt"] == 1
    is_true(lambda: feeding.world.one(position, topic) == 1, 30)
    assert covers(feeding.log(symbol)) == [("2023-03-02T00:00", "2023-03-03T00:00", 1440, True)]


@pytest.mark.slow
def test_a_topic_deleted_by_others_is_made_again(feeding: Feeding, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "REQUEST_MS", 1_500)
    monkeypatch.setattr(broker, "DELIVERY_MS", 2_000)
    symbol = feeding.symbol("deleted")
    first = feeding.task(symbol)
    feeding.start(Scripted())
    feeding.until(first, "published")
    delete(feeding, topic_of_symbol(symbol))
    second = feeding.task(symbol, "2023-03-02", "2023-03-03")
    row = feeding.until(second, "published", 30)
    assert row["attempt"] <= 3
    assert covers(feeding.log(symbol))[-1] == ("2023-03-02T00:00", "2023-03-03T00:00", 1440, True)


def all_topics(settings: Any) -> list[str]:
    """The topics of the broker."""
    admin = broker.Admin(settings)
    try:
        return admin.topics()
    finally:
        admin.close()


def delete(feeding: Feeding, topic: str) -> None:
    """Delete a topic, as anybody may."""
    admin = kafka.KafkaAdminClient(bootstrap_servers=feeding.settings.kafka_bootstrap_servers.split(","))
    admin.delete_topics([topic])
    admin.close()
