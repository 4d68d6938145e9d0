"""What each client of Kafka has to do as a group's member, and members of both in one group."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from kafka import KafkaAdminClient, TopicPartition

from barwright.ingest.kafka import Consumer, Membership, OutOfRangeError, Partition, member
from tests.ingest.conftest import BOTH, World, eventually
from tests.ingest.messages import bar, trade

COUNT = "select count(*) from ticks"


@contextmanager
def joined(world: World, topic: str) -> Iterator[Consumer]:
    """A member with the topic's partitions."""
    held: set[Partition] = set()
    made = member(world.settings, Membership(f"group-{topic}", [topic], None, held.update, held.difference_update))
    try:
        polled(made, lambda _: held)
        yield made
    finally:
        made.close()


def polled(consumer: Consumer, done: Callable[[list[tuple[Partition, int]]], object]) -> list[tuple[Partition, int]]:
    """Poll until done with what came: (partition, offset)."""
    found: list[tuple[Partition, int]] = []
    deadline = time.monotonic() + 30
    while not done(found):
        assert time.monotonic() < deadline, found
        found += [(p, offset) for p, records in consumer.poll(0.05).items() for offset, _ in records]
    return found


def test_members_of_both_clients_share_a_group_and_one_takes_over_from_the_other(world: World) -> None:
    """As while processes are started again with another KAFKA_CLIENT, one by one."""
    world.topic()
    other = {"kafka-python": "confluent", "confluent": "kafka-python"}[world.settings.kafka_client]
    world.start()
    world.send(*(trade(n) for n in range(40)), partition=None)
    eventually(lambda: world.one(COUNT), 40)
    process = world.spawn(KAFKA_CLIENT=other)
    owners = "select count(distinct generation) from ingest_offset where generation > 1"
    eventually(lambda: world.one(owners) > 0, True)
    for partition in range(4):
        world.send(*(trade(100 + 50 * partition + n) for n in range(50)), partition=partition)
    eventually(lambda: world.one(COUNT), 240)
    world.stop()
    for partition in range(4):
        world.send(*(trade(500 + 50 * partition + n) for n in range(50)), partition=partition)
    eventually(lambda: world.one(COUNT), 440)
    assert world.one("select sum(rows) from ingest_offset") == 440
    process.terminate()
    assert process.wait(30) == 0


@pytest.mark.parametrize("world", [pytest.param("kafka-python", marks=pytest.mark.slow), "confluent"], indirect=True)
def test_the_only_dynamic_topic_is_deleted_and_another_comes(world: World) -> None:
    """librdkafka refuses to subscribe to nothing."""
    world.topic()
    world.start()
    first = world.topic(f"{world.dynamic}A", 1)
    world.send(bar(0), topic=first)
    eventually(lambda: world.one(COUNT), 1)
    admin = KafkaAdminClient(bootstrap_servers=world.settings.kafka_bootstrap_servers)
    admin.delete_topics([first])
    admin.close()
    time.sleep(4)  # one look at the topics
    world.send(bar(1), topic=world.topic(f"{world.dynamic}B", 1))
    eventually(lambda: world.one(COUNT), 2)


@BOTH
def test_a_transactions_end_counts_as_read(world: World) -> None:
    """Its control record is in the log and never given to us: a position before it would look as if stuck."""
    topic = world.topic(partitions=1)
    for abort in (False, True):
        world.send_at_once(topic, *[b"x"] * 3, abort=abort)
    one = Partition(topic, 0)
    with joined(world, topic) as consumer:
        assert consumer.start_at(one, 0)
        assert [offset for _, offset in polled(consumer, lambda _: consumer.positions([one]) == {one: 8})] == [0, 1, 2]
        assert consumer.bounds([one]) == {one: (0, 8)}


@BOTH
def test_what_nobody_has_started_is_not_out_of_range(world: World) -> None:
    """Logs that begin later than 0, as every one does in time. To read before it is paused is a matter of chance."""
    topic = world.topic(partitions=24)
    for partition in range(24):
        world.send(b"x", topic=topic, partition=partition)
    admin = KafkaAdminClient(bootstrap_servers=world.settings.kafka_bootstrap_servers)
    admin.delete_records({TopicPartition(topic, partition): 1 for partition in range(24)})
    admin.close()
    for _ in range(4):
        with joined(world, topic) as consumer:
            assert not any(consumer.poll(0.05) for _ in range(10))
    with joined(world, topic) as consumer:
        started = [Partition(topic, partition) for partition in range(24)]
        assert all(consumer.start_at(partition, 1) for partition in started)
        for partition in range(24):
            world.send(b"y", topic=topic, partition=partition)
        assert sorted(polled(consumer, lambda found: len(found) == 24)) == [(partition, 1) for partition in started]


@BOTH
def test_out_of_range_in_one_partition_leaves_the_others_where_they_are(world: World) -> None:
    topic = world.topic(partitions=3)
    for partition in range(3):
        world.send(*[b"x"] * 5, topic=topic, partition=partition)
    admin = KafkaAdminClient(bootstrap_servers=world.settings.kafka_bootstrap_servers)
    admin.delete_records({TopicPartition(topic, 1): 3})
    admin.close()
    zero, one, two = (Partition(topic, number) for number in range(3))
    with joined(world, topic) as consumer:
        for partition in (zero, two):
            consumer.start_at(partition, 0)
        polled(consumer, lambda found: len(found) == 10)
        consumer.pause([two])
        consumer.start_at(one, 1)
        # Whichever poll it is that hears of it.
        with pytest.raises(OutOfRangeError) as refused:
            polled(consumer, lambda _: False)
        assert set(refused.value.partitions) == {one}
        consumer.pause([one])
        consumer.start_at(one, 3)
        for partition in range(3):
            world.send(b"y", topic=topic, partition=partition)
        assert sorted(polled(consumer, lambda found: len(found) == 4)) == [(zero, 5), (one, 3), (one, 4), (one, 5)]
        consumer.resume([two])
        assert polled(consumer, lambda found: found) == [(two, 5)]
    assert consumer.end_of(one) in (0, 6)


@BOTH
def test_what_is_resumed_is_read_at_once_though_nothing_else_was_read(world: World) -> None:
    """Ten times: librdkafka's thread would sleep for a second each time. And nothing comes twice, nor is left out."""
    topic = world.topic(partitions=2)
    both = [Partition(topic, number) for number in range(2)]
    with joined(world, topic) as consumer:
        for partition in both:
            assert consumer.start_at(partition, 0)
        found: list[tuple[Partition, int]] = []
        waited = 0.0
        for _ in range(10):
            consumer.pause(both)
            for number in range(2):
                world.send(b"x", topic=topic, partition=number)
            assert not consumer.poll(0.1)
            began = time.monotonic()
            consumer.resume(both)
            consumer.pause(both)
            consumer.resume(both)  # of which nothing came meanwhile
            found += polled(consumer, lambda now: len(now) == 2)
            waited += time.monotonic() - began
        assert sorted(found) == [(partition, offset) for partition in both for offset in range(10)]
        assert waited < 4
