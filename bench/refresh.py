"""How fast closed bars are made: ticks per second rolled up through all seven levels, and repaired after late ticks."""

import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from barwright import sql
from barwright.sql.engine import engine_of, levels
from bench import ingest
from bench.ingest import COLUMNS

START, DAY = datetime(2024, 3, 4, tzinfo=UTC), timedelta(days=1)
FILL = """
insert into ticks (symbol, ts, seq, price, size, side)
select 'S' || n %% %(symbols)s, %(start)s + n * (interval '1 day' / %(ticks)s), n,
       100 + 0.01 * (n::bigint * 7919 %% 1000), 0.01 * (1 + n %% 50), case when n %% 2 = 0 then 'b' else 's' end::"char"
from generate_series(0, %(ticks)s - 1) as n
"""


def measure(dsn: str, ticks: int = 1_000_000, symbols: int = 50, late: int = 100, rounds: int = 5) -> dict[str, Any]:
    """On an empty migrated database: a day of ticks rolled up at once (the whole catch-up), then late ticks repaired.

    Returns ticks/s of the roll-up, how many times those of COPY that is (each round copies a day and rolls it up, so
    that a machine that slows down slows both), and seconds of the repair of `late` ticks in as many minutes.
    """
    with sql.connect(dsn, "bench", autocommit=True) as connection:
        engine = engine_of(connection)
        connection.execute("select prepare_ticks(array(select generate_series(%s::timestamptz, %s, '1 day')))",
                           (START, START + rounds * DAY))  # fmt: skip
        _seal_back(connection)
        connection.execute(FILL, {"symbols": symbols, "start": START, "ticks": ticks})
        with connection.cursor().copy(f"copy (select {COLUMNS} from ticks order by ts) to stdout") as rows:
            first = b"".join(rows)
        _rolled(connection, engine, START)
        days = [_day(connection, engine, first, START + n * DAY) for n in range(1, rounds + 1)]
        _late(connection, late)
        repaired = _timed(engine.repair)
    return {
        "engine": engine.name,
        "ticks": ticks,
        "refresh_ticks_per_s": round(ticks / statistics.median(rolled for _, rolled in days)),
        "of_copy_limit": round(statistics.median(copied / rolled for copied, rolled in days), 2),
        "late_ticks": late,
        "repair_s": round(repaired, 3),
    }


def _day(connection: Any, engine: Any, first: bytes, day: datetime) -> tuple[float, float]:
    """Seconds of the same ticks on another day: copied as ingest's limit copies them, and rolled up."""
    lines = first.replace(f"{START:%Y-%m-%d}".encode(), f"{day:%Y-%m-%d}".encode()).splitlines(keepends=True)
    batches = [b"".join(lines[n : n + ingest.BATCH]) for n in range(0, len(lines), ingest.BATCH)]
    return _timed(lambda: ingest._copy(connection, batches)), _rolled(connection, engine, day)


def _rolled(connection: Any, engine: Any, day: datetime) -> float:
    connection.execute("analyze ticks")
    connection.execute("select move_seal(%s)", (day + DAY,))
    return _timed(lambda: [engine.advance(level.name) for level in levels(connection)])


def _seal_back(connection: Any) -> None:
    """As if nothing had been rolled up since START."""
    connection.execute("update level set sealed = %(start)s, watermark = %(start)s", {"start": START})


def _late(connection: Any, late: int) -> None:
    """One late tick in each of `late` minutes spread over the day."""
    for n in range(late):
        ts = START + timedelta(minutes=1440 // late * n, seconds=30.5)
        connection.execute(
            "insert into ticks (symbol, ts, seq, price, size) values ('S1', %s, %s, 99, 1)", (ts, 10**9 + n)
        )
        minute = ts.replace(second=0, microsecond=0)
        connection.execute(
            "insert into late_range (symbol, span) values ('S1', tstzrange(%s, %s))",
            (minute, minute + timedelta(minutes=1)),
        )


def _timed(work: Any) -> float:
    """Seconds that `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
