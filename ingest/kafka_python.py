"""A group's member by kafka-python: it needs no compiler and comes with Barwright."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from uuid import UUID

from barwright.ingest import unpacking
from barwright.ingest.assignor import Even
from barwright.ingest.bootstrap import connected
from barwright.ingest.kafka import (
    FETCH_BYTES,
    METADATA_MS,
    MOST_RECORDS,
    PARTITION_BYTES,
    Membership,
    OutOfRangeError,
    Partition,
    demand_crc32c,
)
from barwright.settings import Settings

with warnings.catch_warnings():
    # The library warns about itself on import.
    warnings.simplefilter("ignore")
    from kafka import KafkaConsumer, TopicPartition
    from kafka.consumer.subscription_state import ConsumerRebalanceListener
    from kafka.errors import (
        KafkaError,
        LogTruncationError,
        NoOffsetForPartitionError,
        OffsetOutOfRangeError,
        UnknownTopicOrPartitionError,
    )
    from kafka.structs import OffsetAndMetadata


class Member:
    """See kafka.Consumer. The callbacks run on the client's own thread."""

    def __init__(self, settings: Settings, membership: Membership) -> None:
        demand_crc32c()
        unpacking.bound(settings.unpacked_bytes)
        self._client = connected(
            KafkaConsumer,
            settings,
            group_id=membership.group,
            client_id=f"barwright-{membership.group}",
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            allow_auto_create_topics=False,
            # Eager and even: the first member would get every one-partition topic from the default assignor.
            partition_assignment_strategy=[Even],
            fetch_max_bytes=FETCH_BYTES,
            max_partition_fetch_bytes=PARTITION_BYTES,
            max_poll_records=MOST_RECORDS,
            metadata_max_age_ms=METADATA_MS,
            reconnect_backoff_max_ms=2_000,
            request_timeout_ms=15_000,
            session_timeout_ms=6_000,
            heartbeat_interval_ms=2_000,
            metrics_enabled=False,
        )
        listener = _Listener(self._client, membership.assigned, membership.gone)
        self._client.subscribe(topics=list(membership.topics), pattern=membership.pattern, listener=listener)

    def poll(self, timeout: float) -> Mapping[Partition, list[tuple[int, bytes | None]]]:
        """Records (offset, value) that have arrived, by partition; waits for the first at most `timeout` seconds.

        Raises OutOfRangeError, KafkaError.
        """
        self._finish_join()
        self._unpark()
        try:
            found = self._client.poll(timeout_ms=int(timeout * 1000))
        except OffsetOutOfRangeError as error:
            raise OutOfRangeError([Partition(*tp) for tp in error.args[0]]) from error
        except (LogTruncationError, NoOffsetForPartitionError) as error:
            raise OutOfRangeError([Partition(*tp) for tp in self._client.assignment()]) from error
        return {Partition(*tp): [(record.offset, record.value) for record in records] for tp, records in found.items()}

    def _finish_join(self) -> None:
        """kafka-python 3.0.12 forgets a join that outlasts one poll if the leader's metadata caused it: it has nothing
        assigned, sends no heartbeat and waits for nothing. Asked to join again, it takes that join up."""
        coordinator = self._client._coordinator
        if coordinator.rejoining and not coordinator.need_rejoin():
            coordinator.request_rejoin()

    def _unpark(self) -> None:
        """kafka-python 3.0.12 parks what it fetched of a paused partition, and takes it up again only where its slot
        for records in hand is None: behind spent ones, a resumed partition stood still though its log had records."""
        fetcher = self._client._fetcher
        if not fetcher._next_partition_records:
            fetcher._next_partition_records = None

    def topic_id(self, topic: str) -> UUID | None:
        """The id that tells a topic from a later one of the same name, as of the last look."""
        return self._client._cluster.topic_id(topic)  # type: ignore[no-any-return]

    def assignment(self) -> set[Partition]:
        """What this member has now."""
        return {Partition(*tp) for tp in self._client.assignment()}

    def start_at(self, partition: Partition, offset: int) -> bool:
        """Read on from here; False where the partition is no longer assigned."""
        try:
            self._client.seek(TopicPartition(*partition), offset)
            self._client.resume(TopicPartition(*partition))
        except (ValueError, KeyError):
            return False
        return True

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Deliver nothing of these for now; polling goes on."""
        for partition in self.assignment().intersection(partitions):
            self._client.pause(TopicPartition(*partition))

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Deliver these again, from where they were paused."""
        for partition in self.assignment().intersection(partitions):
            self._client.resume(TopicPartition(*partition))

    def bounds(self, partitions: Collection[Partition]) -> dict[Partition, tuple[int, int]]:
        """The first offset in the log and the one after the last. Raises KafkaError."""
        asked = [TopicPartition(*partition) for partition in partitions]
        try:
            starts = self._client.beginning_offsets(asked, timeout_ms=5_000)
            ends = self._client.end_offsets(asked, timeout_ms=5_000)
        except KeyError as error:
            # What kafka-python says of a topic that is being deleted or made.
            raise UnknownTopicOrPartitionError(str(error)) from error
        return {Partition(*tp): (starts[tp], ends[tp]) for tp in asked}

    def ends(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """The offset after the last record. Raises KafkaError."""
        try:
            ends = self._client.end_offsets([TopicPartition(*partition) for partition in partitions], timeout_ms=2_000)
        except KeyError as error:
            raise UnknownTopicOrPartitionError(str(error)) from error
        return {Partition(*tp): end for tp, end in ends.items()}

    def end_of(self, partition: Partition) -> int:
        """The same of one, as the last records fetched said; 0 where there were none. From any thread."""
        try:
            return self._client.highwater(TopicPartition(*partition)) or 0
        except (KafkaError, KeyError):
            return 0

    def positions(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The offset that will be fetched next; control records count as read, unlike in what `poll` gave."""
        held = {p: self._client.position(TopicPartition(*p), 100) for p in self.assignment().intersection(partitions)}
        return {partition: position for partition, position in held.items() if position is not None}

    def commit(self, positions: Mapping[Partition, int]) -> None:
        """Tell Kafka's lag tools how far we are; does not wait, and its failure means nothing."""
        offsets = {TopicPartition(*p): OffsetAndMetadata(offset, "", -1) for p, offset in positions.items()}
        self._client.commit_async(offsets, callback=lambda *_: None)

    def committed(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """The positions last told to Kafka, where there are any. Raises KafkaError."""
        asked = [TopicPartition(*partition) for partition in partitions]
        told = self._client._coordinator.fetch_committed_offsets(asked, timeout_ms=5_000)
        return {Partition(*tp): position.offset for tp, position in told.items() if position.offset >= 0}

    def close(self) -> None:
        """Leave the group."""
        self._client.close(autocommit=False, timeout_ms=3_000)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Holds back what is assigned, and passes the news on."""

    def __init__(
        self,
        client: KafkaConsumer,
        assigned: Callable[[Collection[Partition]], None],
        gone: Callable[[Collection[Partition]], None],
    ) -> None:
        self._client, self._assigned, self._gone = client, assigned, gone

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        for tp in assigned:
            self._client.pause(tp)
            self._client.seek(tp, 0)  # any position: without one the client would ask Kafka for its own
        self._assigned([Partition(*tp) for tp in assigned])

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._gone([Partition(*tp) for tp in revoked])

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        self._gone([Partition(*tp) for tp in lost])
