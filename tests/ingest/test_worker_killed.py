"""A Citus worker is killed again and again while two ingest processes land: nothing lost, nothing doubled.

Run where DATABASE_URL names the coordinator of a cluster whose workers are processes of this machine.
"""

import contextlib
import random
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from tests import citus, oracle
from tests.ingest.conftest import World, eventually
from tests.sql.market import COLUMNS, INTERVALS

TICKS, SYMBOLS, A_RECORD, KILLS = 30_000, 10, 10, 5


@pytest.fixture
def worker(world: World) -> citus.Postmaster:
    """The first worker's process."""
    nodes = citus.everywhere(world.settings.database_url)
    if len(nodes) < 2:
        pytest.skip("DATABASE_URL names no Citus cluster with workers")
    try:
        return citus.Postmaster(nodes[1])
    except (LookupError, psycopg.errors.InsufficientPrivilege) as error:
        pytest.skip(f"no worker to kill: {error}")


def _tick(n: int, chance: random.Random) -> dict[str, Any]:
    """A tick of now, or, each tenth, of the last hour."""
    late = timedelta(minutes=chance.randint(5, 59)) if n % 10 == 0 else timedelta()
    return {"symbol": f"S{n // A_RECORD % SYMBOLS}", "ts": datetime.now(UTC) - late, "seq": n + 1,
            "price": Decimal(chance.randint(100, 999)) / 8, "size": Decimal(chance.randint(1, 99)) / 4, "side": "b",
            "open": None, "high": None, "low": None, "quote": None, "trades": None}  # fmt: skip


def _message(tick: dict[str, Any]) -> dict[str, Any]:
    return {"type": "trade", "symbol": tick["symbol"], "ts": f"{tick['ts']:%Y-%m-%dT%H:%M:%S.%f}Z",
            "id": str(tick["seq"]), "price": str(tick["price"]), "size": str(tick["size"]), "side": "buy"}  # fmt: skip


def _asked(world: World, query: str) -> Any:
    """One value; None while a worker is away."""
    with contextlib.suppress(psycopg.Error):
        return world.one(query)
    return None


@pytest.mark.slow
def test_a_worker_killed_while_two_processes_land_loses_and_doubles_nothing(
    world: World, worker: citus.Postmaster
) -> None:
    chance = random.Random(7)
    world.topic()
    processes = [world.spawn(), world.spawn(), world.spawn("maintain")]
    eventually(lambda: _asked(world, "select count(*) from ingest_offset"), 4, 60)
    sent: dict[tuple[str, datetime, int], dict[str, Any]] = {}
    kills, up = [], 0.0
    records = TICKS // A_RECORD
    began = time.monotonic()
    for n in range(records):
        ticks = [_tick(n * A_RECORD + i, chance) for i in range(A_RECORD)]
        sent |= {(tick["symbol"], tick["ts"], tick["seq"]): tick for tick in ticks}
        message = [_message(tick) for tick in ticks]
        for _ in range(1 if n % 20 else 2):  # each twentieth twice
            world.send_later(message, partition=n % SYMBOLS % 4)
        time.sleep(0.01)
        if n % (records // KILLS) == records // KILLS // 2:
            worker.kill()
            kills.append(_asked(world, "select count(*) from ticks"))
            time.sleep(chance.uniform(0.3, 2))
            worker.start()
            up = time.monotonic()
    world.producer().flush()
    eventually(lambda: _asked(world, "select count(*) from ticks"), TICKS, 120)
    eventually(lambda: _asked(world, "select count(*) from late_range"), 0, 60)
    caught_up = time.monotonic() - up
    last = max(ts for _, ts, _ in sent)
    rolled = f"select bool_and(watermark > '{oracle.bucket(last, '1m'):%F %T}Z') from level where name = '1m'"
    eventually(lambda: _asked(world, rolled), True, 120)
    assert [process.poll() for process in processes] == [None] * 3
    rows = world.query("select symbol, ts, seq, price, size, side from ticks")
    landed = {(row["symbol"], row["ts"], row["seq"]): row for row in rows}
    assert len(rows) == len(landed)
    assert landed == {key: {name: tick[name] for name in ("symbol", "ts", "seq", "price", "size", "side")}
                      for key, tick in sent.items()}  # fmt: skip
    assert world.one("select count(*) from dead_letter") == 0
    compared = 0
    for interval in INTERVALS:
        bars = world.query(f'select {", ".join(COLUMNS)} from ohlcv_{interval} order by symbol collate "C", bucket')
        assert bars == oracle.bars(sent.values(), interval), interval
        compared += len(bars)
    figures = f"{KILLS} kills in {up - began:.0f} s, {TICKS} ticks, {compared} bars equal"
    print(f"{figures}, caught up {caught_up:.1f} s after the last")
