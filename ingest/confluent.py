"""A group's member by confluent-kafka (librdkafka): where each message holds one tick, ingest takes 2.4 us of CPU for
it, not 8.7 (docs/decisions.md); where it holds a hundred, on a machine half as fast, 4.1, not 5.7 (bench/README.md).

An extra, `barwright[fast]`: chosen by KAFKA_CLIENT=confluent.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Final
from uuid import UUID

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka import KafkaError as Code
from confluent_kafka.admin import AdminClient, OffsetSpec

from barwright.ingest.confluent_topics import PATIENCE, ClientError, Topics, translated
from barwright.ingest.kafka import (
    FETCH_BYTES,
    METADATA_MS,
    MOST_RECORDS,
    PARTITION_BYTES,
    Membership,
    OutOfRangeError,
    Partition,
    demand_broker,
)
from barwright.links.kafka import librdkafka
from barwright.settings import Settings

_OUT: Final = {Code._AUTO_OFFSET_RESET, Code.OFFSET_OUT_OF_RANGE, Code._NO_OFFSET}
# Errors of the client's own that joining again mends, or explains.
_JOIN: Final = {Code._MAX_POLL_EXCEEDED, Code._AUTHENTICATION}
# Seconds that leaving the group may take.
LEAVING: Final = 3.0
# Seconds in which neither any broker nor the group has answered, after which a new client begins. librdkafka that was
# told once that there are no brokers, as one says that stood still and was fenced, asks nobody ever again (its #5301).
SILENCE: Final = 15.0


class Member:
    """See kafka.Consumer. The callbacks run on the thread that polls."""

    def __init__(self, settings: Settings, membership: Membership) -> None:
        demand_broker(settings)  # librdkafka would wait in silence
        self._assigned, self._gone = membership.assigned, membership.gone
        # Where each partition that is assigned was sought, None until it is; what is paused; ends without a record.
        self._held: dict[Partition, int | None] = {}
        self._paused: set[Partition] = set()
        self._eof: dict[Partition, int] = {}
        self._out: set[Partition] = set()
        self._failure: ClientError | None = None
        # Since when the group owes us an assignment.
        self._owed: float | None = None
        self._lock, self._closed = threading.Lock(), False
        client = f"barwright-{membership.group}"
        common = librdkafka(settings) | {"client.id": client, "error_cb": self._fail, "log_level": 0}
        self._client = Consumer(
            common
            | {
                "group.id": membership.group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "allow.auto.create.topics": False,
                # Eager and even, by the name that kafka-python's members know it by too.
                "partition.assignment.strategy": "roundrobin",
                "topic.metadata.refresh.interval.ms": METADATA_MS,
                "fetch.max.bytes": FETCH_BYTES,
                "max.partition.fetch.bytes": PARTITION_BYTES,
                "queued.max.messages.kbytes": 2 * FETCH_BYTES // 1024,
                # Its default of 1,000 stalls a consumer that fills its queue: 0.4 M instead of 1.8 M records/s.
                "fetch.queue.backoff.ms": 5,
                # One request at a time is under way to a broker: at its default of 500 a partition that is read again
                # may wait that long for one that only asks of others, which have nothing new.
                "fetch.wait.max.ms": 100,
                "fetch.error.backoff.ms": 100,
                "reconnect.backoff.max.ms": 2_000,
                "session.timeout.ms": 6_000,
                "heartbeat.interval.ms": 2_000,
                # The end of a log where control records are last.
                "enable.partition.eof": True,
            }
        )
        self._topics = Topics(AdminClient(common), list(membership.topics), membership.pattern)
        self._subscribed: list[str] = []
        self._topics.start()

    def poll(self, timeout: float) -> Mapping[Partition, list[tuple[int, bytes | None]]]:
        """See kafka.Consumer."""
        self._raise()
        with translated():
            self._follow()
            first = self._client.poll(timeout)
            if first is None:
                self._demand_answer()
                return {}
            messages = (first, *self._client.consume(MOST_RECORDS - 1, 0))
        found: dict[tuple[str, int], list[tuple[int, bytes | None]]] = {}
        for message in messages:
            if message.error() is not None:
                self._note(message)
                continue
            key = (message.topic(), message.partition())
            record = (message.offset(), message.value())
            if key in found:
                found[key].append(record)
            else:
                found[key] = [record]
        return {Partition(*key): records for key, records in found.items()}

    def _follow(self) -> None:
        """Subscribe to the topics there are; librdkafka's patterns are no Python patterns (no lookahead)."""
        if (names := self._topics.names) == self._subscribed:
            return
        if names:
            self._client.subscribe(names, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)
        else:
            self._client.unsubscribe()  # it refuses to subscribe to nothing
        self._subscribed, self._owed = names, time.monotonic()

    def _raise(self) -> None:
        if self._failure:
            raise self._failure
        if self._out:
            out, self._out = self._out, set()
            self._topics.look()  # perhaps the topic was made again
            raise OutOfRangeError(out)

    def _demand_answer(self) -> None:
        """ClientError where nobody has answered for so long that this client may never ask again."""
        owed = self._owed if self._owed is not None and self._subscribed else math.inf
        if time.monotonic() - min(owed, self._topics.heard) > SILENCE:
            raise ClientError(f"Neither a broker nor the group has answered for {SILENCE:.0f} s.")

    def _note(self, message: Message) -> None:
        """An event in place of a record."""
        partition, error = Partition(message.topic() or "", message.partition() or 0), message.error()
        if error.code() == Code._PARTITION_EOF:
            self._eof[partition] = message.offset()
        elif error.code() in _OUT:
            # Where nobody has started it, it was fetched from 0 before it was paused, and its log begins later.
            if self._held.get(partition) is not None:
                self._out.add(partition)
        else:
            self._fail(error)

    def _fail(self, error: Code) -> None:
        """Keep an error that waiting does not mend; brokers that are away, or topics, come back."""
        waits = error.retriable() or (error.code() < 0 and error.code() not in _JOIN) or "UNKNOWN_TOPIC" in error.name()
        if error.fatal() or not waits:
            self._failure = ClientError(error.str())

    def _on_assign(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        # A number, so that no position is asked for. Assigned at the end, a partition that was then started at 0 stood
        # at its end all the same, its records unread: in 1 of 233 members on a busy machine.
        client.assign([TopicPartition(p.topic, p.partition, 0) for p in partitions])
        client.pause(partitions)
        self._owed = None
        self._held = {Partition(p.topic, p.partition): None for p in partitions}
        self._paused = set(self._held)
        self._assigned(list(self._held))

    def _on_revoke(self, client: Consumer, _: list[TopicPartition]) -> None:
        client.unassign()
        self._owed = time.monotonic()
        gone, self._held = list(self._held), {}
        self._paused.clear()
        self._eof.clear()
        self._out.clear()
        self._gone(gone)

    def topic_id(self, topic: str) -> UUID | None:
        """See kafka.Consumer."""
        return self._topics.ids.get(topic)

    def assignment(self) -> set[Partition]:
        """See kafka.Consumer."""
        return set(self._held)

    def start_at(self, partition: Partition, offset: int) -> bool:
        """See kafka.Consumer."""
        if partition not in self._held:
            return False
        self._eof.pop(partition, None)
        self._out.discard(partition)
        try:
            self._seek(partition, offset)
        except KafkaException:
            # librdkafka fetches no more of a partition whose position was outside its log, nor seeks in it.
            try:
                self._assign_again(partition)
            except (KafkaException, ClientError) as error:
                self._failure = ClientError(str(error))
        self.resume([partition])
        return True

    def _assign_again(self, partition: Partition) -> None:
        self._held |= self.positions(set(self._held) - {partition})
        self._client.assign([TopicPartition(*p, at or 0) for p, at in self._held.items()])
        self._client.pause([TopicPartition(*p) for p in self._paused])

    def pause(self, partitions: Iterable[Partition]) -> None:
        """See kafka.Consumer."""
        if wanted := self.assignment().intersection(partitions) - self._paused:
            self._client.pause([TopicPartition(*partition) for partition in wanted])
            self._paused |= wanted

    def resume(self, partitions: Iterable[Partition]) -> None:
        """See kafka.Consumer."""
        if wanted := self.assignment().intersection(partitions) & self._paused:
            positions = self.positions(wanted)
            self._client.resume([TopicPartition(*partition) for partition in wanted])
            self._paused -= wanted
            # Where all was paused the thread that fetches sleeps to the end of its second, in spite of this: 0.3 s of
            # each in which nothing came. Only a seek wakes it up (librdkafka 2.16, rd_kafka_toppar_set_fetch_state).
            with suppress(KafkaException):
                for partition, position in positions.items():
                    self._seek(partition, position)

    def _seek(self, partition: Partition, offset: int) -> None:
        """Read from here; the client forgets what its position was."""
        self._held[partition] = offset
        self._client.seek(TopicPartition(*partition, offset))

    def bounds(self, partitions: Collection[Partition]) -> dict[Partition, tuple[int, int]]:
        """See kafka.Consumer."""
        starts, ends = self._topics.offsets(partitions, OffsetSpec.earliest()), self.ends(partitions)
        return {partition: (starts[partition], ends[partition]) for partition in partitions}

    def ends(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """See kafka.Consumer."""
        return self._topics.offsets(partitions, OffsetSpec.latest())

    def end_of(self, partition: Partition) -> int:
        """See kafka.Consumer."""
        with self._lock, suppress(KafkaException):
            # Of a client that is closed it must not be asked, not even while it closes.
            found = (
                None if self._closed else self._client.get_watermark_offsets(TopicPartition(*partition), cached=True)
            )
            return max(0, found[1]) if found else 0
        return 0

    def positions(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """See kafka.Consumer."""
        asked = [p for p in self.assignment().intersection(partitions) if self._held[p] is not None]
        with translated():
            told = {Partition(tp.topic, tp.partition): tp.offset for tp in
                    self._client.position([TopicPartition(*p) for p in asked])} if asked else {}  # fmt: skip
        return {p: max(told.get(p, 0), self._held[p] or 0, self._eof.get(p, 0)) for p in asked}

    def commit(self, positions: Mapping[Partition, int]) -> None:
        """See kafka.Consumer."""
        with suppress(KafkaException):
            self._client.commit(offsets=[TopicPartition(*p, offset) for p, offset in positions.items()])

    def committed(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """See kafka.Consumer."""
        with translated():
            told = self._client.committed([TopicPartition(*p) for p in partitions], timeout=PATIENCE)
        return {Partition(tp.topic, tp.partition): tp.offset for tp in told if tp.offset >= 0}

    def close(self) -> None:
        """See kafka.Consumer. librdkafka waits for a broker that is away; it is left to itself then."""
        with self._lock:
            self._closed = True
        self._topics.close()
        leaving = threading.Thread(target=self._client.close, daemon=True)
        leaving.start()
        leaving.join(LEAVING)
