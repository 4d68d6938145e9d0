"""What metrics cost where it matters: of a batch that ingest decodes, and of a cached request that the API answers.

By CPU seconds, so that a busy machine tells the same.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import msgspec

from barwright import sql
from barwright.api.measured import Measured
from barwright.api.metrics import HITS
from barwright.ingest import metrics
from barwright.ingest.batch import Batch
from barwright.ingest.claims import Chunk, Claim
from barwright.ingest.landing import Landing
from barwright.ingest.ticks import Rule, Window
from bench import api
from bench.ingest import BATCH, START, message

ROUNDS = 3


def measure(dsn: str, redis_url: str, symbols: int = 2, seconds: float = 1.5) -> dict[str, Any]:
    """Microseconds of CPU, and shares."""
    return {"batch": batches(), "reading_us": reading(), "request": requests(dsn, redis_url, symbols, seconds)}


def batches() -> dict[str, Any]:
    """10,000 trades, one a message and a hundred: what counting adds to decoding them, a part of what landing takes."""
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


def reading() -> dict[str, float]:
    """What ingest takes to read and check a trade, of 10,000 with 50 symbols, a hundred in a message: of now, when
    times may lie 5 s ahead, and of the past; with times as texts and as milliseconds."""
    now = START + timedelta(hours=12, seconds=30)
    rules: dict[str, Rule | None] = {f"SYM{n}USD": "id" for n in range(50)}
    found = {}
    for form, ts in (("text", f"{now:%Y-%m-%dT%H:%M:%S.%fZ}"), ("ms", round(now.timestamp() * 1000))):
        trades = [message(n) | {"ts": ts} for n in range(BATCH)]
        values = [msgspec.json.encode(trades[first : first + 100]) for first in range(0, BATCH, 100)]
        for name, ahead in (("now", timedelta(seconds=5)), ("past", timedelta(days=1))):
            window = Window(0, round((now + ahead).timestamp() * 1e6))
            took = _cpu(lambda v=values, w=window: _batch(v, rules, w))  # type: ignore[misc]
            found[f"{name}_{form}"] = round(took / BATCH, 2)
    return found


def _batch(values: list[bytes], rules: Mapping[str, Rule | None] | None = None, window: Window | None = None) -> Batch:
    claim = Claim("t", 0, UUID(int=0), 1, 0)
    batch = Batch(rules or {}, window or Window(0, 2**60))
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
    """What counting adds to an answer, and the server's CPU for one of a cached page. With and without it, the servers
    differed by less than two runs of one on a busy machine; by itself it can be told."""
    with sql.connect(dsn, "bench", autocommit=True) as connection:
        api._fill(connection, symbols)
    path = f"/v1/bars?symbol=S1&interval=1m&start={api.START.timestamp() + 3 * 86400:.0f}&limit={api.BARS}"
    with api._server(dsn, redis_url, STATIC_BYTES="1") as port:
        request = statistics.median(_cpu_of_requests(port, path, seconds) for _ in range(ROUNDS))
    counting = _counting()
    return {"cached_us": round(request, 1), "counting_us": round(counting, 2), "share": round(counting / request, 4)}


def _counting(times: int = 20_000) -> float:
    """Microseconds that measuring an answer and counting a hit add to it."""
    start = {
        "type": "http.response.start", "status": 200,
        "headers": [(b"etag", b'"x"'), (b"vary", b"accept"), (b"content-type", b"application/json")],
    }  # fmt: skip
    body = {"type": "http.response.body", "body": b"x", "more_body": False}
    scope = {"type": "http", "path": "/v1/bars"}

    async def send(_: Any) -> None:
        pass

    async def bare(_: Any, __: Any, send: Any) -> None:
        await send(start)
        await send(body)

    async def counted(scope: Any, receive: Any, send: Any) -> None:
        HITS["answer"].inc()
        await bare(scope, receive, send)

    async def many(app: Any) -> None:
        for _ in range(times):
            await app(scope, None, send)

    measured = Measured(counted, ["/v1/bars"])
    with_it, without = (_cpu(lambda a=app: asyncio.run(many(a)), 5) for app in (measured, bare))  # type: ignore[misc]
    return (with_it - without) / times


def _cpu_of_requests(port: int, path: str, seconds: float) -> float:
    before = _used(port)
    done = api._load(port, path, seconds) * seconds
    # The load runs a fifth longer than it counts.
    return (_used(port) - before) / (done * 1.2) * 1e6


def _used(port: int) -> float:
    """The server's own count of its CPU seconds."""
    text = api._get(port, "/metrics").decode()
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith("process_cpu_seconds_total"))
