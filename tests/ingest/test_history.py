"""Marks and imports through Kafka, with ingest killed, or found with a database or a log that has gone back."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import pytest
from kafka import TopicPartition

from barwright import sql
from barwright.ingest.states import Topic, Work
from barwright.machines.board import BOARD
from tests.ingest.conftest import World, eventually
from tests.ingest.history import START, live, record, tick
from tests.ingest.test_positions import admin, make_again

COVERED = """
    select extract(epoch from lower(s) - '2023-03-01')::int as lo,
           extract(epoch from upper(s) - '2023-03-01')::int as hi
    from unnest(covered('BTCUSD', tstzrange(null, null), '1m')) as s order by 1
"""


def execute(world: World, statement: str, *values: Any) -> None:
    """Change something."""
    with sql.connect(world.settings.database_url) as connection:
        connection.execute(statement, values or None)  # type: ignore[arg-type]


def register(world: World) -> None:
    """Register the symbol."""
    execute(world, "select register_symbol('BTCUSD', 'simulator', 'm', 'B', 'Q', %s, 'simulator', '10 s', true)", START)


def covered(world: World) -> list[tuple[int, int]]:
    """What is proved, in seconds after the start."""
    return [(row["lo"], row["hi"]) for row in world.query(COVERED)]


def task(world: World, day: int, attempt: int = 1) -> int:
    """A task of one hour, the n-th."""
    execute(
        world,
        'insert into backfill_task (symbol, source, market, "interval", span, reason, status, attempt) values'
        " ('BTCUSD', 'simulator', 'm', '1m', tstzrange(%s + %s * interval '1 h', %s + %s * interval '1 h'), 'gap',"
        " 'publishing', %s)",
        START, day, START, day + 1, attempt,
    )  # fmt: skip
    return int(world.one("select max(id) from backfill_task"))


# The minute of chaos breaks the same; this is the one fault by itself.
@pytest.mark.slow
def test_killed_between_marks_and_imports_coverage_is_exact(world: World) -> None:
    """Four partitions with a session of 300 marks each, and 20 hours of minutes."""
    register(world)
    world.topic()
    history = world.topic(f"{world.dynamic}BTCUSD", 1)
    tasks = [task(world, n) for n in range(20)]
    sessions = [_session(partition) for partition in range(4)]
    done = threading.Event()

    def produce() -> None:
        futures = []
        for n, one in enumerate(tasks):
            minutes = range(n * 60, n * 60 + 60)
            futures.append(world.send_later(record(minutes, n * 60, n * 60 + 60, one), history))
            for partition, messages in enumerate(sessions):
                part = len(messages) // len(tasks) + 1
                futures += [world.send_later(m, partition=partition) for m in messages[n * part : n * part + part]]
            time.sleep(0.4)
        for future in futures:
            future.get(30)
        done.set()

    process = world.spawn()
    threading.Thread(target=produce, daemon=True).start()
    for _ in range(2):
        before = world.one("select coalesce(sum(rows), 0) from ingest_offset")
        eventually(lambda b=before: world.one("select coalesce(sum(rows), 0) from ingest_offset") > b, True)  # type: ignore[misc]
        time.sleep(random.uniform(0, 0.2))
        process.kill()
        process.wait()
        process = world.spawn()
    eventually(lambda: world.one("select count(*) from backfill_task where status = 'repairing'"), 20, 40)
    eventually(lambda: world.one("select count(*) from live_session where n = 300"), 4, 40)
    assert done.wait(30)
    assert world.query("select distinct covered::text as c, pending from live_session") == [
        {"c": '{["2023-03-01 00:00:00+00","2023-03-01 00:50:00+00")}', "pending": 0}
    ]
    # The minutes that the sessions prove are bars too where the import was quicker, and left alone where it was not.
    assert covered(world) == [(0, 20 * 3600)]
    bars = world.one("select count(*) from ticks where seq = -1")
    assert 1200 - 50 <= bars <= 1200
    assert world.one("select count(*) from ticks where seq >= 0") == 4 * 600
    assert world.one("select count(*) from dead_letter") == 0


def _session(partition: int) -> list[Any]:
    """300 marks of 10 s with two trades before each; the trades of each partition have numbers of their own."""
    messages: list[Any] = []
    name = f"s{partition}"
    for n in range(300):
        messages += [tick(n * 10 + k, name, id=str((n * 2 + k) * 4 + partition)) for k in (1, 2)]
        messages.append(live(n + 1, n * 10, n * 10 + 10, 2, name, partition=partition, symbols=["BTCUSD"]))
    return messages


def test_records_that_the_log_lost_end_what_sessions_prove(world: World) -> None:
    register(world)
    world.topic()
    world.start()
    world.send(tick(1), live(1, 0, 10, 1))
    eventually(lambda: covered(world), [(0, 10)])
    world.stop()
    world.send(tick(11), live(2, 10, 20, 0), tick(21), live(3, 20, 120, 1), live(4, 120, 240, 0))
    with admin(world) as client:
        client.delete_records({TopicPartition(world.settings.tick_topic, 0): 3})
    world.start()
    eventually(lambda: world.one("select n from live_session"), 4)
    # Number and count of mark 2 fit what is left, yet it proves nothing.
    assert covered(world) == [(0, 10), (80, 240)]
    assert world.one("select skipped from ingest_offset where partition = 0") == 1


def test_a_topic_made_again_ends_what_sessions_prove_until_their_next_marks(world: World) -> None:
    register(world)
    world.topic()
    world.start()
    world.send(tick(1), live(1, 0, 10, 1), tick(11))
    eventually(lambda: covered(world), [(0, 10)])
    make_again(world)
    world.send(live(2, 10, 20, 1), live(3, 20, 30, 0), live(4, 30, 100, 0))
    eventually(lambda: world.one("select n from live_session"), 4)
    assert covered(world) == [(0, 10), (80, 100)]


def test_a_database_that_has_gone_back_gets_a_new_epoch_once(world: World) -> None:
    world.topic()
    stop = world.start()
    world.send(*(tick(n) for n in range(1, 9)))
    group = f"{world.settings.group}-live"
    with admin(world) as client:
        eventually(lambda: _told(client, group, world.settings.tick_topic), 8)
    stop.set()
    world.stop()
    epoch = world.one("select epoch from meta")
    world.start()
    eventually(lambda: world.one("select max(generation) from ingest_offset where partition = 0"), 2)
    world.stop()
    assert world.one("select epoch from meta") == epoch
    # What a backup restored would be: fewer rows, an earlier position.
    execute(world, "delete from ticks where seq > 3")
    execute(world, "update ingest_offset set next_offset = 3 where partition = 0")
    world.start()
    eventually(lambda: world.one("select count(*) from ticks"), 8)
    renewed = world.one("select epoch from meta")
    assert renewed != epoch
    world.stop()
    world.start()
    eventually(lambda: world.one("select max(generation) from ingest_offset where partition = 0"), 4)
    assert world.one("select epoch from meta") == renewed


def _told(client: Any, group: str, topic: str) -> int:
    found = (
        client.list_group_offsets([group])[group]
        if hasattr(client, "list_group_offsets")
        else client.list_consumer_group_offsets(group)
    )
    return max((position.offset for tp, position in found.items() if tp.topic == topic), default=-1)


def test_what_ingest_is_doing_is_told(world: World) -> None:
    register(world)
    world.topic()
    history = world.topic(f"{world.dynamic}BTCUSD", 1)
    one = task(world, 0)
    world.start()
    world.send(record(range(60), 0, 60, one), topic=history)
    eventually(lambda: world.one("select status from backfill_task"), "repairing")
    told = (
        "select machine, subject, state from actor where role = 'ingest' and (machine = 'live_batch' or subject = %s)"
    )
    want = {
        ("history_consumer", history, "consuming"),
        ("live_batch", "writer-0", "idle"),
        ("live_batch", "writer-1", "idle"),
    }
    eventually(lambda: {tuple(row.values()) for row in world.query(told, history)}, want)
    world.stop()
    assert world.query(told, history) == []


def test_a_topic_that_is_lost_hears_nothing_more() -> None:
    topic, work = Topic("t"), Work("writer")
    topic.send("subscribed")
    for _ in range(2):
        work.begin()
        work.write([topic])
        assert (topic.state, work.state) == ("writing_to_db", "writing_to_db")
        work.fail(ConnectionError("gone"))
        assert (topic.state, work.state, work.is_busy) == ("error", "error", False)
        work.write([topic])
        work.written()
        work.end()
        assert (topic.state, work.state) == ("consuming", "idle")
    work.begin()
    work.write([topic])
    topic.leave()
    work.drop()
    assert (topic.state, work.state) == ("idle", "idle")
    topic.leave()
    work.close()
    assert not {"t", "writer"} & {row.subject for row in BOARD.rows() if not row.error}
