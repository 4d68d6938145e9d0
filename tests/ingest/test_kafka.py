"""What ingest asks of the Kafka client beyond its documentation."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from barwright.ingest.kafka import Consumer, Membership, Partition, member, symbol_of_topic, topic_of_symbol
from barwright.ingest.ticks import SYMBOL
from tests.ingest.conftest import BOTH, World


@BOTH
def test_a_resumed_partition_goes_on_though_every_other_has_been_read(world: World) -> None:
    """kafka-python 3.0.12 parks what it had fetched of a paused partition, and forgot it there for ever."""
    topic, each = world.topic(partitions=2), 6_000
    for partition in (0, 1):
        futures = [world.send_later(b"x" * 50, topic, partition) for _ in range(each)]
        futures[-1].get(timeout=30)
    assigned: list[Partition] = []
    consumer = member(world.settings, Membership("parked", [topic], None, assigned.extend, lambda _: None))
    seen: Counter[Partition] = Counter()

    def poll_until(done: Callable[[], object], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, seen
            for partition, records in consumer.poll(0.1).items():
                seen[partition] += len(records)

    try:
        poll_until(lambda: len(assigned) == 2)
        for partition in assigned:
            consumer.start_at(partition, 0)
        poll_until(lambda: seen)
        (first,) = seen
        consumer.pause([first])
        poll_until(lambda: sum(seen.values()) - seen[first] == each)
        consumer.resume([first])
        poll_until(lambda: seen[first] == each, 5)
    finally:
        consumer.close()


@BOTH
def test_members_that_know_different_topics_share_what_each_knows(world: World) -> None:
    """So it is each time a topic is new to one and not yet to another; kafka-python 3.0.12 ends with a KeyError."""
    old = world.topic(partitions=4)
    new = world.topic(f"{old}-new", partitions=2)
    held: list[set[Partition]] = [set(), set(), set()]

    def joined(number: int, topics: list[str]) -> Consumer:
        mine = held[number]
        # One of the three comes by the other client, as while a group goes over from one to the other.
        client = {"kafka-python": "confluent", "confluent": "kafka-python"}[world.settings.kafka_client]
        settings = world.settings.model_copy(update={"kafka_client": client} if number == 1 else {})
        return member(settings, Membership("shared", topics, None, mine.update, mine.difference_update))

    over = threading.Event()

    def work(number: int, topics: list[str]) -> None:
        """A thread for each, as each is a process: a rebalance waits until all of them have been asked."""
        consumer = joined(number, topics)
        while not over.is_set():
            consumer.poll(0.05)
        consumer.close()

    members = [threading.Thread(target=work, args=(n, topics)) for n, topics in enumerate(([old], [old], [old, new]))]
    wanted = {Partition(topic, number) for topic, number in [*((old, n) for n in range(4)), (new, 0), (new, 1)]}
    for each in members:
        each.start()
    try:
        deadline = time.monotonic() + 60
        while set().union(*held) != wanted or not all(held) or sum(map(len, held)) != len(wanted):
            assert time.monotonic() < deadline, held
            time.sleep(0.05)
        assert {Partition(new, 0), Partition(new, 1)} <= held[2]
    finally:
        over.set()
        for each in members:
            each.join()


@given(st.from_regex(SYMBOL, fullmatch=True))
def test_a_symbol_becomes_a_topic_and_back(symbol: str) -> None:
    topic = topic_of_symbol(symbol)
    assert re.fullmatch(r"dynamic-[a-zA-Z0-9._-]{1,241}", topic)  # what Kafka allows, 249 characters in all
    assert symbol_of_topic(topic) == symbol
