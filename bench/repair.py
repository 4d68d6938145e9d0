"""How long late ticks take to be right at every level: 1, 100 and 10,000 of them, each in a minute of its own, over a
month of 5 million ticks of 50 symbols."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from barwright import sql
from barwright.ingest.maintain import BUDGET
from barwright.sql.engine import engine_of, levels
from bench.refresh import START, _seal_back

DAYS = 30
FILL = """
insert into ticks (symbol, ts, seq, price, size, side)
select 'S' || n %% 50, %(start)s + n * (interval '30 days' / %(ticks)s), n, 100 + 0.01 * (n::bigint * 7919 %% 1000),
       0.01 * (1 + n %% 50), case when n %% 2 = 0 then 'b' else 's' end::"char"
from generate_series(0, %(ticks)s - 1) as n
"""
# A minute of its own for each, anywhere in the month: 7,919 is prime to 43,200.
LATE = """
with late as (
    insert into ticks (symbol, ts, seq, price, size, side)
    select 'S' || n %% 50, %(start)s + make_interval(mins => n * 7919 %% 43200, secs => 31.5), %(seq)s + n, 99, 1, 'b'
    from generate_series(0, %(late)s - 1) as n
    returning symbol, date_bin('1 minute', ts, '2000-01-03Z') as minute
)
insert into late_range (symbol, span) select symbol, tstzrange(minute, minute + interval '1 minute') from late
"""


def measure(dsn: str, ticks: int = 5_000_000) -> dict[str, Any]:
    """On an empty migrated database. Seconds from the late ticks' landing to their being right at every level, as
    maintain's rounds repair them, and milliseconds a bucket of one level."""
    with sql.connect(dsn, "bench", autocommit=True) as connection:
        engine = engine_of(connection)
        connection.execute("select prepare_ticks(array(select %s + make_interval(days => n) "
                           "from generate_series(0, 30) as n))", (START,))  # fmt: skip
        _seal_back(connection)
        connection.execute(FILL, {"start": START, "ticks": ticks})
        connection.execute("analyze ticks")
        connection.execute("select move_seal(%s)", (START + timedelta(days=DAYS + 1),))
        for level in levels(connection):
            engine.advance(level.name)
        result: dict[str, Any] = {"engine": engine.name, "ticks": ticks}
        for late in (1, 100, 10_000):
            connection.execute(LATE, {"start": START, "seq": 10**9 + late * 10**6, "late": late})
            began = time.perf_counter()
            while engine.repair(BUDGET):
                pass
            seconds = time.perf_counter() - began
            result[f"late_{late}_s"] = round(seconds, 3)
            result[f"late_{late}_ms_per_bucket"] = round(seconds * 1000 / late / len(levels(connection)), 3)
        return result
