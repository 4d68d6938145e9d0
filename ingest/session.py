"""One membership of a consumer group: takes partitions over, reads them, and hands their records to the writers."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Final
from uuid import UUID

import psycopg
import structlog

from barwright import sql
from barwright.errors import BarwrightError
from barwright.ingest import kafka, metrics
from barwright.ingest.claims import Chunk, Claim
from barwright.ingest.decoders import decoders_of
from barwright.ingest.kafka import KafkaError, OutOfRangeError, Partition
from barwright.ingest.states import Topic
from barwright.ingest.takeover import behind, move, renew_epoch, take_all
from barwright.ingest.writer import Shared, Writer

log = structlog.get_logger()
# Seconds: how long one poll may wait; how often is looked after what no record brings; how often Kafka's lag tools are
# told; how long a partition with records may stand still, or the fixed topic be missing, before something is done.
POLL: Final = 0.1
TICK: Final = 0.5
TELL: Final = 5.0
PATIENCE: Final = 15.0


class StuckError(BarwrightError):
    """The client has stopped fetching a partition that has records; a new consumer reads on."""


class Session:
    """Holds claims on what is assigned to this member. For one thread, but for the two callbacks of the client."""

    def __init__(self, shared: Shared, writers: list[Writer], group: str, topic: str = "", pattern: str = "") -> None:
        self.shared, self.writers, self.topic = shared, writers, topic
        self._lock = threading.Lock()
        self._claims: dict[Partition, Claim] = {}
        self._homes: dict[Partition, Writer] = {}
        # Assigned, but without a position yet. The client's thread adds to it.
        self._waiting: set[Partition] = set()
        self._paused: set[Partition] = set()
        self._seen: dict[Partition, int] = {}
        self._told: dict[Partition, int] = {}
        self._ends: dict[Partition, int] = {}
        now = time.monotonic()
        self._tick_at, self._tell_at, self._watch_at, self._settle_at = now, now, now + PATIENCE, now
        self._missing_since: float | None = None
        if topic:
            self._ensure_topic()
        self._decoders = decoders_of(shared.settings.decoders)
        if topic and pattern:
            # The client takes names or a pattern. What the other group reads is never read twice.
            pattern = f"(?!{shared.settings.dynamic_pattern})(?:{re.escape(topic)}$|{pattern})"
        topics = [topic] if topic and not pattern else []
        membership = kafka.Membership(group, topics, pattern or None, self._assigned, self._gone)
        self.consumer = kafka.member(shared.settings, membership)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        """Drop what is in hand and leave the group."""
        self._gone(list(self._claims))
        self.consumer.close()

    def step(self) -> None:
        """Poll once and do what is due. Raises KafkaError, StuckError."""
        if self._waiting:
            self._settle()
        if self._paused or any(writer.full for writer in self.writers):
            self._throttle()
        try:
            # While something is paused, look often whether there is room again.
            found = self.consumer.poll(0.005 if self._paused else POLL)
        except OutOfRangeError as error:
            self._release(error.partitions)
            return
        for partition, records in found.items():
            self._hand(partition, records)
        if time.monotonic() >= self._tick_at:
            self._tick()

    def _hand(self, partition: Partition, records: list[tuple[int, bytes | None]]) -> None:
        """Queue records for the partition's writer, unless the claim they were read under has ended."""
        claim = self._claims.get(partition)
        if claim is None:
            return
        if self.consumer.topic_id(partition.topic) != claim.topic_id:
            self._release([partition])
            return
        if records[0][0] < claim.next:
            records = [record for record in records if record[0] >= claim.next]
        if records and claim.doubts(records[0][0]):
            self._read_from(partition, claim)
        elif records:
            chunk = Chunk(claim, claim.next, records)
            claim.next = chunk.end
            self._homes[partition].put(chunk)

    def _throttle(self) -> None:
        """Pause the partitions whose writer has enough, resume those whose writer has room. Polling goes on."""
        full = {partition for partition in list(self._claims) if self._homes[partition].full}
        self.consumer.pause(full - self._paused)
        self.consumer.resume(self._paused - full - self._waiting)
        self._paused = full

    def _tick(self) -> None:
        """What no record brings: claims lost in the database, topics made again, lag tools, a client that is stuck."""
        now = time.monotonic()
        self._tick_at = now + TICK
        gone = [partition for partition, claim in list(self._claims.items()) if claim.lost or self._is_renewed(claim)]
        if gone:
            self._release(gone)
        if now >= self._tell_at:
            self._tell()
            self._look_ahead()
        if now >= self._watch_at:
            self._watch()
        self._look_for_topic(now)

    def _is_renewed(self, claim: Claim) -> bool:
        """Whether the claim's topic was deleted and made again."""
        topic_id = self.consumer.topic_id(claim.topic)
        return topic_id is not None and topic_id != claim.topic_id

    def _tell(self) -> None:
        """Positions for Kafka's lag tools, after they are committed."""
        self._tell_at = time.monotonic() + TELL
        landed = {partition: claim.landed for partition, claim in list(self._claims.items()) if claim.landed}
        news = dict(landed.items() - self._told.items())
        if news:
            self.consumer.commit(news)
        self._told = landed

    def _look_ahead(self) -> None:
        """How far the logs of paused partitions have grown, of which the client hears nothing while it fetches none."""
        with suppress(KafkaError):
            self._ends = self.consumer.ends(self._paused) if self._paused else {}

    def lag(self) -> int:
        """Records of the partitions held here that are not committed; from any thread."""
        lag = 0
        for partition, claim in list(self._claims.items()):
            end = max(self.consumer.end_of(partition), self._ends.get(partition, 0))
            lag += max(0, end - (claim.landed or claim.begun))
        return lag

    def counts(self) -> dict[str, int]:
        """How many partitions are read, paused, or without a position yet; from any thread."""
        paused, waiting = len(self._paused), len(self._waiting)
        return {"reading": max(0, len(self._claims) - paused), "paused": paused, "waiting": waiting}

    def _watch(self) -> None:
        """Raise StuckError where a partition stands still though its log has grown (kafka-python #3131)."""
        self._watch_at = time.monotonic() + PATIENCE
        reading = [p for p in list(self._claims) if p not in self._paused]
        positions = self.consumer.positions(reading)
        still = [p for p, position in positions.items() if self._seen.get(p) == position]
        for partition, (_, end) in self.consumer.bounds(still).items() if still else ():
            if end > positions[partition]:
                raise StuckError(f"{partition} stands still at {positions[partition]} of {end}.")
        self._seen = positions

    def _look_for_topic(self, now: float) -> None:
        """Make the fixed topic again some time after it was deleted."""
        if not self.topic or self.consumer.topic_id(self.topic) is not None:
            self._missing_since = None
        elif self._missing_since is None:
            self._missing_since = now
        elif now - self._missing_since > PATIENCE:
            self._ensure_topic()
            self._missing_since = None

    def _ensure_topic(self) -> None:
        settings = self.shared.settings
        if kafka.ensure_topic(settings, self.topic, settings.tick_partitions):
            log.info("made the topic", topic=self.topic, partitions=settings.tick_partitions)

    def _assigned(self, partitions: Collection[Partition]) -> None:
        """News from the client's thread."""
        with self._lock:
            self._waiting.update(partitions)

    def _gone(self, partitions: Collection[Partition]) -> None:
        """News from the client's thread: what is in hand of these is dropped, never flushed."""
        with self._lock:
            self._waiting.difference_update(partitions)
            self._paused.difference_update(partitions)
            for partition in partitions:
                if claim := self._claims.pop(partition, None):
                    claim.lose()

    def _release(self, partitions: Collection[Partition]) -> None:
        """Give up claims on partitions that are still assigned: they are taken over again."""
        self.consumer.pause(partitions)
        with self._lock:
            self._paused.difference_update(partitions)
            for partition in partitions:
                if claim := self._claims.pop(partition, None):
                    claim.lose()
            self._waiting.update(partitions)

    def _settle(self) -> None:
        """Take over what waits for a position; a database or broker that is away is asked again later."""
        if time.monotonic() < self._settle_at:
            return
        topics = {partition: self.consumer.topic_id(partition.topic) for partition in list(self._waiting)}
        try:
            self._take_over({partition: topic_id for partition, topic_id in topics.items() if topic_id is not None})
        except (psycopg.Error, KafkaError) as error:
            log.warning("partitions wait for their positions", error=str(error).strip())
            self._settle_at = time.monotonic() + random.uniform(0.2, 1.0)
        else:
            self._settle_at = time.monotonic() + (0.2 if self._waiting else 0)

    def _take_over(self, topics: dict[Partition, UUID]) -> None:
        """Fence off who had these partitions, read their positions, start there. Raises psycopg.Error, KafkaError."""
        if not topics:
            return
        with sql.connect(self.shared.settings.database_url, "ingest", autocommit=True) as connection:
            taken = take_all(connection, topics, self._decoders, [writer.backend for writer in self.writers])
            if gone_back := behind(taken, self.consumer.committed(taken)):
                renew_epoch(connection, gone_back)
                # Told at once, so that the next to take them over finds nothing behind.
                self.consumer.commit(gone_back)
            # Asked after the claim: from now on nobody else moves the position.
            for partition, (start, end) in self.consumer.bounds(taken).items():
                claim = taken[partition].claim
                if not start <= claim.next <= end:
                    move(connection, taken[partition], start if claim.next < start else end)
                    self.consumer.commit({partition: claim.next})
        for partition, one in taken.items():
            self._start(partition, one.claim)

    def _start(self, partition: Partition, claim: Claim) -> None:
        if not self.topic:
            claim.state = Topic(partition.topic)
        claim.begun = claim.next
        homes = [self._homes[p] for p in list(self._claims)]
        with self._lock:
            if partition not in self._waiting:
                claim.lose()
                return
            self._homes[partition] = min(self.writers, key=homes.count)
            self._claims[partition] = claim
            self._waiting.discard(partition)
        metrics.TAKEOVERS[metrics.topics_of(bool(self.topic))].inc()
        if self._read_from(partition, claim) and claim.state:
            claim.state.send("subscribed")

    def _read_from(self, partition: Partition, claim: Claim) -> bool:
        """Put the client where the claim stands; False where the partition is no longer ours."""
        is_ours = self.consumer.start_at(partition, claim.next)
        if not is_ours:
            self._gone([partition])
        return is_ours
