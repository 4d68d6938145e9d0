"""How fast a year of minutes leaves the API as Arrow, Parquet and CSV, against COPY of the same rows in PostgreSQL's
binary format; and what memory ten million bars cost the server."""

from __future__ import annotations

import http.client
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil

from barwright import sql
from barwright.embedded.ports import free_port
from barwright.sql.engine import engine_of, levels

START = datetime(2025, 1, 1, tzinfo=UTC)
DAYS, SYMBOLS = 365, 20  # ten million bars
SPAN = {"start": START.strftime("%Y-%m-%d"), "end": (START + timedelta(days=DAYS)).strftime("%Y-%m-%d")}
FILL = """
insert into ticks (symbol, ts, seq, price, size, side)
select %(symbol)s, %(start)s + n * interval '1 minute', n, 60000 + 0.01 * (n::bigint * 7919 %% 1000000),
       0.00000001 * (1 + n::bigint * 104729 %% 1000000000), case when n %% 2 = 0 then 'b' else 's' end::"char"
from generate_series(0, %(days)s * 1440 - 1) as n
"""
COPY = "copy (select * from ohlcv_1m where {} order by bucket) to stdout (format binary)"
# As it is installed where it serves: there is no pandas for pyarrow to load, which takes 30 MB.
SERVER = """
import sys
class NoPandas:
    def find_spec(name, *_):
        if name == "pandas":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NoPandas)
sys.argv = ["barwright", "serve"]
from barwright.cli import main
main()
"""


def measure(dsn: str, redis_url: str, symbols: int = SYMBOLS, rounds: int = 5) -> dict[str, Any]:
    """On an empty migrated database. Medians in seconds, their ratios to COPY in the same round, megabytes at most."""
    engine = fill(dsn, symbols)
    result: dict[str, Any] = {"engine": engine, "bars": DAYS * 1440}
    with server(dsn, redis_url) as (port, process):
        once = process.memory_info().rss
        found = [{"copy": copied(dsn), **{name: read(port, name)[0] for name in ("arrow", "parquet", "csv")}}
                 for _ in range(rounds)]  # fmt: skip
        result |= {f"{name}_s": round(statistics.median(times[name] for times in found), 2) for name in found[0]}
        for name in ("arrow", "parquet", "csv"):
            result[f"{name}_to_copy"] = round(statistics.median(times[name] / times["copy"] for times in found), 2)
    with server(dsn, redis_url) as (port, process):
        seconds, size, most = read(port, "arrow", ",".join(f"S{n}" for n in range(symbols)), process)
    result["all"] = {"bars": symbols * DAYS * 1440, "s": round(seconds, 1), "megabytes": size >> 20}
    return result | {"server_mb": once >> 20, "server_most_mb": most >> 20}


def fill(dsn: str, symbols: int) -> str:
    """A year of a trade each minute, rolled up; the engine's name."""
    with sql.connect(dsn, "bench", autocommit=True) as connection:
        engine = engine_of(connection)
        connection.execute("select prepare_ticks(array(select generate_series(%s::timestamptz, %s, '1 day')))",
                           (START, START + timedelta(days=DAYS)))  # fmt: skip
        connection.execute("update level set sealed = %(start)s, watermark = %(start)s", {"start": START})
        connection.execute(
            "insert into symbols (symbol) select 'S' || n from generate_series(0, %s - 1) as n", (symbols,)
        )
        for n in range(symbols):
            connection.execute(FILL, {"symbol": f"S{n}", "start": START, "days": DAYS})
        connection.execute("select move_seal(%s)", (START + timedelta(days=DAYS),))
        for level in levels(connection):
            engine.advance(level.name)
        connection.execute("vacuum analyze")
        return engine.name


@contextmanager
def server(dsn: str, redis_url: str) -> Iterator[tuple[int, psutil.Process]]:
    """The API in a process of its own: its port and the process."""
    port = free_port(0)
    env = {**os.environ, "DATABASE_URL": dsn, "REDIS_URL": redis_url, "BARWRIGHT_PORT": str(port),
           "BARWRIGHT_LOG_LEVEL": "ERROR"}  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", SERVER], env=env, stdout=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                drained(port, "/health/live")
                break
            except OSError:
                time.sleep(0.1)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(10)


def copied(dsn: str) -> float:
    """Seconds of COPY through psycopg, which hands each row over as bytes."""
    query = COPY.format("symbol = 'S0' and bucket >= %(start)s and bucket < %(end)s")
    with sql.connect(dsn, "bench", autocommit=True) as connection, connection.cursor() as cursor:
        began = time.perf_counter()
        with cursor.copy(query, SPAN) as rows:  # type: ignore[call-overload]
            for _ in rows:
                pass
        return time.perf_counter() - began


def read(port: int, format: str, symbols: str = "S0", process: psutil.Process | None = None,
         ) -> tuple[float, int, int]:  # fmt: skip
    """Seconds and bytes of an answer, and the most memory its server had meanwhile."""
    query = {"symbol": symbols, "interval": "1m", "format": format, **SPAN}
    return drained(port, "/v1/bars?" + "&".join(f"{name}={value}" for name, value in query.items()), process)


def drained(port: int, path: str, process: psutil.Process | None = None) -> tuple[float, int, int]:
    """The same of any path."""
    buffer, size, most, looked = bytearray(1 << 20), 0, 0, 0.0
    began = time.perf_counter()
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=600)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(answer.read().decode())
        while got := answer.readinto(buffer):
            size += got
            if process is not None and time.perf_counter() - looked > 0.05:
                most, looked = max(most, process.memory_info().rss), time.perf_counter()
    return time.perf_counter() - began, size, most
