"""How fast ticks go from Kafka into the database, against what its parts could do: COPY alone, and consumption alone.

Also what a tutorial would build (an INSERT a message, executemany), how long a tick takes to be seen, and memory.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import confluent_kafka
import msgspec
import psutil
from kafka import KafkaConsumer, TopicPartition

from barwright import sql
from barwright.ingest import kafka
from barwright.settings import Settings

START = datetime(2024, 3, 5, tzinfo=UTC)
SYMBOLS, PARTITIONS, BATCH = 50, 6, 10_000
# The names in results of what KAFKA_CLIENT may be; the first is what everything else is compared with.
CLIENTS = {"kafka-python": "", "confluent": "confluent_"}
COLUMNS = "ts, symbol, seq, price, size, side"
INSERT = f"insert into ticks ({COLUMNS}) values (%s, %s, %s, %s, %s, %s)"


def measure(dsn: str, brokers: str, redis_url: str, ticks: int = 600_000, rounds: int = 3) -> dict[str, Any]:
    """On an empty migrated database. Ticks/s, ratios, milliseconds, megabytes; medians of the rounds."""
    settings = Settings(database_url=dsn, kafka_bootstrap_servers=brokers, redis_url=redis_url)
    result: dict[str, Any] = {"ticks": ticks, "bytes_per_tick": len(msgspec.json.encode(message(0)))}
    with sql.connect(dsn, "bench", autocommit=True) as connection:
        row = connection.execute("select engine from meta").fetchone()
        result["engine"] = row and row[0]
        connection.execute("select prepare_ticks(array[%s, %s])", (START, datetime.now(UTC)))
        result["copy_limit"] = copy_limit(settings, connection, ticks)
        result["insert_each"] = insert_each(connection, 2_000)
        result["executemany"] = executemany(connection, 20_000)
        for together in (1, 100):
            result[f"ticks_per_message_{together}"] = pipeline(settings, connection, ticks, together, rounds, result)
        result["latency_ms"] = latency(settings, connection)
    return result


def message(n: int) -> dict[str, Any]:
    """The n-th tick, as an exchange's feed would send it."""
    ts = START + timedelta(microseconds=n * 50_000)
    return {
        "type": "trade", "symbol": f"SYM{n % SYMBOLS}USD", "ts": f"{ts:%Y-%m-%dT%H:%M:%S.%f}Z",
        "id": str(7_000_000 + n),
        "price": f"{8500 + n % 1000 * 0.01:.2f}", "size": f"0.{1 + n % 9999:04}", "side": "buy" if n % 2 else "sell",
    }  # fmt: skip


def rows(first: int, last: int) -> list[tuple[str, str, str, str, str, str]]:
    """The same ticks as rows."""
    found = (message(n) for n in range(first, last))
    return [(m["ts"], m["symbol"], m["id"], m["price"], m["size"], m["side"][0]) for m in found]


def copy_limit(settings: Settings, connection: Any, ticks: int, writers: int = 1) -> int:
    """Rows/s of COPY alone: prebuilt text, a transaction for each batch, by so many connections at once."""
    batches = [
        "".join("\t".join(row) + "\n" for row in rows(first, first + BATCH)).encode()
        for first in range(0, ticks, BATCH)
    ]
    with ExitStack() as stack:
        connections = [
            stack.enter_context(sql.connect(settings.database_url, "bench", autocommit=True)) for _ in range(writers)
        ]
        pool = stack.enter_context(ThreadPoolExecutor(writers))
        began = time.perf_counter()
        list(pool.map(_copy, connections, (batches[n::writers] for n in range(writers))))
        return round(ticks / _cleared(connection, began))


def _copy(connection: Any, batches: list[bytes]) -> None:
    for batch in batches:
        with connection.transaction(), connection.cursor().copy(f"copy ticks ({COLUMNS}) from stdin") as copy:
            copy.write(batch)


def insert_each(connection: Any, ticks: int) -> int:
    """Rows/s of one INSERT and one commit for each message."""
    prepared = rows(0, ticks)
    began = time.perf_counter()
    for row in prepared:
        connection.execute(INSERT, row)
    return round(ticks / _cleared(connection, began))


def executemany(connection: Any, ticks: int) -> int:
    """Rows/s of executemany with 1,000 rows."""
    prepared = rows(0, ticks)
    began = time.perf_counter()
    for first in range(0, ticks, 1000):
        with connection.transaction():
            connection.cursor().executemany(INSERT, prepared[first : first + 1000])
    return round(ticks / _cleared(connection, began))


def pipeline(
    settings: Settings, connection: Any, ticks: int, together: int, rounds: int, parts: dict[str, Any]
) -> dict[str, Any]:
    """The whole way with so many ticks in a message, one process and two, and what it is compared with.

    Each round measures everything once, so that a machine that slows down slows all of it.
    """
    topic = f"bench-{together}-{os.getpid()}"
    kafka.ensure_topic(settings, topic, PARTITIONS)
    fill(settings, topic, ticks, together)
    found = [_round(settings, connection, topic, ticks, together) for _ in range(rounds)]
    bare = [f"{prefix}bare_consumption" for prefix in CLIENTS.values()]
    limits = ("copy_limit", "copy_limit_of_two", *bare)
    result: dict[str, Any] = {name: _median(found, lambda r, n=name: r[n]) for name in limits}
    # What the second core is worth to the database alone.
    result["copy_by_two_of_one"] = _median(found, lambda r: r["copy_limit_of_two"] / r["copy_limit"])
    for processes in (f"{prefix}processes_{count}" for prefix in CLIENTS.values() for count in (1, 2)):
        rate = _median(found, lambda r, p=processes: r[p])
        result[processes] = {
            "ticks_per_s": rate,
            "of_copy_limit": _median(found, lambda r, p=processes: r[p] / r["copy_limit"]),
            "of_bare_consumption": _median(found, lambda r, p=processes: r[p] / r["bare_consumption"]),
            "times_insert_each": round(rate / parts["insert_each"], 1),
            "times_executemany": round(rate / parts["executemany"], 1),
            "peak_memory_mb": max(r[f"{processes}_mb"] for r in found),
        }
    return result


def _round(settings: Settings, connection: Any, topic: str, ticks: int, together: int) -> dict[str, float]:
    found: dict[str, float] = {
        "copy_limit": copy_limit(settings, connection, ticks),
        "copy_limit_of_two": copy_limit(settings, connection, ticks, 2),
    }
    for client, prefix in CLIENTS.items():
        bare = consume_bare if client == "kafka-python" else consume_bare_confluent
        found[f"{prefix}bare_consumption"] = bare(settings, topic, ticks // together) * together
        chosen = settings.model_copy(update={"kafka_client": client})
        for count in (1, 2):
            name = f"{prefix}processes_{count}"
            found[name], found[f"{name}_mb"] = consumed(chosen, connection, topic, ticks, count)
    return found


def _median(rounds: list[dict[str, float]], value: Callable[[dict[str, float]], float]) -> float:
    middle = statistics.median(value(one) for one in rounds)
    return round(middle) if middle > 100 else round(middle, 2)


def fill(
    settings: Settings, topic: str, ticks: int, together: int, tick: Callable[[int], dict[str, Any]] = message
) -> None:
    """Put the ticks into a topic."""
    producer = kafka.producer(settings, linger_ms=50, batch_size=512 * 1024)
    for first in range(0, ticks, together):
        found = [tick(n) for n in range(first, first + together)]
        value = msgspec.json.encode(found if together > 1 else found[0])
        future = producer.send(topic, value=value, key=b"k", partition=first // together % PARTITIONS)
        if first % 50_000 == 0:
            future.get(timeout=60)
    producer.flush()
    producer.close()


def consume_bare(settings: Settings, topic: str, records: int) -> int:
    """Records/s that the Kafka client delivers to someone who drops them."""
    consumer = KafkaConsumer(bootstrap_servers=settings.kafka_bootstrap_servers, max_poll_records=2_000)
    consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
    consumer.seek_to_beginning()
    seen = first = 0
    began = 0.0
    while seen < records:
        seen += sum(len(found) for found in consumer.poll(1000).values())
        if not began and seen:
            began, first = time.perf_counter(), seen
    rate = (seen - first) / (time.perf_counter() - began)
    consumer.close()
    return round(rate)


def consume_bare_confluent(settings: Settings, topic: str, records: int) -> int:
    """The same by librdkafka; offset and value become Python objects, as kafka-python makes them."""
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": f"bare-{topic}", "fetch.queue.backoff.ms": 5,
        "enable.auto.commit": False,
    })  # fmt: skip
    consumer.assign([confluent_kafka.TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    seen = first = 0
    began = 0.0
    while seen < records:
        seen += len([(found.offset(), found.value()) for found in consumer.consume(2_000, 0.1) if not found.error()])
        if not began and seen:
            began, first = time.perf_counter(), seen
    rate = (seen - first) / (time.perf_counter() - began)
    consumer.close()
    return round(rate)


@contextmanager
def ingesting(settings: Settings, topic: str, processes: int, group: str) -> Iterator[list[psutil.Process]]:
    """Ingest processes, as an operator starts them."""
    environment = os.environ | {
        "DATABASE_URL": settings.database_url, "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "REDIS_URL": settings.redis_url, "BARWRIGHT_TICK_TOPIC": topic, "BARWRIGHT_GROUP": group,
        "BARWRIGHT_DYNAMIC_PATTERN": f"^none-{group}$", "BARWRIGHT_LOG_LEVEL": "WARNING",
        "KAFKA_CLIENT": settings.kafka_client,
    }  # fmt: skip
    command = [sys.executable, "-m", "barwright", "ingest"]
    started = [subprocess.Popen(command, env=environment) for _ in range(processes)]
    try:
        yield [psutil.Process(process.pid) for process in started]
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()


def consumed(
    settings: Settings, connection: Any, topic: str, ticks: int, processes: int, keep: bool = False
) -> tuple[int, int]:
    """Committed ticks/s of so many processes, and the peak memory of the largest in MB. `keep` leaves the rows."""
    group = f"bench-{topic}-{uuid4().hex[:6]}"
    total = "select coalesce(sum(rows), 0)::bigint from ingest_offset where topic = %s"
    connection.execute("delete from ingest_offset where topic = %s", (topic,))
    memory = done = first = 0
    began = before = 0.0
    with ingesting(settings, topic, processes, group) as running:
        while done < ticks:
            before = before if done else time.perf_counter()
            time.sleep(0.02)
            done = connection.execute(total, (topic,)).fetchone()[0]
            memory = max(memory, *(process.memory_info().rss for process in running))
            if not began and done:
                # What was there at first sight is not counted; but where that was all, so is the wait for it.
                began, first = (time.perf_counter(), done) if done < ticks else (before, 0)
        rate = (done - first) / (time.perf_counter() - began)
    if not keep:
        _cleared(connection, began)
    return round(rate), round(memory / 2**20)


def latency(settings: Settings, connection: Any, count: int = 300) -> dict[str, float]:
    """From producing a live trade (no linger) to its being seen in ohlcv_1m, on a quiet system."""
    topic = f"bench-latency-{os.getpid()}"
    kafka.ensure_topic(settings, topic, PARTITIONS)
    found = []
    producer = kafka.producer(settings, linger_ms=0)
    view = (
        "select coalesce(sum(trades), 0) from ohlcv_1m where symbol = 'LATENCY' and bucket > now() - interval '1 hour'"
    )
    with ingesting(settings, topic, 1, topic):
        for n in range(-20, count):
            now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
            trade = message(0) | {"symbol": "LATENCY", "id": str(n + 100), "ts": now}
            began = time.perf_counter()
            producer.send(topic, value=msgspec.json.encode(trade), key=b"LATENCY")
            while connection.execute(view).fetchone()[0] < n + 21:
                pass
            found.append((time.perf_counter() - began) * 1000)
            time.sleep(0.02)
    producer.close()
    warm = sorted(found[20:])
    return {"p50": round(statistics.median(warm), 1), "p99": round(warm[int(len(warm) * 0.99)], 1)}


def _cleared(connection: Any, began: float) -> float:
    """Seconds since `began`, after which everything is taken away again."""
    took = time.perf_counter() - began
    connection.execute("truncate ticks, late_range")
    return took


if __name__ == "__main__":
    given = Settings()
    print(
        msgspec.json.format(
            msgspec.json.encode(measure(given.database_url, given.kafka_bootstrap_servers, given.redis_url))
        ).decode()
    )
