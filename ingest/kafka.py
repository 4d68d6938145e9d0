"""Kafka behind one small interface: a group's member, a producer's settings, topics and their names.

Members come by kafka-python or confluent-kafka; what is done seldom (topics, producers) by kafka-python.
"""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

from barwright.errors import BarwrightError
from barwright.ingest.bootstrap import connected
from barwright.settings import Settings

with warnings.catch_warnings():
    # The library warns about itself on import.
    warnings.simplefilter("ignore")
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
    from kafka.errors import KafkaError, TopicAlreadyExistsError

__all__ = ["Consumer", "KafkaError", "OutOfRangeError", "Partition", "member", "producer", "topic_of_symbol"]

# Bounds on what the client holds before we take it: one answer of a broker, and one more under way. A record batch
# larger than this is still delivered, alone.
FETCH_BYTES: Final = 4 * 1024 * 1024
PARTITION_BYTES: Final = 1024 * 1024
MOST_RECORDS: Final = 2_000
# How soon a new dynamic topic, or a topic made again under its old name, is seen.
METADATA_MS: Final = 3_000
_ESCAPED: Final = re.compile(r"[^A-Za-z0-9.-]")
_ESCAPE: Final = re.compile(r"_([0-9a-f]{2})")


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    number: int


class Log(NamedTuple):
    """What Kafka holds of a partition: the id of its topic, the first offset, and the one after the last."""

    topic_id: UUID | None
    start: int
    end: int


class OutOfRangeError(BarwrightError):
    """The position asked for is not in the log of these partitions."""

    def __init__(self, partitions: Collection[Partition]) -> None:
        super().__init__(f"outside the log: {sorted(partitions)}")
        self.partitions = partitions


class Membership(NamedTuple):
    """What a member of a group asks for: some topics, or those that match a pattern from their first letter on; and who
    is told what it was assigned, and what is gone."""

    group: str
    topics: Sequence[str]
    pattern: str | None
    assigned: Callable[[Collection[Partition]], None]
    gone: Callable[[Collection[Partition]], None]


class Consumer(Protocol):
    """One member of a consumer group, by whichever client.

    The two callbacks run on a thread of the client's. A partition that is assigned stays paused until `start_at`: its
    position is the database's to say, and Kafka's own is for lag tools only.
    """

    def poll(self, timeout: float) -> Mapping[Partition, list[tuple[int, bytes | None]]]:
        """Records (offset, value) that have arrived, by partition; waits for the first at most `timeout` seconds.

        Raises OutOfRangeError, KafkaError.
        """

    def topic_id(self, topic: str) -> UUID | None:
        """The id that tells a topic from a later one of the same name, as of the last look."""

    def assignment(self) -> set[Partition]:
        """What this member has now."""

    def start_at(self, partition: Partition, offset: int) -> bool:
        """Read on from here; False where the partition is no longer assigned."""

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Deliver nothing of these for now; polling goes on."""

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Deliver these again, from where they were paused."""

    def bounds(self, partitions: Collection[Partition]) -> dict[Partition, tuple[int, int]]:
        """The first offset in the log and the one after the last. Raises KafkaError."""

    def ends(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """The offset after the last record. Raises KafkaError."""

    def end_of(self, partition: Partition) -> int:
        """The same of one, as the last records fetched said; 0 where there were none. From any thread."""

    def positions(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The offset that will be fetched next; control records count as read, unlike in what `poll` gave."""

    def commit(self, positions: Mapping[Partition, int]) -> None:
        """Tell Kafka's lag tools how far we are; does not wait, and its failure means nothing."""

    def committed(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """The positions last told to Kafka, where there are any. Raises KafkaError."""

    def close(self) -> None:
        """Leave the group."""


def member(settings: Settings, membership: Membership) -> Consumer:
    """Join a group by the client that KAFKA_CLIENT names. Raises UnreachableError, BarwrightError."""
    if settings.kafka_client == "kafka-python":
        from barwright.ingest import kafka_python

        return kafka_python.Member(settings, membership)
    demand_client(settings)
    from barwright.ingest import confluent

    return confluent.Member(settings, membership)


def demand_client(settings: Settings) -> None:
    """Fail where the client that KAFKA_CLIENT names is not installed. Raises BarwrightError."""
    if settings.kafka_client == "confluent" and importlib.util.find_spec("confluent_kafka") is None:
        raise BarwrightError(
            "KAFKA_CLIENT=confluent needs the package confluent-kafka.", "pip install 'barwright[fast]'"
        )


def producer(settings: Settings, **options: Any) -> KafkaProducer:
    """A producer that delivers each record once and in order: idempotent, acknowledged by every replica in sync."""
    demand_crc32c()
    return connected(
        KafkaProducer,
        settings,
        acks="all",
        enable_idempotence=True,
        allow_auto_create_topics=False,
        reconnect_backoff_max_ms=2_000,
        **options,
    )


def demand_broker(settings: Settings, **options: Any) -> None:
    """Fail where no broker answers. Raises UnreachableError, which says why."""
    connected(KafkaAdminClient, settings, **options).close()


def answers(settings: Settings) -> bool:
    """Whether a broker answers within two seconds."""
    try:
        demand_broker(settings, request_timeout_ms=2_000, bootstrap_timeout_ms=2_000)
    except (KafkaError, OSError):
        return False
    return True


def logs(settings: Settings, topics: Collection[str]) -> dict[Partition, Log]:
    """What is there of some topics, without joining a group. Raises KafkaError."""
    client = connected(KafkaConsumer, settings, enable_auto_commit=False, request_timeout_ms=10_000)
    try:
        asked = [
            TopicPartition(t, n) for t in client.topics() & set(topics) for n in client.partitions_for_topic(t) or ()
        ]
        starts, ends = client.beginning_offsets(asked, timeout_ms=5_000), client.end_offsets(asked, timeout_ms=5_000)
        return {Partition(*tp): Log(client._cluster.topic_id(tp.topic), starts[tp], ends[tp]) for tp in asked}
    finally:
        client.close(autocommit=False)


def ensure_topic(settings: Settings, topic: str, partitions: int) -> bool:
    """Create a topic unless it is there; True if it was made. Raises KafkaError."""
    admin = connected(KafkaAdminClient, settings, request_timeout_ms=10_000)
    try:
        if topic in admin.list_topics():
            return False
        admin.create_topics({topic: {"num_partitions": partitions}})
    except TopicAlreadyExistsError:
        return False
    finally:
        admin.close()
    return True


def topic_of_symbol(symbol: str) -> str:
    """The topic with a symbol's history: `dynamic-EUR_2fUSD`. Kafka allows `[a-zA-Z0-9._-]` only, and takes `.` and `_`
    for the same in metrics, so `_` itself is escaped."""
    return "dynamic-" + _ESCAPED.sub(lambda match: f"_{ord(match[0]):02x}", symbol)


def symbol_of_topic(topic: str) -> str:
    """The symbol whose history a topic carries."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), topic.removeprefix("dynamic-"))


def demand_crc32c() -> None:
    """Fail where the compiled checksum is absent: the client would quietly run at a quarter of its speed."""
    if importlib.util.find_spec("crc32c") is None:
        raise BarwrightError("The Python package crc32c is missing.", "Install kafka-python[crc32c].")
