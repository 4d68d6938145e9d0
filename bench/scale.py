"""What grows with the number of symbols: maintain's rounds, ingest's statements, what the API asks about all of them.

Each symbol is registered, live and trades twice a minute. Milliseconds but where a figure says otherwise; medians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from barwright import sql
from barwright.ingest.maintain import SYMBOLS
from barwright.sql.engine import engine_of, levels

INGEST, MAINTAIN, METRICS, API = (sql.queries(name) for name in ("ingest", "maintain", "metrics", "api"))
COUNTS = (100, 10_000, 100_000)
BATCH, PARTITIONS = 10_000, 6
COLUMNS = "ts, symbol, seq, price, size, side"
# Registered an hour ago, complete until long after this is over, and vouched for by one session on each partition.
REGISTER = """
insert into symbols (symbol, source, market, base, quote, history_start, history_source, live, registered_at, seq_rule)
select name, 'bench', name, name, 'USD', now() - interval '1 hour', 'bench', true, now() - interval '1 hour', 'id'
from unnest(%(names)s::text[]) as name on conflict do nothing
"""
VOUCH = """
insert into live_session (session, topic, partition, topic_id, source, symbols, covered, until, n)
select 'bench', 't', p, gen_random_uuid(), 'bench',
       array(select symbol from symbols where abs(hashtext(symbol)) %% %(partitions)s = p),
       tstzmultirange(tstzrange(now() - interval '2 hours', now() + interval '2 hours')), now(), 1
from generate_series(0, %(partitions)s - 1) as p
on conflict (session, topic, partition) do update set symbols = excluded.symbols, covered = excluded.covered, n = 1
"""
# Two trades of each symbol in each of the minutes between two times.
TRADE = """
insert into ticks (symbol, ts, seq, price, size, side)
select symbol, minute + half * interval '30 seconds' + interval '1 second',
       extract(epoch from minute)::bigint * 2 + half, 100 + half * 0.01, 0.5, 'b'
from symbols
cross join generate_series(%(lo)s::timestamptz, %(hi)s::timestamptz - interval '1 second', '1 minute') as minute
cross join generate_series(0, 1) as half
"""

# A late tick of each.
LATE = """
insert into late_range (symbol, span)
select symbol, tstzrange(history_start, history_start + interval '1 minute') from symbols
"""


def measure(dsn: str, counts: tuple[int, ...] = COUNTS) -> dict[str, Any]:
    """On an empty migrated database; figures for each number of symbols, smallest first."""
    with sql.connect(dsn, "bench", autocommit=True) as connection:
        row = connection.execute("select engine, workers() from meta").fetchone()
        result: dict[str, Any] = {"engine": row and " ".join(str(part) for part in row if part is not None)}
        for count in counts:
            result[f"{count}_symbols"] = _with(connection, count)
    return result


def _with(connection: Any, count: int) -> dict[str, Any]:
    names = [f"S{n:06}USD" for n in range(count)]
    figures: dict[str, Any] = {}
    figures["register"] = _timed(lambda: connection.execute(REGISTER, {"names": names}), 1)
    connection.execute(VOUCH, {"partitions": PARTITIONS})
    figures |= _rounds(connection, count)
    figures |= _ingest(connection, names)
    figures |= _asked(connection, names)
    figures |= _missed(connection)
    return figures


def _rounds(connection: Any, count: int) -> dict[str, Any]:
    """Rounds of maintain: an hour of ticks closed minute by minute, the last one at the top of an hour."""
    engine = engine_of(connection)
    top = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    connection.execute("delete from late_range")
    connection.execute("truncate ticks, rollup_1m, rollup_5m, rollup_15m, rollup_30m, rollup_1h, rollup_4h, rollup_1d")
    start = top - timedelta(minutes=4)
    connection.execute("update level set sealed = date_bin(width, %(t)s, '2000-01-03Z'), "
                       "watermark = date_bin(width, %(t)s, '2000-01-03Z')", {"t": start})  # fmt: skip
    connection.execute("select prepare_ticks(array[%s, now()])", (start,))
    connection.execute(TRADE, {"lo": start, "hi": top})
    connection.execute("analyze ticks")
    seals, minutes = [], []
    for n in range(1, 4):
        until = start + timedelta(minutes=n)
        seals.append(_timed(lambda until=until: connection.execute("select move_seal(%s)", (until,)), 1))
        minutes.append(_timed(lambda: _advance(engine, connection), 1))
    connection.execute("select move_seal(%s)", (top,))
    figures = {"seal": statistics.median(seals), "minute_closed": statistics.median(minutes)}
    figures["hour_closed"] = _timed(lambda: _advance(engine, connection), 1)
    figures["minute_closed_ticks_per_s"] = round(2 * count / figures["minute_closed"] * 1000)
    figures["idle_levels"] = _timed(lambda: _advance(engine, connection))
    figures["look_for_missing"] = _timed(lambda: connection.execute(MAINTAIN["wanted"]).fetchall())
    some = [name for (name,) in connection.execute("select symbol from symbols limit %s", (SYMBOLS,))]
    figures["file_200"] = _timed(lambda: connection.execute(MAINTAIN["file_tasks"], {"symbols": some}))
    figures["corrections"] = _timed(
        lambda: connection.execute(MAINTAIN["file_corrections"], {"every": timedelta(hours=1)}), 1
    )
    return figures


def _advance(engine: Any, connection: Any) -> None:
    for level in levels(connection):
        engine.advance(level.name)


def _ingest(connection: Any, names: list[str]) -> dict[str, Any]:
    """What a writer does: a batch of 10,000 rows over as many symbols as it holds, and marks."""
    now = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=30)

    def batch(first: int) -> bytes:
        rows = (
            f"{now + timedelta(milliseconds=n)}\t{names[n % len(names)]}\t{10**12 + n}\t100.5\t0.25\tb\n"
            for n in range(first, first + BATCH)
        )
        return "".join(rows).encode()

    batches = [batch(first) for first in range(0, BATCH * 5, BATCH)]

    def copy() -> None:
        with connection.transaction(), connection.cursor().copy(f"copy ticks ({COLUMNS}) from stdin") as out:
            out.write(batches.pop())

    said = {"session": "bench", "topic": "t", "partition": 0, "rest": 0}
    state = "select topic_id, n, until from live_session where session = 'bench' and partition = 0"

    def land() -> None:
        topic_id, n, until = connection.execute(state).fetchone()
        mark = {"n": n + 1, "from": until.isoformat(), "to": (until + timedelta(seconds=1)).isoformat(),
                "count": 0, "seen": 0}  # fmt: skip
        connection.execute(INGEST["land_session"], {**said, "topic_id": topic_id, "marks": Jsonb([mark])})

    return {
        "copy_rows_per_s": round(BATCH / _timed(copy) * 1000),
        "mark": _timed(land),
        "known_symbols": _timed(lambda: connection.execute(INGEST["known_symbols"]).fetchall()),
    }


def _asked(connection: Any, names: list[str]) -> dict[str, Any]:
    """What the API, the dashboards and people ask."""
    some, now = names[:100], datetime.now(UTC)
    coverage = {"symbol": names[0]}
    return {
        "gaps": _timed(lambda: connection.execute("select count(*) from gaps")),
        "overview": _timed(lambda: connection.execute(METRICS["overview"]).fetchall()),
        "one_gap": _timed(lambda: connection.execute("select * from gaps where symbol = %s", (names[0],)), 15),
        "coverage_of_one": _timed(lambda: connection.execute(API["coverage"], coverage).fetchall()),
        "all_symbols": _timed(lambda: connection.execute(API["symbols"], {"symbol": None}).fetchall(), 1),
        "look": _timed(lambda: connection.execute(API["look"], {"seen": 0}).fetchall()),
        "latest_of_100": _timed(
            lambda: connection.execute(
                "select distinct on (symbol) * from ohlcv_1m where symbol = any(%s) and bucket >= %s "
                "order by symbol, bucket desc", (some, now - timedelta(hours=2)),
            ).fetchall()
        ),
        "page_of_one": _timed(
            lambda: connection.execute(
                "select * from ohlcv_1m where symbol = %s and bucket >= %s order by bucket limit 500",
                (names[0], now - timedelta(hours=2)),
            ).fetchall()
        ),
    }  # fmt: skip


def _missed(connection: Any) -> dict[str, Any]:
    """The same where every symbol misses something and has late ticks."""
    connection.execute("update live_session set covered = '{}'")
    connection.execute(LATE)
    connection.execute("analyze late_range")
    figures = {
        "gaps_everywhere": _timed(lambda: connection.execute("select count(*) from gaps"), 3),
        "overview_everywhere": _timed(lambda: connection.execute(METRICS["overview"]).fetchall(), 3),
        "look_everywhere": _timed(lambda: connection.execute(MAINTAIN["wanted"]).fetchall(), 3),
    }
    connection.execute("delete from late_range")
    return figures


def _timed(work: Callable[[], Any], times: int = 5) -> float:
    """Milliseconds that `work` takes, the median of so many times."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append((time.perf_counter() - began) * 1000)
    return round(statistics.median(found), 1)
