"""A topic, a database and ingest processes of one's own for each test."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from barwright import sql
from barwright.ingest import consume, kafka
from barwright.ingest.batch import Batch
from barwright.ingest.claims import Chunk, Claim
from barwright.ingest.store import Clock, Store
from barwright.ingest.ticks import Window
from barwright.settings import Settings
from tests.ingest.messages import TOPIC_ID, encode
from tests.services import Server

# Above a test, or as a file's pytestmark: by either client whenever the test runs.
BOTH = pytest.mark.parametrize("world", ["kafka-python", "confluent"], indirect=True)


class World:
    """The servers, this test's settings, and what tests do with them."""

    def __init__(self, database: str, brokers: str, redis: str, logs: Path, client: str = "kafka-python") -> None:
        name = uuid4().hex[:8]
        self.settings = Settings(
            database_url=database, kafka_bootstrap_servers=brokers, redis_url=redis, group=f"test-{name}",
            tick_topic=f"ticks-{name}", tick_partitions=4, dynamic_pattern=f"^dynamic-{name}-.*",
            kafka_client=client,
        )  # fmt: skip
        self.dynamic = f"dynamic-{name}-"
        self.logs = logs
        self._producer: Any = None
        self.processes: list[subprocess.Popen[bytes]] = []
        self.threads: list[tuple[threading.Thread, threading.Event]] = []

    def topic(self, name: str | None = None, partitions: int = 4) -> str:
        """Make a topic."""
        name = name or self.settings.tick_topic
        kafka.ensure_topic(self.settings, name, partitions)
        return name

    def send(self, *messages: Any, topic: str | None = None, partition: int | None = 0) -> None:
        """Produce records and wait until they are there; bytes go as they are."""
        for future in [self.send_later(message, topic, partition) for message in messages]:
            future.get(timeout=30)

    def send_later(self, message: Any, topic: str | None = None, partition: int | None = 0) -> Any:
        """Produce a record; returns what will say that it is there."""
        value = message if isinstance(message, bytes | None) else encode(message)
        return self.producer().send(topic or self.settings.tick_topic, value=value, partition=partition, key=b"k")

    def producer(self) -> Any:
        """The one producer of this test."""
        self._producer = self._producer or kafka.producer(self.settings, linger_ms=5)
        return self._producer

    def send_at_once(self, topic: str, *messages: bytes, abort: bool) -> None:
        """Produce records to partition 0 in a transaction, or take them back; either leaves a control record."""
        with closing(kafka.producer(self.settings, transactional_id=topic)) as producer:
            producer.init_transactions()
            producer.begin_transaction()
            for message in messages:
                producer.send(topic, value=message, partition=0)
            producer.flush()
            producer.abort_transaction() if abort else producer.commit_transaction()

    def start(self) -> threading.Event:
        """Ingest in a thread; returns the event that stops it."""
        stop = threading.Event()
        thread = threading.Thread(target=consume.run, args=(self.settings, stop), daemon=True)
        thread.start()
        self.threads.append((thread, stop))
        return stop

    def stop(self) -> None:
        """Stop the threads and wait for them."""
        for _, stop in self.threads:
            stop.set()
        for thread, _ in self.threads:
            thread.join(60)
            assert not thread.is_alive()
        self.threads.clear()

    def spawn(self, role: str = "ingest", **variables: str) -> subprocess.Popen[bytes]:
        """A role in a process, as an operator starts it."""
        settings = self.settings
        environment = os.environ | {
            "DATABASE_URL": settings.database_url, "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
            "REDIS_URL": settings.redis_url, "BARWRIGHT_GROUP": settings.group, "BARWRIGHT_LOG_FORMAT": "json",
            "BARWRIGHT_TICK_TOPIC": settings.tick_topic, "BARWRIGHT_DYNAMIC_PATTERN": settings.dynamic_pattern,
            "BARWRIGHT_TICK_PARTITIONS": str(settings.tick_partitions), "BARWRIGHT_HOME": str(self.logs),
            "KAFKA_CLIENT": settings.kafka_client,
        }  # fmt: skip
        with (self.logs / f"{role}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "barwright", role], env=environment | variables, stdout=log, stderr=log
            )
        self.processes.append(process)
        return process

    def query(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        """Rows of a query."""
        with psycopg.connect(self.settings.database_url, row_factory=dict_row) as connection:
            connection.execute("set search_path = barwright")
            return connection.execute(statement, values or None).fetchall()  # type: ignore[arg-type]

    def one(self, statement: str, *values: Any) -> Any:
        """The one value of a query."""
        (row,) = self.query(statement, *values)
        (value,) = row.values()
        return value

    def close(self) -> None:
        """Leave nothing running."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        self.stop()
        if self._producer:
            self._producer.close(timeout=1)
            self._producer = None
        # kafka-python leaves sockets open when a broker dies; what is collected here troubles no later test.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


def claim_of(store: Store, position: int = 0) -> Claim:
    """A claim on partition 0 of topic t, as session.py makes it."""
    names = {"topic": "t", "partition": 0, "topic_id": TOPIC_ID}
    row = store.connection.execute(sql.queries("ingest")["claim"], names).fetchone()
    assert row is not None
    assert row[0] == position
    return Claim("t", 0, TOPIC_ID, row[1], row[0])


def batch_of(store: Store, claim: Claim, *messages: Any) -> Batch:
    """A batch of one record for each message, from the claim's position."""
    batch = Batch(store.rules, Window(0, 2**60))
    records = [(claim.next + n, encode(message)) for n, message in enumerate(messages)]
    batch.add(Chunk(claim, claim.next, records), 10**9)
    assert store.register(batch)
    return batch


@pytest.fixture
def stores(database: str) -> Iterator[list[Store]]:
    """Two writers' connections."""
    made = [Store(database, Clock(), {}) for _ in range(2)]
    yield made
    for store in made:
        store.close()


@pytest.fixture(params=["kafka-python", pytest.param("confluent", marks=pytest.mark.slow)])
def world(
    request: pytest.FixtureRequest, database: str, kafka: Server, valkey: Server, tmp_path: Path
) -> Iterator[World]:
    """See World. By both clients; those tests that are to be so in the default run name them (BOTH)."""
    made = World(database, kafka.url, valkey.url, tmp_path, request.param)
    yield made
    made.close()


def eventually(check: Callable[[], Any], want: Any, seconds: float = 20) -> None:
    """Wait until a check gives what is wanted."""
    deadline = time.monotonic() + seconds
    while (found := check()) != want:
        if time.monotonic() > deadline:
            assert found == want
        time.sleep(0.05)
