"""What ten times the symbols, ten times the days and ten times the clients cost: of each tick and of each request.

Three databases: small, ten times the symbols at the same rate each, ten times the days. A cost that does not grow with
the size has a ratio of one.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import psutil

from barwright import sql
from barwright.ingest import kafka
from barwright.settings import Settings
from barwright.sql.engine import engine_of, levels
from bench import api, export, ingest
from bench.ingest import PARTITIONS, START

FACTOR, SYMBOLS, DAYS, CLIENTS, BARS = 10, 20, 1, 8, 500


class Size(NamedTuple):
    """Of one database; all have the same ticks of each symbol a day."""

    name: str
    symbols: int
    days: int

    @property
    def factor(self) -> int:
        """How many times the ticks of the small one."""
        return self.symbols * self.days // (SYMBOLS * DAYS)


SIZES = (Size("small", SYMBOLS, DAYS), Size("symbols", SYMBOLS * FACTOR, DAYS), Size("days", SYMBOLS, DAYS * FACTOR))


def measure(
    dsn: str, brokers: str, redis_url: str, database: Callable[[], AbstractContextManager[str]],
    ticks: int = 150_000, rounds: int = 5,
) -> dict[str, Any]:  # fmt: skip
    """`ticks` are those of the small database, which is `dsn`. Microseconds, and their ratios to the small one."""
    result: dict[str, Any] = {"ticks": ticks, "clients": CLIENTS, "rounds": rounds}
    settings = Settings(database_url=dsn, kafka_bootstrap_servers=brokers, redis_url=redis_url)
    with ExitStack() as stack:
        names = {size.name: dsn if size == SIZES[0] else stack.enter_context(database()) for size in SIZES}
        links = {name: stack.enter_context(sql.connect(of, "bench", autocommit=True)) for name, of in names.items()}
        topics = {size.name: _prepared(settings, links[size.name], size, ticks) for size in SIZES}
        found: dict[str, list[dict[str, float]]] = {size.name: [] for size in SIZES}
        for _ in range(rounds):
            for size in SIZES:
                of = settings.model_copy(update={"database_url": names[size.name]})
                found[size.name].append(_costs(of, links[size.name], topics[size.name], size, ticks))
        for name, asked in _asked(names, redis_url, rounds).items():
            for costs, more in zip(found[name], asked, strict=True):
                costs |= more
        first, *others = (size.name for size in SIZES)
        result |= {name: {part: _median([one[part] for one in turns]) for part in turns[0]}
                   for name, turns in found.items()}  # fmt: skip
        result["times_small"] = {
            name: {part: _median([one[part] / of[part] for one, of in zip(found[name], found[first], strict=True)])
                   for part in found[name][0]}
            for name in others
        }  # fmt: skip
        result |= _clients(names[first], redis_url, rounds)
    return result


def _prepared(settings: Settings, connection: Any, size: Size, ticks: int) -> str:
    """The topic of a size's ticks, and a database that waits for them."""
    topic = f"bench-growth-{size.name}-{os.getpid()}"
    step = timedelta(days=size.days) / (ticks * size.factor)

    def tick(n: int) -> dict[str, Any]:
        at = START + n * step
        return ingest.message(n) | {"symbol": f"SYM{n % size.symbols}USD", "ts": f"{at:%Y-%m-%dT%H:%M:%S.%f}Z"}

    kafka.ensure_topic(settings, topic, PARTITIONS)
    ingest.fill(settings, topic, ticks * size.factor, 100, tick)
    connection.execute("select prepare_ticks(array(select generate_series(%s::timestamptz, %s, '1 day')))",
                       (START, START + timedelta(days=size.days)))  # fmt: skip
    return topic


def _costs(settings: Settings, connection: Any, topic: str, size: Size, ticks: int) -> dict[str, float]:
    """Microseconds a tick of ingest, and of the refresh of all levels; what is there before is taken away, what is
    landed stays. What takes short is done some times."""
    landed, refreshed = [], []
    for _ in range(3 if size.factor == 1 else 1):
        connection.execute("truncate ticks, late_range")
        _unroll(connection)
        landed.append(1e6 / ingest.consumed(settings, connection, topic, ticks * size.factor, 1, keep=True)[0])
        connection.execute("analyze ticks")
        refreshed.append(_refreshed(connection, START + timedelta(days=size.days)) / (ticks * size.factor) * 1e6)
    connection.execute("vacuum analyze")
    return {"ingest_us_a_tick": _median(landed), "refresh_us_a_tick": _median(refreshed)}


def _unroll(connection: Any) -> None:
    connection.execute("truncate rollup_1m, rollup_5m, rollup_15m, rollup_30m, rollup_1h, rollup_4h, rollup_1d")
    connection.execute("update level set sealed = %(at)s, watermark = %(at)s", {"at": START})


def _refreshed(connection: Any, end: datetime) -> float:
    """Seconds."""
    engine = engine_of(connection)
    connection.execute("select move_seal(%s)", (end,))
    began = time.perf_counter()
    for level in levels(connection):
        engine.advance(level.name)
    return time.perf_counter() - began


def _asked(names: dict[str, str], redis_url: str, rounds: int) -> dict[str, list[dict[str, float]]]:
    """p50 in microseconds of 500 closed bars, computed for each request and from memory, in turns."""
    found: dict[str, list[dict[str, float]]] = {name: [{} for _ in range(rounds)] for name in names}
    nowhere = f"redis://127.0.0.1:{api._free_port()}/0"
    kinds = {"page_us": (nowhere, {"BARWRIGHT_PAGE_CACHE_BARS": "0"}), "cached_page_us": (redis_url, {})}
    for kind, (redis, given) in kinds.items():
        with ExitStack() as stack:
            ports = {name: stack.enter_context(api._server(dsn, redis, STATIC_BYTES="1", **given))
                     for name, dsn in names.items()}  # fmt: skip
            for n in range(rounds):
                for name, port in ports.items():
                    found[name][n][kind] = 1000 * api._latency(port, _page(), 200)["p50_ms"]
    return found


def _page() -> str:
    return f"/v1/bars?symbol=SYM1USD&interval=1m&start={(START + timedelta(hours=3)).timestamp():.0f}&limit={BARS}"


def _clients(dsn: str, redis_url: str, rounds: int) -> dict[str, Any]:
    """Microseconds of the API's CPU for a cached page, and requests/s, at so many clients and ten times as many."""
    found: dict[int, list[tuple[float, float]]] = {CLIENTS: [], CLIENTS * FACTOR: []}
    with export.server(dsn, redis_url) as (port, process):
        api._get(port, _page())
        for _ in range(rounds):
            for clients, turns in found.items():
                turns.append(_loaded(port, process, clients))
    costs = {clients: [_median(part) for part in zip(*turns, strict=True)] for clients, turns in found.items()}
    few, many = costs[CLIENTS], costs[CLIENTS * FACTOR]
    return {
        "clients_cpu": {
            "cpu_us_a_request": few[0], "cpu_us_a_request_10x": many[0], "requests_per_s": few[1],
            "requests_per_s_10x": many[1], "times": round(many[0] / few[0], 2),
        }
    }  # fmt: skip


def _loaded(port: int, process: psutil.Process, clients: int) -> tuple[float, float]:
    """CPU of the API for each request while so many clients ask, in microseconds; requests/s."""
    by_cpu, by_second = api._counted(port, _page(), 2.0, clients, lambda: sum(process.cpu_times()[:2]))
    return 1e6 / by_cpu, by_second


def _median(values: Iterator[float] | list[float] | tuple[float, ...]) -> float:
    return round(statistics.median(values), 2)
