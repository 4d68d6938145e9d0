"""How fast `/v1/bars` answers with 500 closed bars: from memory, from Redis and from the database, against the same
server returning static bytes of that size, and against the bare SQL query."""

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from barwright import sql
from barwright.sql.engine import engine_of, levels

START = datetime(2024, 3, 4, tzinfo=UTC)
DAYS, BARS = 7, 500
FILL = """
insert into ticks (symbol, ts, seq, price, size, side)
select 'S' || s, %(start)s + n * interval '30 seconds', n, 100 + 0.01 * (n * 7919 %% 1000), 0.01 * (1 + n %% 50),
       case when n %% 2 = 0 then 'b' else 's' end::"char"
from generate_series(0, %(days)s * 2880 - 1) as n, generate_series(1, %(symbols)s) as s
"""
BARE = """
select bucket, open, high, low, close, volume, quote_volume, vwap, trades, buy_volume, imported from ohlcv_1m
where symbol = %s and bucket >= %s and bucket < %s order by bucket limit 500
"""
# What serves: our application, and beside it one route that returns bytes it has ready.
SERVER = """
from litestar import Response, get
from barwright.api.app import create_app
from barwright.api.server import serve
from barwright.settings import Settings
settings = Settings()
app = create_app(settings)
import os
body = b"x" * int(os.environ["STATIC_BYTES"])
@get("/static", include_in_schema=False)
async def static() -> Response[bytes]:
    return Response(body, media_type="application/json")
app.register(static)
serve(app, settings)
"""


def measure(dsn: str, redis_url: str, symbols: int = 20, seconds: float = 3.0) -> dict[str, Any]:
    """On an empty migrated database. Requests/s at 32 connections, p50 and p99 in milliseconds at one, and ratios."""
    with sql.connect(dsn, "bench", autocommit=True) as connection:
        engine = _fill(connection, symbols)
    path = f"/v1/bars?symbol=S1&interval=1m&start={START.timestamp() + 3 * 86400:.0f}&limit={BARS}"
    nowhere = f"redis://127.0.0.1:{_free_port()}/0"
    result: dict[str, Any] = {"engine": engine, "bars": BARS, "bare_sql": _bare(dsn)}
    with _server(dsn, redis_url, STATIC_BYTES="1") as port:
        size = len(_get(port, path))
    with _server(dsn, redis_url, STATIC_BYTES=str(size)) as port:
        # Interleaved, so that a machine that slows down slows both.
        rounds = [(_load(port, "/static", seconds / 3), _load(port, path, seconds / 3)) for _ in range(3)]
        static, memory = (statistics.median(part) for part in zip(*rounds, strict=True))
        result["static"] = {"requests_per_s": round(static), **_latency(port, "/static")}
        result["memory"] = {"requests_per_s": round(memory), **_latency(port, path)}
    for name, redis in (("redis", redis_url), ("database", nowhere)):
        with _server(dsn, redis, STATIC_BYTES="1", BARWRIGHT_PAGE_CACHE_BARS="0") as port:
            _get(port, path)
            result[name] = {**_latency(port, path), "requests_per_s": round(_load(port, path, seconds))}
    result["memory_to_static"] = round(memory / static, 3)
    result["database_to_bare_sql_p50"] = round(result["database"]["p50_ms"] / result["bare_sql"]["p50_ms"], 3)
    return result


def _fill(connection: Any, symbols: int) -> str:
    """A week of two trades a minute, rolled up; the engine's name."""
    engine = engine_of(connection)
    connection.execute("select prepare_ticks(array[%s, %s])", (START, START + timedelta(days=DAYS)))
    connection.execute("update level set sealed = %(start)s, watermark = %(start)s", {"start": START})
    connection.execute("insert into symbols (symbol) select 'S' || n from generate_series(1, %s) as n", (symbols,))
    connection.execute(FILL, {"symbols": symbols, "start": START, "days": DAYS})
    connection.execute("select move_seal(%s)", (START + timedelta(days=DAYS),))
    for level in levels(connection):
        engine.advance(level.name)
    connection.execute("vacuum analyze")
    return engine.name


def _bare(dsn: str) -> dict[str, float]:
    """The query alone, prepared, its rows fetched by the driver."""
    span = START + timedelta(days=3), START + timedelta(days=3, minutes=BARS)
    with sql.connect(dsn, "bench", autocommit=True, prepare_threshold=0) as connection:
        for setting in ("plan_cache_mode = force_generic_plan", "max_parallel_workers_per_gather = 0", "jit = off"):
            connection.execute(f"set {setting}")
        return _percentiles(_timed(lambda: connection.execute(BARE, ("S1", *span)).fetchall()) for _ in range(400))


def _timed(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _percentiles(times: Iterator[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds, the first quarter being the warm-up."""
    found = list(times)
    found = sorted(found[len(found) // 4 :])
    return {"p50_ms": round(found[len(found) // 2] * 1e3, 3), "p99_ms": round(found[len(found) * 99 // 100] * 1e3, 3)}


@contextmanager
def _server(dsn: str, redis_url: str, **env: str) -> Iterator[int]:
    """The API in a process of its own; its port."""
    port = _free_port()
    env = {**os.environ, "DATABASE_URL": dsn, "REDIS_URL": redis_url, "BARWRIGHT_PORT": str(port), **env,
           "BARWRIGHT_LOG_LEVEL": "ERROR"}  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", SERVER], env=env, stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                _get(port, "/v1/status")
                break
            except OSError:
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def _exchange(connection: socket.socket, request: bytes) -> bytes:
    """One answer's body, on a connection that stays open."""
    connection.sendall(request)
    data = connection.recv(65536)
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    if b" 200 " not in head[:20]:
        raise RuntimeError(head.decode())
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    parts, got = [body], len(body)
    while got < length:
        parts.append(connection.recv(1 << 20))
        got += len(parts[-1])
    return b"".join(parts)


def _get(port: int, path: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        return _exchange(connection, _request(path))


def _latency(port: int, path: str, count: int = 800) -> dict[str, float]:
    """One request after the other on one connection."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _percentiles(_timed(lambda: _exchange(connection, _request(path))) for _ in range(count))


class _Client(asyncio.Protocol):
    """Asks again as soon as an answer of the known length has come: counting bytes keeps the client cheap."""

    def __init__(self, request: bytes, length: int) -> None:
        self.request, self.length = request, length
        self.missing = length
        self.answers = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.missing -= len(data)
        if self.missing == 0:
            self.answers += 1
            self.missing = self.length
            self.transport.write(self.request)


def _load(port: int, path: str, seconds: float, connections: int = 32) -> float:
    """Requests per second at many connections."""
    return _counted(port, path, seconds, connections, time.perf_counter)[0]


def _counted(port: int, path: str, seconds: float, connections: int, clock: Callable[[], float]) -> tuple[float, float]:
    """At many connections, answers by what `clock` counts, and by the second. The answers to one path have one
    length."""
    request = _request(path)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        body = _exchange(connection, request)
        connection.sendall(request)
        first = b""
        while b"\r\n\r\n" not in first:
            first += connection.recv(65536)
        length = len(first.partition(b"\r\n\r\n")[0]) + 4 + len(body)

    async def run() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        clients = [
            (await loop.create_connection(lambda: _Client(request, length), "127.0.0.1", port))[1]
            for _ in range(connections)
        ]
        await asyncio.sleep(seconds * 0.2)
        before, counted, began = sum(client.answers for client in clients), clock(), time.perf_counter()
        await asyncio.sleep(seconds)
        done = sum(client.answers for client in clients) - before
        rates = done / (clock() - counted), done / (time.perf_counter() - began)
        for client in clients:
            client.transport.abort()
        return rates

    import uvloop

    return uvloop.run(run())
