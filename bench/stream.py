"""What streams cost: 1,000 sockets on one API process, five updates a second each; and how long a trade takes from
producing it to a client, through Kafka, ingest and the API."""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx
import msgspec
import psutil
import redis
from websockets.sync.client import connect

from barwright import sql
from barwright.embedded.ports import free_port
from barwright.ingest import kafka
from barwright.settings import Settings
from bench import ingest

SOCKETS, SYMBOLS, RATE = 1000, 20, 5.0  # of each socket one series, updates a second
INSERT = """
insert into ticks (ts, symbol, seq, price, size, side)
select now(), 'S' || s, %s, %s, 1, 'b' from generate_series(1, %s) as s
"""
HANDSHAKE = (
    "GET /v1/stream?symbol={}&interval=1m HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def measure(dsn: str, brokers: str, redis_url: str, seconds: float = 15.0) -> dict[str, Any]:
    """On an empty migrated database. Cores, megabytes, milliseconds."""
    with sql.connect(dsn, "bench", autocommit=True) as connection:
        connection.execute("select prepare_ticks(array[now()])")
        connection.execute("insert into symbols (symbol) select 'S' || n from generate_series(1, %s) as n", (SYMBOLS,))
        row = connection.execute("select engine from meta").fetchone()
    result: dict[str, Any] = {"engine": row and row[0], "sockets": SOCKETS, "updates_per_s": RATE}
    with _server(dsn, redis_url) as (port, process):
        result["crowd"] = asyncio.run(_crowd(dsn, redis_url, port, process, seconds))
        settings = Settings(database_url=dsn, kafka_bootstrap_servers=brokers, redis_url=redis_url)
        result["produced_to_client_ms"] = latency(settings, port)
    return result


@contextmanager
def _server(dsn: str, redis_url: str) -> Iterator[tuple[int, psutil.Process]]:
    """The API as an operator starts it: its port and its process."""
    port = free_port(0)
    env = {**os.environ, "DATABASE_URL": dsn, "REDIS_URL": redis_url, "BARWRIGHT_PORT": str(port),
           "BARWRIGHT_LOG_LEVEL": "ERROR"}  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "barwright", "serve"], env=env)
    try:
        for _ in range(200):
            try:
                httpx.get(f"http://127.0.0.1:{port}/health/ready").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(10)


class Writer(threading.Thread):
    """Lands a trade of every symbol RATE times a second and tells it on Redis, as ingest does: its price numbers it."""

    def __init__(self, dsn: str, redis_url: str) -> None:
        super().__init__(daemon=True)
        self.dsn, self.redis_url = dsn, redis_url
        self.sent: dict[int, float] = {}
        self.over = False

    def run(self) -> None:
        """See Writer."""
        channel = redis.Redis.from_url(self.redis_url)
        news = json.dumps({f"S{n}": 0 for n in range(1, SYMBOLS + 1)})
        number, due = 1000, time.perf_counter()
        with sql.connect(self.dsn, "bench", autocommit=True) as connection:
            while not self.over:
                number += 1
                connection.execute(INSERT, (number, number, SYMBOLS))
                self.sent[number] = time.perf_counter()
                channel.publish("barwright:ticks", news)
                due += 1 / RATE
                time.sleep(max(0.0, due - time.perf_counter()))


class Client(asyncio.Protocol):
    """A socket that looks for prices: counting bytes keeps it cheap."""

    def __init__(self, symbol: str, found: list[tuple[int, float]]) -> None:
        self.symbol, self.found = symbol, found
        self.rest = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(HANDSHAKE.format(self.symbol).encode())

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        *messages, self.rest = (self.rest + data).split(b'"event":')
        for message in messages:
            at = message.rfind(b'"close":')
            if b'"type":"bar"' in message and at >= 0:
                self.found.append((int(message[at + 8 : message.index(b",", at)]), now))


async def _crowd(dsn: str, redis_url: str, port: int, process: psutil.Process, seconds: float) -> dict[str, Any]:
    """All sockets together, after a while of getting warm."""
    loop = asyncio.get_running_loop()
    before = process.memory_info().rss
    found: list[tuple[int, float]] = []
    symbols = [f"S{1 + n % SYMBOLS}" for n in range(SOCKETS)]
    clients = [await loop.create_connection(partial(Client, name, found), "127.0.0.1", port) for name in symbols]
    writer = Writer(dsn, redis_url)
    writer.start()
    await asyncio.sleep(3)
    found.clear()
    cpu, began = sum(process.cpu_times()[:2]), time.perf_counter()
    await asyncio.sleep(seconds)
    took, cpu = time.perf_counter() - began, sum(process.cpu_times()[:2]) - cpu
    memory, landed = process.memory_info().rss, sum(at > began for at in list(writer.sent.values()))
    writer.over = True
    times = sorted((at - writer.sent[number]) * 1000 for number, at in found if number in writer.sent)
    for transport, _ in clients:
        transport.abort()
    return {
        "cores": round(cpu / took, 2), "memory_mb": round(memory / 2**20),
        "kb_per_socket": round((memory - before) / 2**10 / SOCKETS, 1),
        "landed_per_s": round(landed / took, 1), "messages_per_s": round(len(times) / took),
        "landed_to_client_p50_ms": round(statistics.median(times), 1),
        "landed_to_client_p99_ms": round(times[len(times) * 99 // 100], 1),
    }  # fmt: skip


def latency(settings: Settings, port: int, count: int = 300) -> dict[str, float]:
    """From producing a trade (no linger) to its bar's being read by a client, one at a time."""
    topic = f"bench-stream-{os.getpid()}"
    kafka.ensure_topic(settings, topic, ingest.PARTITIONS)
    producer = kafka.producer(settings, linger_ms=0)
    found = []
    with (
        ingest.ingesting(settings, topic, 1, topic),
        connect(f"ws://127.0.0.1:{port}/v1/stream?symbol=S1&interval=1m&rate=50") as socket,
    ):
        for n in range(-20, count):
            price = 100_000 + n
            now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
            trade = ingest.message(0) | {"symbol": "S1", "id": str(10**9 + n), "ts": now, "price": str(price)}
            began = time.perf_counter()
            producer.send(topic, value=msgspec.json.encode(trade), key=b"S1")
            wanted = f'"close":{price},'
            while wanted not in str(socket.recv(timeout=30)):
                pass
            found.append((time.perf_counter() - began) * 1000)
            time.sleep(0.03)
    producer.close()
    warm = sorted(found[20:])
    return {"p50": round(statistics.median(warm), 1), "p99": round(warm[int(len(warm) * 0.99)], 1)}


if __name__ == "__main__":
    given = Settings()
    print(json.dumps(measure(given.database_url, given.kafka_bootstrap_servers, given.redis_url), indent=1))
