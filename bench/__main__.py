"""`make bench`: every figure of one run on this machine, as ratios to the limit beside it. `--json FILE` keeps them.

Servers are those the environment names (DATABASE_URL, KAFKA_BOOTSTRAP_SERVERS, REDIS_URL), else embedded ones.
"""

import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
import psutil
import psycopg
from rich.console import Console
from rich.table import Table

from barwright import migrations
from barwright.embedded.kafka import Kafka
from barwright.embedded.postgres import Postgres
from barwright.embedded.service import Service
from barwright.embedded.valkey import Valkey
from barwright.settings import Settings
from bench import (
    api,
    counting,
    export,
    growth,
    history,
    ingest,
    peers,
    questdb,
    refresh,
    repair,
    retention,
    scale,
    stream,
)
from tests.services import JARS, new_database

_ALONE = "ingest.ticks_per_message_1.processes_1"
_HUNDRED = "ingest.ticks_per_message_100.processes_1"
_FAST_ALONE = "ingest.ticks_per_message_1.confluent_processes_1"
_FAST_HUNDRED = "ingest.ticks_per_message_100.confluent_processes_1"
_CLOSED = "peers.query_ms.closed"
# (what, path to the figure, target)
RATIOS = [
    ("ingest at 100 ticks a message, of the COPY limit", f"{_HUNDRED}.of_copy_limit", "≥ 0.8"),
    ("ingest at 1 tick a message, of bare consumption", f"{_ALONE}.of_bare_consumption", "≥ 0.65"),
    ("… times one INSERT a message", f"{_ALONE}.times_insert_each", "≥ 30"),
    ("… times executemany", f"{_ALONE}.times_executemany", "≥ 4"),
    ("COPY on two connections, of one", "ingest.ticks_per_message_100.copy_by_two_of_one", "-"),
    ("by confluent-kafka at 100, of the COPY limit", f"{_FAST_HUNDRED}.of_copy_limit", "≥ 1.1"),
    ("by confluent-kafka at 1, of bare kafka-python", f"{_FAST_ALONE}.of_bare_consumption", "≥ 1.5"),
    ("refresh, times ingest at 100", "refresh_to_ingest", "≥ 3"),
    ("cached page, of static bytes", "api.memory_to_static", "≥ 0.85"),
    ("bars imported, of trades ingested", "history.of_trades", "≥ 0.5"),
    ("1,000 sockets, 5 updates/s each: cores", "stream.crowd.cores", "-"),
    ("produced → client, p50 in ms", "stream.produced_to_client_ms.p50", "≤ 30"),
    ("a year of minutes as Arrow, times COPY in binary", "export.arrow_to_copy", "≤ 1.5"),
    ("ten million bars: most memory of the server, MB", "export.server_most_mb", "≤ 200"),
    ("metrics, of a cached request's CPU", "metrics.request.share", "≤ 0.05"),
    ("metrics, of decoding a batch's CPU", "metrics.batch.one.on_time.share", "≤ 0.01"),
    ("uncached p50, times the bare query", "api.database_to_bare_sql_p50", "≤ 2"),
    ("500 closed bars by SQL: QuestDB's p50, of ours", f"{_CLOSED}.received.p50_to_barwright.questdb", "≥ 1"),
    ("… made Python's numbers, doubles and decimals", f"{_CLOSED}.p50_to_barwright.questdb", "-"),
    ("QuestDB's ingest from Kafka, of ours", "peers.ingest.of_barwright.questdb_from_kafka", "-"),
    ("10 times the symbols: cost of a tick landed", "growth.times_small.symbols.ingest_us_a_tick", "≤ 1.3"),
    ("… of a tick rolled up", "growth.times_small.symbols.refresh_us_a_tick", "≤ 1.3"),
    ("… of a page", "growth.times_small.symbols.page_us", "≤ 1.3"),
    ("10 times the days: cost of a tick landed", "growth.times_small.days.ingest_us_a_tick", "≤ 1.3"),
    ("… of a tick rolled up", "growth.times_small.days.refresh_us_a_tick", "≤ 1.3"),
    ("… of a page", "growth.times_small.days.page_us", "≤ 1.3"),
    ("10 times the clients: CPU of a request", "growth.clients_cpu.times", "≤ 1.3"),
]


PARTS = (
    "refresh",
    "api",
    "metrics",
    "export",
    "stream",
    "ingest",
    "repair",
    "history",
    "retention",
    "scale",
    "peers",
    "growth",
)


@contextmanager
def server(name: str, service: Service) -> Iterator[str]:
    """The URL of the server that an environment variable names, else of an embedded one for as long as this lasts."""
    if url := os.environ.get(name):
        yield url
        return
    service.start()
    try:
        yield service.url
    finally:
        service.stop()


@contextmanager
def migrated(url: str) -> Iterator[str]:
    """The DSN of a new, migrated database on a server."""
    with new_database(url) as dsn:
        migrations.upgrade(Settings(database_url=dsn))
        yield dsn


def machine(url: str) -> dict[str, Any]:
    """What it was measured on."""
    with psycopg.connect(url) as connection:
        row = connection.execute("select version()").fetchone()
    model = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return {
        "cpu": model[0] if model else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "system": platform.platform(),
        "python": platform.python_version(),
        "database": str(row and row[0]).split(" on ")[0],
        "load": round(os.getloadavg()[0], 1),
    }


def _cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.exists() else []


def figure(result: Any, path: str) -> Any:
    """`a.b.c` of a nested result."""
    for part in path.split("."):
        result = result[part]
    return result


def flat(result: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """A nested result as `a.b.c` and figure."""
    for key, value in result.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def measure(console: Console, only: tuple[str, ...], keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Everything, or only some parts, one after the other, each on a database of its own; `keep` gets what there is."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = stack.enter_context(server("DATABASE_URL", Postgres(home)))
        brokers = stack.enter_context(server("KAFKA_BOOTSTRAP_SERVERS", Kafka(home, JARS)))
        redis_url = stack.enter_context(server("REDIS_URL", Valkey(home)))
        parts: dict[str, Callable[[str], dict[str, Any]]] = {
            "refresh": refresh.measure,
            "api": lambda dsn: api.measure(dsn, redis_url),
            "metrics": lambda dsn: counting.measure(dsn, redis_url),
            "export": lambda dsn: export.measure(dsn, redis_url) | {"questdb": questdb.measure(dsn, redis_url, home)},
            "stream": lambda dsn: stream.measure(dsn, brokers, redis_url),
            "ingest": lambda dsn: ingest.measure(dsn, brokers, redis_url),
            "repair": repair.measure,
            "retention": retention.measure,
            "scale": scale.measure,
            "peers": lambda dsn: peers.measure(dsn, brokers, redis_url, home),
            "growth": lambda dsn: growth.measure(dsn, brokers, redis_url, lambda: migrated(database)),
            "history": lambda dsn: history.measure(dsn, brokers, redis_url),
        }
        result: dict[str, Any] = {"machine": machine(database)}
        for name in only or PARTS:
            with console.status(name), migrated(database) as dsn:
                result[name] = parts[name](dsn)
            keep(result)
    if {"refresh", "ingest"} <= result.keys():
        # Both of COPY in their own rounds: minutes lie between the two, in which a machine's speed may change by half.
        ratio = result["refresh"]["of_copy_limit"] / figure(result, f"{_HUNDRED}.of_copy_limit")
        result["refresh_to_ingest"] = round(ratio, 2)
    return result


@click.command()
@click.option("--json", "file", type=click.Path(path_type=Path), help="also write the figures to this file")
@click.option("--only", multiple=True, type=click.Choice(PARTS), help="a part; may be given several times")
def main(file: Path | None, only: tuple[str, ...]) -> None:
    """Measure this machine."""
    console = Console()

    def keep(result: dict[str, Any]) -> None:
        if file:
            file.write_text(json.dumps(result, indent=1) + "\n")

    result = measure(console, only, keep)
    figures = Table("figure", "value", title=" · ".join(str(value) for value in result["machine"].values()))
    for name, value in flat({key: value for key, value in result.items() if key != "machine"}):
        figures.add_row(name, f"{value:,}" if isinstance(value, int | float) else str(value))
    console.print(figures)
    ratios = Table("ratio", "here", "target", title="In one run")
    for name, path, target in RATIOS:
        if not only or path.split(".")[0] in only:
            ratios.add_row(name, str(figure(result, path)), target)
    console.print(ratios)
    keep(result)


if __name__ == "__main__":
    main()
