"""What a member by confluent-kafka asks brokers of topics: which there are, their ids, where their logs begin and end.

librdkafka knows no Python patterns, nor tells that a topic was made again.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Final
from uuid import UUID

import tenacity
from confluent_kafka import IsolationLevel, KafkaException, TopicCollection, TopicPartition
from confluent_kafka import KafkaError as Code
from confluent_kafka.admin import AdminClient, OffsetSpec

from barwright.ingest.kafka import METADATA_MS, KafkaError, Partition

# Seconds that an answer of a broker may take.
PATIENCE: Final = 5.0
_MASK: Final = 2**64 - 1


# A new topic has no leader for a moment. kafka-python asks again by itself.
_AGAIN: Final = tenacity.Retrying(
    retry=tenacity.retry_if_exception(lambda error: isinstance(error, KafkaException) and error.args[0].retriable()),
    wait=tenacity.wait_fixed(0.1), stop=tenacity.stop_after_delay(PATIENCE), reraise=True,
)  # fmt: skip


class ClientError(KafkaError):  # type: ignore[misc]
    """What librdkafka says went wrong, as an error that the group's loop knows: it joins again."""


@contextmanager
def translated() -> Iterator[None]:
    """Raise librdkafka's errors as ClientError."""
    try:
        yield
    except KafkaException as error:
        raise ClientError(str(error)) from error


class Topics(threading.Thread):
    """Looks every METADATA_MS which topics there are of those wanted, and what their ids are."""

    def __init__(self, admin: AdminClient, names: list[str], pattern: str | None) -> None:
        super().__init__(name="topics", daemon=True)
        self._admin, self._fixed, self._pattern = admin, names, re.compile(pattern) if pattern else None
        self.names, self.ids = names, dict[str, UUID]()
        self.heard = time.monotonic()  # when a broker last answered
        self._over, self._lock = threading.Event(), threading.Lock()

    def run(self) -> None:
        """Look until closed; a broker that is away is asked again."""
        while not self._over.is_set():
            self.look()
            self._over.wait(METADATA_MS / 1000)

    def look(self) -> None:
        """Look now; what was known stays where no broker answers."""
        with self._lock, suppress(KafkaException):
            self._look()

    def _look(self) -> None:
        names = self._fixed
        if self._pattern:
            there = self._admin.list_topics(timeout=PATIENCE).topics
            names = sorted(filter(self._pattern.match, there))
        self.ids = dict(self._identified(names))
        self.names = names
        self.heard = time.monotonic()

    def _identified(self, names: list[str]) -> Iterator[tuple[str, UUID]]:
        if not names:
            return
        for name, answer in self._admin.describe_topics(TopicCollection(names), request_timeout=PATIENCE).items():
            try:
                told = answer.result().topic_id
            except KafkaException as error:
                if error.args[0].code() != Code.UNKNOWN_TOPIC_OR_PART:
                    raise
            else:
                high, low = told.get_most_significant_bits() & _MASK, told.get_least_significant_bits() & _MASK
                yield name, UUID(int=high << 64 | low)

    def offsets(self, partitions: Collection[Partition], spec: OffsetSpec) -> dict[Partition, int]:
        """The first or last offsets of logs. Raises ClientError."""
        if not partitions:
            return {}
        asked = {TopicPartition(*partition): spec for partition in partitions}
        with translated():
            return _AGAIN(self._asked, asked)

    def _asked(self, asked: dict[TopicPartition, OffsetSpec]) -> dict[Partition, int]:
        told = self._admin.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=PATIENCE)
        return {Partition(tp.topic, tp.partition): answer.result().offset for tp, answer in told.items()}

    def close(self) -> None:
        """Look no more."""
        self._over.set()
        self.join(PATIENCE)
