"""Kafka positions: topics made again, logs that begin later, partitions held by another."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from kafka import KafkaAdminClient, TopicPartition
from psycopg import errors

from barwright import sql
from barwright.ingest.claims import Claim
from barwright.ingest.kafka import Consumer, Partition
from barwright.ingest.landing import FencedError, Landing
from barwright.ingest.store import Store
from barwright.ingest.takeover import take_all
from tests.ingest.conftest import BOTH, World, batch_of, claim_of, eventually
from tests.ingest.messages import TOPIC_ID, encode, trade

COUNT = "select count(*) from ticks"


@contextmanager
def admin(world: World) -> Iterator[KafkaAdminClient]:
    """Kafka's administrator."""
    client = KafkaAdminClient(bootstrap_servers=world.settings.kafka_bootstrap_servers)
    yield client
    client.close()


def make_again(world: World) -> None:
    """Delete the tick topic and make it again."""
    with admin(world) as client:
        client.delete_topics([world.settings.tick_topic])
        deadline = time.monotonic() + 20
        while True:
            try:
                client.create_topics({world.settings.tick_topic: {"num_partitions": 4}})
            except Exception:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            else:
                return


@pytest.mark.parametrize("running", [True, False], ids=["while ingest runs", "while ingest is stopped"])
def test_a_topic_made_again_is_read_from_its_start(world: World, running: bool) -> None:
    world.topic()
    world.start()
    world.send(*(trade(n) for n in range(1, 6)))
    eventually(lambda: world.one(COUNT), 5)
    if not running:
        world.stop()
    make_again(world)
    # More messages than before, so that the stored position looks valid in the new topic.
    world.send(*(trade(n, symbol="NEW") for n in range(1, 21)))
    if not running:
        world.start()
    eventually(lambda: world.one(COUNT + " where symbol = 'NEW'"), 20)
    assert world.one("select next_offset from ingest_offset where partition = 0") == 20
    assert world.one("select sum(skipped) from ingest_offset") == 0


def test_a_topic_made_again_with_as_many_messages_is_read_too(world: World) -> None:
    world.topic()
    world.start()
    world.send(*(trade(n) for n in range(1, 6)))
    eventually(lambda: world.one(COUNT), 5)
    make_again(world)
    world.send(*(trade(n, symbol="NEW") for n in range(1, 6)))
    eventually(lambda: world.one(COUNT + " where symbol = 'NEW'"), 5)


def test_what_the_log_no_longer_holds_is_skipped_and_counted(world: World) -> None:
    world.topic()
    world.start()
    world.send(*(trade(n) for n in range(1, 6)))
    eventually(lambda: world.one(COUNT), 5)
    world.stop()
    world.send(*(trade(n) for n in range(6, 16)))
    with admin(world) as client:
        client.delete_records({TopicPartition(world.settings.tick_topic, 0): 12})
    world.start()
    eventually(lambda: world.one(COUNT), 8)
    assert world.query("select next_offset, skipped from ingest_offset where partition = 0") == [
        {"next_offset": 15, "skipped": 7}
    ]


def test_a_log_that_begins_late_is_no_skip_for_who_never_read_it(world: World) -> None:
    world.topic()
    world.send(*(trade(n) for n in range(1, 11)))
    with admin(world) as client:
        client.delete_records({TopicPartition(world.settings.tick_topic, 0): 4})
    world.start()
    eventually(lambda: world.one(COUNT), 6)
    assert world.one("select sum(skipped) from ingest_offset") == 0


@BOTH
def test_a_client_that_is_not_where_it_was_put_skips_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As librdkafka was not, when the broker's answer to where the log ends came after it had been put at 0."""
    of = importlib.import_module(f"barwright.ingest.{world.settings.kafka_client.replace('-', '_')}").Member
    start_at, asked = of.start_at, []

    def elsewhere(self: Consumer, partition: Partition, offset: int) -> bool:
        asked.append(offset)
        return bool(start_at(self, partition, offset if asked[1:] else offset + 3))

    monkeypatch.setattr(of, "start_at", elsewhere)
    world.topic(partitions=1)
    world.send(*(trade(n) for n in range(5)))
    world.start()
    eventually(lambda: world.one(COUNT), 5)
    assert world.one("select next_offset from ingest_offset") == 5
    assert asked == [0, 0]


@BOTH
def test_a_log_without_the_offset_of_the_position_is_asked_once_more_and_read(world: World) -> None:
    """A transaction that was taken back stands where ingest is to begin."""
    topic = world.topic(partitions=1)
    world.send_at_once(topic, *(encode(trade(100 + n)) for n in range(3)), abort=True)
    world.send(*(trade(n) for n in range(5)))
    world.start()
    eventually(lambda: world.one(COUNT), 5)
    assert world.one("select next_offset from ingest_offset") == 9
    assert world.one("select array_agg(seq order by seq) from ticks") == list(range(5))


def test_a_position_beyond_the_log_goes_back_to_its_end(world: World) -> None:
    world.topic()
    world.start()
    world.send(trade(1))
    eventually(lambda: world.one(COUNT), 1)
    world.stop()
    with sql.connect(world.settings.database_url) as connection:
        connection.execute("update ingest_offset set next_offset = 100 where partition = 0")
    world.start()
    eventually(lambda: world.one("select next_offset from ingest_offset where partition = 0"), 1)
    world.send(trade(2))
    eventually(lambda: world.one(COUNT), 2)


def test_of_two_writers_of_one_partition_the_older_is_fenced(stores: list[Store]) -> None:
    old, new = stores
    first = claim_of(old)
    old.land(batch_of(old, first, trade(1)))
    second = claim_of(new, 1)
    first.next = 1
    with pytest.raises(FencedError):
        old.land(batch_of(old, first, trade(2)))
    new.land(batch_of(new, second, trade(2), trade(3)))
    assert new.connection.execute("select array_agg(seq order by seq) from ticks").fetchone() == ([1, 2, 3],)
    assert old.standing([first]) == {first: None}
    assert new.standing([second]) == {second: 3}


def test_a_batch_that_does_not_begin_where_the_position_stands_is_fenced(stores: list[Store]) -> None:
    store = stores[0]
    claim = claim_of(store)
    batch = batch_of(store, claim, trade(1))
    store.land(batch)
    with pytest.raises(FencedError):
        store.land(batch)
    claim.next = 5
    with pytest.raises(FencedError):
        store.land(batch_of(store, claim, trade(2)))
    assert store.connection.execute(COUNT).fetchone() == (1,)


def test_fencing_waits_for_an_open_transaction_and_reads_its_position(stores: list[Store]) -> None:
    """The claim of a second writer blocks while the first's batch is open, and then continues after it."""
    old, new = stores
    first = claim_of(old)
    batch = batch_of(old, first, trade(1))
    old._prepare(batch)
    landing = Landing(old.connection, batch, -1)
    landing.open()
    claimed: list[Claim] = []
    thread = threading.Thread(target=lambda: claimed.append(claim_of(new, 1)))
    thread.start()
    time.sleep(0.2)
    assert not claimed
    landing.send(sql.queries("ingest")["copy_trades"], batch.trades)
    landing.close()
    thread.join(5)
    assert claimed[0].next == 1


def test_who_takes_over_ends_who_holds_the_partition_and_no_one_else(database: str, stores: list[Store]) -> None:
    """Another process that stands still in a transaction; a person's, and one's own, is only waited for."""
    held = claim_of(stores[0])
    landing = Landing(stores[0].connection, batch_of(stores[0], held, trade(1)), 0)
    landing.open()
    topics = {Partition("t", 0): TOPIC_ID}
    with sql.connect(database, "ingest", autocommit=True) as taker, pytest.raises(errors.LockNotAvailable):
        take_all(taker, topics, {}, [stores[0].backend])
    assert stores[0].connection.execute("select 1").fetchone() == (1,)
    with sql.connect(database, "ingest", autocommit=True) as taker, pytest.raises(errors.LockNotAvailable):
        take_all(taker, topics, {}, [])
    with sql.connect(database, "a person") as person, sql.connect(database, "ingest", autocommit=True) as taker:
        taken = take_all(taker, topics, {}, [])
        assert taken[Partition("t", 0)].claim.generation == held.generation + 1
        person.execute("select from ingest_offset for update")
        with pytest.raises(errors.LockNotAvailable):
            take_all(taker, topics, {}, [])
        assert person.execute("select 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError):
        landing.close()
