"""What metrics cost where it matters: of a batch that ingest decodes, and of a cached request that the API answers.

By CPU seconds, so that a busy machine tells the same.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, cast
from uuid import UUID

import msgspec

from barwright.ingest import metrics
from barwright.ingest.batch import Batch
from barwright.ingest.claims import Chunk, Claim
from barwright.ingest.landing import Landing
from barwright.ingest.ticks import Window
from bench import api
from bench.ingest import BATCH, START, message

# The server of bench.api, its metrics left out where the environment says so.
BARE = """
import os
if os.environ["METRICS"] == "off":
    from barwright.api import metrics, server
    class Nothing:
        def inc(self, n=1): pass
    metrics.HITS["answer"] = Nothing()
    server.Measured = lambda app, templates: app
"""
ROUNDS = 5


def measure(dsn: str, redis_url: str, symbols: int = 2, seconds: float = 1.5) -> dict[str, Any]:
    """Microseconds of CPU, and shares."""
    return {"batch": batches(), "request": requests(dsn, redis_url, symbols, seconds)}


def batches() -> dict[str, Any]:
    """10,000 trades, one a message and a hundred: what counting adds to decoding them, half of what landing takes."""
    found: dict[str, Any] = {}
    for size, together in (("one", 1), ("hundred", 100)):
        values = [
            msgspec.json.encode(
                [message(n) for n in range(first, first + together)] if together > 1 else message(first)
            )
            for first in range(0, BATCH, together)
        ]
        decoding = _cpu(lambda v=values: _batch(v))  # type: ignore[misc]
        batch = _batch(values)
        minute = int(START.timestamp()) // 60
        for name, seal in (("on_time", 0), ("all_late", minute + 10**6), ("some_late", minute + 3)):
            counting = _cpu(lambda b=batch, s=seal: _count(b, s))  # type: ignore[misc]
            found.setdefault(size, {})[name] = {
                "decoding_us": round(decoding), "counting_us": round(counting), "share": round(counting / decoding, 4),
            }  # fmt: skip
    return found


def _batch(values: list[bytes]) -> Batch:
    claim = Claim("t", 0, UUID(int=0), 1, 0)
    batch = Batch({}, Window(0, 2**60))
    batch.add(Chunk(claim, 0, list(enumerate(values))), 10**9)
    return batch


def _count(batch: Batch, seal: int) -> None:
    landing = Landing(cast("Any", None), batch, seal)
    landing.minutes = batch.minutes()
    landing._copied(batch.trades, "trade")
    metrics.landed(landing, "copy", 0.03, time.time())


def _cpu(work: Callable[[], object], rounds: int = 30) -> float:
    """Microseconds, median."""
    times = []
    for _ in range(rounds):
        began = time.process_time_ns()
        work()
        times.append((time.process_time_ns() - began) / 1_000)
    return statistics.median(times)


def requests(dsn: str, redis_url: str, symbols: int, seconds: float) -> dict[str, Any]:
    """CPU of the server for each request of a cached page, with metrics and without, in turns."""
    from barwright import sql

    with sql.connect(dsn, "bench", autocommit=True) as connection:
        api._fill(connection, symbols)
    path = f"/v1/bars?symbol=S1&interval=1m&start={api.START.timestamp() + 3 * 86400:.0f}&limit={api.BARS}"
    whole = {"STATIC_BYTES": "1"}
    plain = api.SERVER
    found: dict[str, list[float]] = {"on": [], "off": []}
    try:
        api.SERVER = BARE + plain
        with (
            api._server(dsn, redis_url, METRICS="on", **whole) as on,
            api._server(dsn, redis_url, METRICS="off", **whole) as off,
        ):
            for _ in range(ROUNDS):
                for name, port in (("on", on), ("off", off)):
                    found[name].append(_cpu_of_requests(port, path, seconds))
    finally:
        api.SERVER = plain
    with_metrics, without = (statistics.median(found[name]) for name in ("on", "off"))
    return {
        "with_us": round(with_metrics, 1), "without_us": round(without, 1),
        "share": round(with_metrics / without - 1, 4),
    }  # fmt: skip


def _cpu_of_requests(port: int, path: str, seconds: float) -> float:
    before = _used(port)
    done = api._load(port, path, seconds) * seconds
    # The load runs a fifth longer than it counts.
    return (_used(port) - before) / (done * 1.2) * 1e6


def _used(port: int) -> float:
    """The server's own count of its CPU seconds."""
    text = api._get(port, "/metrics").decode()
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith("process_cpu_seconds_total"))
