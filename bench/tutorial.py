"""What a tutorial builds: a loop around a consumer that INSERTs, and bars that are asked of the ticks themselves."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from barwright.ingest import kafka
from barwright.settings import Settings
from bench import api, market
from bench.ingest import INSERT, PARTITIONS

MANY = 1_000  # rows of an executemany, as in `ingest.executemany`
RAW = """
select date_trunc('minute', ts) as bucket{symbol}, (array_agg(price order by ts, seq))[1] as open, max(price) as high,
       min(price) as low, (array_agg(price order by ts desc, seq desc))[1] as close, sum(size) as volume,
       sum(price * size) as quote_volume, count(*) as trades,
       coalesce(sum(size) filter (where side = 'b'), 0) as buy_volume
from ticks where {where} group by bucket{symbol} order by bucket
"""


def ingest(settings: Settings, connection: Any, topic: str, ticks: int, many: bool) -> float:
    """Ticks/s of the loop: json.loads, INSERT and commit of each tick, or (many) executemany of a thousand."""
    done, began, rows = 0, 0.0, []
    with _consumer(settings, topic) as consumer:
        for record in consumer:
            began = began or time.perf_counter()
            rows += [market.row(tick) for tick in json.loads(record.value)]
            if len(rows) >= MANY or not many:
                _insert(connection, rows, many)
                done, rows = done + len(rows), []
            if done >= ticks:
                break
        rate = done / (time.perf_counter() - began)
    connection.execute("truncate ticks, late_range")
    return rate


def _insert(connection: Any, rows: list[market.Row], many: bool) -> None:
    if many:
        with connection.transaction():
            connection.cursor().executemany(INSERT, rows)
    else:
        for row in rows:
            connection.execute(INSERT, row)


@contextmanager
def _consumer(settings: Settings, topic: str) -> Iterator[KafkaConsumer]:
    with closing(KafkaConsumer(bootstrap_servers=settings.kafka_bootstrap_servers)) as consumer:
        consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
        consumer.seek_to_beginning()
        yield consumer


def latency(settings: Settings, connection: Any, count: int) -> dict[str, float]:
    """Milliseconds from producing a tick to its being in a bar that is asked of the ticks: consumed and inserted by
    this thread, which waits for nothing else."""
    topic, found = f"bench-tutorial-{os.getpid()}", []
    kafka.ensure_topic(settings, topic, PARTITIONS)
    query = RAW.format(where="symbol = 'TUTORIAL' and ts > now() - interval '1 hour'", symbol="")
    with _consumer(settings, topic) as consumer, closing(kafka.producer(settings, linger_ms=0)) as producer:
        for n in range(count):
            now = market.shown(datetime.now(UTC))
            value = json.dumps([market.tick(0) | {"symbol": "TUTORIAL", "id": str(n), "ts": now}]).encode()
            began = time.perf_counter()
            producer.send(topic, value=value)
            _insert(connection, [market.row(tick) for tick in json.loads(next(consumer).value)], False)
            assert sum(bar[7] for bar in connection.execute(query).fetchall()) == n + 1
            found.append(time.perf_counter() - began)
            time.sleep(0.02)
    connection.execute("delete from ticks where symbol = 'TUTORIAL'")
    return api._percentiles(iter(found))
