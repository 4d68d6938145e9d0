"""How fast history comes: bars imported per second against trades ingested, and the time from registering a symbol to
its being complete, for a day, a month and a year of minutes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec

from barwright import sql
from barwright.embedded.ports import free_port
from barwright.ingest import kafka
from barwright.settings import Settings
from bench import ingest

DAYS = 365
TICKS = 600_000  # of trades, ingested beside the bars in each round
PATIENCE = 600
REGISTER = (
    "select register_symbol(%s, 'simulator', %s, 'B', 'Q', date_trunc('day', now()) - make_interval(days => %s), "
    "'simulator', '10 s', true)"
)
OPEN = """
select (select count(*) from gaps where symbol = %(symbol)s)
       + (select count(*) from backfill_task where symbol = %(symbol)s and status not in ('landed', 'cancelled')),
       (select count(*) from backfill_task where symbol = %(symbol)s),
       (select count(*) from live_session where symbols @> array[%(symbol)s])
"""


def measure(dsn: str, brokers: str, redis_url: str, rounds: int = 3) -> dict[str, Any]:
    """On an empty migrated database: bars/s, their ratio to trades/s of the same round, and seconds to completeness."""
    settings = Settings(database_url=dsn, kafka_bootstrap_servers=brokers, redis_url=redis_url)
    result: dict[str, Any] = {"bars": DAYS * 1440}
    with sql.connect(dsn, "bench", autocommit=True) as connection:
        connection.execute("select prepare_ticks(array(select now() - make_interval(days => n) "
                           "from generate_series(0, 370) as n) || %s::timestamptz)", (ingest.START,))  # fmt: skip
        topic = f"bench-beside-{os.getpid()}"
        kafka.ensure_topic(settings, topic, ingest.PARTITIONS)
        ingest.fill(settings, topic, TICKS, 100)
        found = []
        for _ in range(rounds):
            trades, _ = ingest.consumed(settings, connection, topic, TICKS, 1)
            bars = imported(settings, connection)
            found.append({"trades": trades, "bars": bars, "ratio": bars / trades})
        result["bars_per_s"] = ingest._median(found, lambda r: r["bars"])
        result["of_trades"] = ingest._median(found, lambda r: r["ratio"])
        with everything(settings):
            for name, days, exchange in (("day", 1, "Coinbase"), ("month", 30, "Kraken"), ("year", 365, "Bitstamp")):
                result[f"complete_{name}_s"] = completed(connection, name, f"{exchange}~BTC~USD", days)
    return result


def imported(settings: Settings, connection: Any) -> int:
    """Bars/s of a year of one symbol's fresh minutes: tasks are filed and claimed, their records wait in the topic."""
    symbol = f"IMPORT{uuid4().hex[:6]}"
    connection.execute(REGISTER, (symbol, "Coinbase~BTC~USD", DAYS))
    connection.execute("select file_tasks(%s, null, 0, 1000)", (symbol,))
    connection.execute("update backfill_task set status = 'published', attempt = 1, deadline = 'infinity' "
                       "where symbol = %s", (symbol,))  # fmt: skip
    tasks = connection.execute("select id, lower(span), upper(span) from backfill_task where symbol = %s "
                               "order by upper(span) desc", (symbol,)).fetchall()  # fmt: skip
    topic = kafka.topic_of_symbol(symbol)
    kafka.ensure_topic(settings, topic, 1)
    producer = kafka.producer(settings, max_request_size=2**20)
    for task, lo, hi in tasks:
        producer.send(topic, key=symbol.encode(), value=record(symbol, task, lo, hi))
    producer.flush()
    producer.close()
    total, rate = sum((hi - lo) // timedelta(minutes=1) for _, lo, hi in tasks), 0.0
    rate = _landed(settings, connection, topic, total)
    connection.execute("truncate ticks, late_range, imported_span, backfill_task")
    connection.execute("delete from symbols")
    return round(rate)


def _landed(settings: Settings, connection: Any, topic: str, total: int) -> float:
    """Rows/s that one ingest process lands of a topic."""
    count = "select coalesce(sum(rows), 0)::bigint from ingest_offset where topic = %s"
    environment = os.environ | {
        "DATABASE_URL": settings.database_url, "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "REDIS_URL": settings.redis_url, "BARWRIGHT_DYNAMIC_PATTERN": f"^{topic}$", "BARWRIGHT_LOG_LEVEL": "WARNING",
        "BARWRIGHT_GROUP": topic,
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "barwright", "ingest"], env=environment)
    done = first = 0
    began = 0.0
    try:
        while done < total:
            time.sleep(0.02)
            done = connection.execute(count, (topic,)).fetchone()[0]
            if not began and done:
                began, first = time.perf_counter(), done
        return (done - first) / (time.perf_counter() - began)
    finally:
        process.terminate()
        process.wait()


def record(symbol: str, task: int, lo: datetime, hi: datetime) -> bytes:
    """A day of minutes as feed publishes it."""
    minutes = (hi - lo) // timedelta(minutes=1)
    common = {"symbol": symbol, "interval": "1m", "source": "simulator", "task": task, "attempt": 1}
    bars = [
        {"type": "bar", **common, "ts": f"{lo + timedelta(minutes=n):%Y-%m-%dT%H:%M:%SZ}", "open": "64000.12",
         "high": f"640{n % 90 + 10}.99", "low": "63999.01", "close": "64001.5", "volume": f"1.{n:06}",
         "quote_volume": f"{64000 + n}.123456"}
        for n in range(minutes)
    ]  # fmt: skip
    mark = {"type": "mark", "event": "covered", **common, "from": lo, "to": hi, "count": minutes, "final": True}
    return msgspec.json.encode([*bars, mark])


@contextmanager
def everything(settings: Settings) -> Iterator[None]:
    """All roles but the API, as an operator starts them, with an exchange whose minutes reach back for ever."""
    environment = os.environ | {
        "DATABASE_URL": settings.database_url, "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "REDIS_URL": settings.redis_url, "SIMULATOR_URL": f"http://127.0.0.1:{free_port(0)}",
        "BARWRIGHT_SIMULATOR_MINUTE_DAYS": "0", "BARWRIGHT_SIMULATOR_LIMITS": "", "BARWRIGHT_LOG_LEVEL": "WARNING",
        "BARWRIGHT_SIMULATOR_STATE": os.devnull + ".none", "BARWRIGHT_GROUP": f"bench-{uuid4().hex[:6]}",
    }  # fmt: skip
    roles = ("simulator", "ingest", "maintain", "feed")
    started = [subprocess.Popen([sys.executable, "-m", "barwright", role], env=environment) for role in roles]
    time.sleep(5)
    try:
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()


def completed(connection: Any, symbol: str, market: str, days: int) -> float:
    """Seconds from registering a symbol to no gap, no open task, and a live session that covers it."""
    began = time.perf_counter()
    connection.execute(REGISTER, (symbol, market, days))
    while time.perf_counter() - began < PATIENCE:
        left, filed, live = connection.execute(OPEN, {"symbol": symbol}).fetchone()
        if filed and live and not left:
            return round(time.perf_counter() - began, 1)
        time.sleep(0.1)
    raise TimeoutError(f"{symbol} is not complete after {PATIENCE} s")
