"""`make fuzz CASES=100000`: what reads others' input, fed what nobody should send. ARGS="--seed N" repeats a run."""

from __future__ import annotations

import argparse
import os
import random
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path

from barwright import migrations
from barwright.settings import Settings
from tests import services
from tests.api.conftest import serving
from tests.fuzz import limits
from tests.fuzz.records import Records
from tests.fuzz.requests import Requests, lines, peak, settings, shown, sockets


def main() -> None:
    """Runs; AssertionError names the seed and the case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--limits", action="store_true", help="the largest of everything, and the next beyond it")
    asked = parser.parse_args()
    cases, seed = asked.cases, asked.seed
    print("limits" if asked.limits else f"seed {seed}, {cases:,} cases", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for server in services.server("DATABASE_URL", lambda: services.postgres(home)):
            for cache in services.server("REDIS_URL", lambda: services.valkey(home)):
                with services.new_database(server.url) as url:
                    migrations.upgrade(Settings(database_url=url))
                    if asked.limits:
                        measure(url, cache.url, home)
                        return
                    run(url, cache.url, home, seed, cases)
    print(f"crashes 0, 5xx 0, good rows lost 0; {time.monotonic() - began:.0f} s", flush=True)


def measure(database: str, redis: str, home: Path) -> None:
    """The table of limits; AssertionError names the rows that need more memory than they may."""
    limits.filled(database)
    with serving(database, redis, home / "serve.log") as api:
        print("| limit | the largest allowed | beyond it | peak memory |\n|---|---|---|---|")
        limits.table(api)


def run(database: str, redis: str, home: Path, seed: int, cases: int) -> None:
    """Most are records; a twentieth each of CSV and settings, a hundredth each of requests and WebSocket messages."""
    tenth, few = cases // 20, cases // 100
    records = Records(database, seed)
    records.run(0, cases - 2 * tenth - 2 * few)
    records.check()
    records.close()
    print("records", shown(records.counts), "good beside them", len(records.good), flush=True)
    tell("CSV lines", lines(seed, 0, tenth))
    tell("settings", settings(seed, 0, tenth))
    mine = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    with serving(database, redis, home / "serve.log") as api:
        requests = Requests(api.client, seed)
        requests.run(0, few)
        tell("requests by status", requests.counts)
        url = str(api.client.base_url).rstrip("/").replace("http", "ws", 1) + "/v1/stream"
        tell("WebSocket messages", sockets(url, seed, 0, few))
        assert api.get("/health/live").status_code == 200
        print(f"peak memory: decoding and landing {mine} MB, serve {peak(api.process.pid)} MB (pid {os.getpid()})")


def tell(what: str, counts: Counter[str]) -> None:
    """A line of the table."""
    print(what, sum(counts.values()), shown(counts), flush=True)


if __name__ == "__main__":
    main()
