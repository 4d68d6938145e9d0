"""An hour of work: 200 symbols at 5,000 ticks/s through Kafka, 50 clients that ask and 200 that listen.

What must stay flat is sampled: ticks that wait, how old news is when it is heard, how long an answer takes, memory and
files of each process. `python -m bench.soak --minutes 60 --json FILE`; `python -m bench.curves FILE PICTURE` draws it.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import httpx
import msgspec
import psutil
from websockets.asyncio.client import connect

from barwright import sql
from barwright.embedded.kafka import Kafka
from barwright.embedded.ports import free_port
from barwright.embedded.postgres import Postgres
from barwright.embedded.valkey import Valkey
from barwright.ingest import kafka
from barwright.settings import Settings
from bench.__main__ import machine, migrated, server
from bench.curves import quarters
from tests.services import JARS

SYMBOLS, RATE, TOGETHER = 200, 5_000, 10  # ticks/s of all, in messages of so many ticks of one symbol
CLIENTS, PAUSE, SOCKETS = 50, 0.5, 200
ROLES = ("ingest", "maintain", "serve")
TIMES = ("p50_ms", "p99_ms")
PATHS = (
    "/v1/bars?symbol={}&interval=1m&limit=500", "/v1/bars?symbol={}&interval=5m&limit=100",
    "/v1/bars/latest?symbol={}&interval=1m", "/v1/bars?symbol={}&interval=1h&limit=500",
)  # fmt: skip


@dataclass
class Heard:
    """What clients saw since the last sample: how long answers took, how old news was, in seconds; all that failed."""

    took: list[float] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def name(n: int) -> str:
    """The n-th symbol."""
    return f"S{n % SYMBOLS}"


def produce(settings: Settings, over: threading.Event, sent: list[int]) -> None:
    """Send at the rate until it is over. A trade's price is the millisecond it was sent at, so that whoever hears of it
    knows how old it is."""
    producer = kafka.producer(settings, linger_ms=5)
    began, n = time.time(), 0
    while not over.is_set():
        now = time.time()
        value = [
            {"type": "trade", "symbol": name(n // TOGETHER), "ts": round(now * 1000), "id": n + k,
             "price": f"{now * 1000:.3f}", "size": "0.5", "side": "buy"}
            for k in range(TOGETHER)
        ]  # fmt: skip
        producer.send(settings.tick_topic, key=name(n // TOGETHER).encode(), value=msgspec.json.encode(value))
        n += TOGETHER
        sent[0] = n
        time.sleep(max(0.0, began + n / RATE - time.time()))
    producer.flush()
    producer.close()


async def ask(base: str, seed: int, heard: Heard) -> None:
    """One client: a page of some symbol, a pause, the next."""
    chance = random.Random(seed)
    async with httpx.AsyncClient(base_url=base, timeout=20, trust_env=False) as client:
        while True:
            path = chance.choice(PATHS).format(name(chance.randrange(SYMBOLS)))
            began = time.perf_counter()
            try:
                (await client.get(path)).raise_for_status()
                heard.took.append(time.perf_counter() - began)
            except httpx.HTTPError as error:
                heard.failed.append(f"{path}: {error!r}")
            await asyncio.sleep(PAUSE * chance.uniform(0.5, 1.5))


async def listen(base: str, n: int, heard: Heard) -> None:
    """One socket: how old each change of its open bar is when it comes, in seconds."""
    async for socket in connect(f"ws{base.removeprefix('http')}/v1/stream?symbol={name(n)}&interval=1m"):
        async for text in socket:
            told = msgspec.json.decode(text)
            if told["type"] == "bar" and not told["bar"]["closed"]:
                heard.ages.append(time.time() - float(told["bar"]["close"]) / 1000)


def percentiles(values: list[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds."""
    found = sorted(values) or [0.0]
    return {"p50_ms": round(statistics.median(found) * 1e3, 1), "p99_ms": round(found[len(found) * 99 // 100] * 1e3, 1)}


def sample(connection: Any, processes: dict[str, psutil.Process], sent: int, heard: Heard) -> dict[str, Any]:
    """How it stands now; what was heard is forgotten."""
    landed = connection.execute("select coalesce(sum(rows), 0)::bigint from ingest_offset").fetchone()[0]
    took, heard.took = heard.took, []
    ages, heard.ages = heard.ages, []
    return {
        "waiting_ticks": sent - landed, "answers": len(took), "answer": percentiles(took), "news": len(ages),
        "news_age": percentiles(ages), "failed": len(heard.failed),
    } | {
        role: {"mb": round(process.memory_info().rss / 2**20, 1), "files": process.num_fds()}
        for role, process in processes.items()
    }  # fmt: skip


async def watch(
    dsn: str, base: str, processes: dict[str, psutil.Process], sent: list[int], seconds: float, every: float
) -> dict[str, Any]:
    """Run all clients for so long; a sample each `every` seconds."""
    heard, samples = Heard(), list[dict[str, Any]]()
    tasks = [asyncio.create_task(ask(base, n, heard)) for n in range(CLIENTS)]
    tasks += [asyncio.create_task(listen(base, n, heard)) for n in range(SOCKETS)]
    began = time.monotonic()
    with sql.connect(dsn, "bench", autocommit=True) as connection:
        while (passed := time.monotonic() - began) < seconds:
            await asyncio.sleep(every)
            samples.append({"at_s": round(passed + every)} | sample(connection, processes, sent[0], heard))
            click.echo(" ".join(f"{key} {value}" for key, value in samples[-1].items()))
    ended = sum(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {"samples": samples, "failed": heard.failed[:20], "clients_that_ended": ended}


def growth(samples: list[dict[str, Any]], kind: str, part: str) -> float:
    """The median of the last quarter, of that of the second: what grows is above one."""
    _, second, _, last = quarters([float(one[kind][part]) for one in samples])
    return round(last / max(second, 1e-9), 2)


@click.command()
@click.option("--minutes", default=60.0, show_default=True)
@click.option("--every", default=10.0, show_default=True, help="seconds between samples")
@click.option("--json", "file", type=click.Path(path_type=Path), help="where the samples are kept")
def main(minutes: float, every: float, file: Path | None) -> None:
    """Soak."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = stack.enter_context(server("DATABASE_URL", Postgres(home)))
        brokers = stack.enter_context(server("KAFKA_BOOTSTRAP_SERVERS", Kafka(home, JARS)))
        redis_url = stack.enter_context(server("REDIS_URL", Valkey(home)))
        dsn = stack.enter_context(migrated(database))
        port = free_port()
        settings = Settings(database_url=dsn, kafka_bootstrap_servers=brokers, redis_url=redis_url)
        kafka.ensure_topic(settings, settings.tick_topic, settings.tick_partitions)
        environment = os.environ | {
            "DATABASE_URL": dsn, "KAFKA_BOOTSTRAP_SERVERS": brokers, "REDIS_URL": redis_url,
            "BARWRIGHT_PORT": str(port), "BARWRIGHT_LOG_LEVEL": "WARNING",
        }  # fmt: skip
        processes: dict[str, psutil.Process] = {}
        for role in ROLES:
            one = subprocess.Popen([sys.executable, "-m", "barwright", role], env=environment)
            stack.callback(one.wait, 60)
            stack.callback(one.terminate)
            processes[role] = psutil.Process(one.pid)
        over, sent = threading.Event(), [0]
        producer = threading.Thread(target=produce, args=(settings, over, sent))
        producer.start()
        stack.callback(producer.join)
        stack.callback(over.set)
        base = f"http://127.0.0.1:{port}"
        _until_ready(base)
        _until_known(dsn)
        result = {"machine": machine(database), "minutes": minutes, "ticks_per_s": RATE, "symbols": SYMBOLS}
        result |= asyncio.run(watch(dsn, base, processes, sent, minutes * 60, every))
        result["sent"] = sent[0]
        result["last_quarter_of_second"] = {
            f"{kind}.{part}": growth(result["samples"], kind, part)
            for kind, parts in (*((role, ("mb", "files")) for role in ROLES), ("answer", TIMES), ("news_age", TIMES))
            for part in parts
        }
    click.echo(json.dumps({key: value for key, value in result.items() if key != "samples"}, indent=1))
    if file:
        file.write_text(json.dumps(result) + "\n")


def _until_ready(base: str) -> None:
    for _ in range(300):
        try:
            if httpx.get(f"{base}/health/ready", trust_env=False).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise TimeoutError("the API is not ready")


def _until_known(dsn: str) -> None:
    """Who subscribes to a symbol that has not come yet is told so once and hears nothing."""
    with sql.connect(dsn, "bench", autocommit=True) as connection:
        for _ in range(600):
            row = connection.execute("select count(*) from symbols").fetchone()
            if row and row[0] == SYMBOLS:
                return
            time.sleep(0.1)
    raise TimeoutError("no ticks arrive")


if __name__ == "__main__":
    main()
