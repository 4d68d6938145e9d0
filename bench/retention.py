"""Ten days of ticks: what compression and retention save and cost, and that every bar stays what it was.

Loads ten days of trades, rolls them up, and hashes every level's bars; compresses all chunks and looks again; lets late
ticks land in what is compressed; drops the first six days of ticks, repairs everything, and looks again.
"""

import time
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

from barwright import sql
from barwright.ingest.policies import apply
from barwright.settings import Settings
from barwright.sql.engine import engine_of, levels

DAYS, KEPT = 10, 4.0
# Trades as an exchange sends them: prices of cents on a walk of their own, sizes of up to 8 digits, a trade's number.
FILL = """
insert into ticks (ts, symbol, seq, price, size, side)
select
    %(day)s + (n * 86400000.0 / %(each)s + n * 7919 %% 997) * interval '1 millisecond',
    'SYM' || lpad(s::text, 3, '0'),
    %(first)s + n,
    round((1000 * (1 + s %% 7) + 50 * sin((%(first)s + n) / 9000.0 + s) + n * 7919 %% 101 * 0.01)::numeric, 2),
    round((0.001 + power(n * 104729 %% 1009 / 1009.0, 4) * 3)::numeric, 8),
    case when n * 31 %% 17 < 8 then 'b' else 's' end::"char"
from generate_series(0::bigint, %(each)s - 1) as n cross join generate_series(1, %(symbols)s) as s
order by n, s
"""
HASH = """
select count(*), coalesce(sum(hashtextextended(bar::text, 0)), 0)::text from (
    select symbol, bucket, trim_scale(open), trim_scale(high), trim_scale(low), trim_scale(close), trim_scale(volume),
           trim_scale(quote_volume), trim_scale(vwap), trades, trim_scale(buy_volume), imported
    from ohlcv_{} where bucket < %s
) as bar
"""
INTERVALS = ("1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w", "1mo")
QUERIES = {
    "newest_500_1m": "select * from ohlcv_1m where symbol = 'SYM001' and bucket >= %(newest)s - interval '1 day' "
    "and bucket < %(newest)s order by bucket desc limit 500",
    "oldest_500_1m": "select * from ohlcv_1m where symbol = 'SYM001' and bucket >= %(oldest)s "
    "and bucket < %(oldest)s + interval '500 minutes' order by bucket",
    "ten_days_of_1m": "select * from ohlcv_1m where symbol = 'SYM001' and bucket >= %(oldest)s "
    "and bucket < %(newest)s order by bucket",
    "month_of_1h": "select * from ohlcv_1h where symbol = 'SYM001' and bucket >= %(newest)s - interval '30 days' "
    "and bucket < %(newest)s order by bucket",
    "hour_of_ticks": "select * from ticks where symbol = 'SYM001' and ts >= %(kept)s "
    "and ts < %(kept)s + interval '1 hour' order by ts, seq",
    "latest_bar": "select * from ohlcv_1m where symbol = 'SYM001' and bucket >= %(newest)s - interval '1 hour' "
    "and bucket < %(newest)s order by bucket desc limit 1",
}


def measure(dsn: str, ticks: int = 20_400_000, symbols: int = 20) -> dict[str, Any]:
    """On an empty migrated database. Raises AssertionError where a bar has changed."""
    now = datetime.now(UTC)
    # The bars of a level lie in chunks of ten days since 1970: one that is over.
    end = datetime.fromtimestamp(now.timestamp() // 864_000 * 864_000, UTC)
    start = end - timedelta(days=DAYS)
    settings = Settings(database_url=dsn, compress_after_days=0)
    with sql.connect(dsn, "bench", autocommit=True) as connection:
        engine = engine_of(connection)
        result: dict[str, Any] = {"engine": engine.name, "days": DAYS, "symbols": symbols}
        apply(connection, settings)
        _load(connection, start, ticks // DAYS // symbols, symbols)
        result["rolled_up_s"] = _timed(lambda: [engine.advance(level.name) for level in levels(connection)])
        connection.execute("vacuum analyze ticks")
        connection.execute("vacuum analyze")
        bars = _bars(connection, end)
        result["bars"] = {interval: count for interval, (count, _) in bars.items()}
        result["as_loaded"] = _look(connection, start, end)
        if engine.name == "timescaledb":
            packing = Settings(database_url=dsn, compress_after_days=0.001)
            result["compressed_in_s"] = _timed(lambda: apply(connection, packing))
            assert _bars(connection, end) == bars, "compression changed bars"
            result["compressed"] = _look(connection, start, end)
        result["late"] = _late(connection, engine, start, 100)
        bars = _bars(connection, end)
        keeping = Settings(
            database_url=dsn, compress_after_days=0.001, raw_retention_days=KEPT + (now - end) / timedelta(days=1)
        )
        result["dropped_in_s"] = _timed(lambda: apply(connection, keeping))
        row = connection.execute("select min(ts) from ticks").fetchone()
        assert row
        result["days_of_ticks_left"] = round((end - row[0]) / timedelta(days=1), 1)
        assert _bars(connection, end) == bars, "retention changed bars"
        # A repair over everything must leave the bars whose ticks are gone.
        connection.execute(
            "insert into late_range (symbol, span) select symbol, tstzrange(%s, %s) from symbols", (start, end)
        )
        result["repaired_all_in_s"] = _timed(engine.repair)
        assert _bars(connection, end) == bars, "a repair changed bars"
        apply(connection, keeping)  # what the repair wrote is compressed again
        result["retained"] = _look(connection, start, end)
        return result


def _load(connection: Any, start: datetime, each: int, symbols: int) -> None:
    """`each` trades of each symbol a day, in the order of their times, as they would have arrived; sealed."""
    connection.execute("update level set sealed = %(start)s, watermark = %(start)s", {"start": start})
    connection.execute(
        "insert into symbols (symbol) select 'SYM' || lpad(s::text, 3, '0') from generate_series(1, %s) as s",
        (symbols,),
    )
    for d in range(DAYS):
        day = start + timedelta(days=d)
        connection.execute("select prepare_ticks(array[%s])", (day,))
        connection.execute(FILL, {"day": day, "first": d * each, "each": each, "symbols": symbols})
    connection.execute("analyze ticks")
    connection.execute("select move_seal(%s)", (start + timedelta(days=DAYS),))


def _bars(connection: Any, end: datetime) -> dict[str, Any]:
    """How many bars each level has, and a sum of the hashes of all their digits."""
    return {name: connection.execute(HASH.format(name), (end,)).fetchone() for name in INTERVALS}


def _look(connection: Any, start: datetime, end: datetime) -> dict[str, Any]:
    """Sizes by table and the time of each query in ms, the median of 12."""
    connection.execute("vacuum analyze")
    rows = connection.execute("select name, rows, bytes, compressed_rows, compressed_bytes from storage()").fetchall()
    times = {"oldest": start, "newest": end, "kept": end - timedelta(days=2, hours=12)}
    return {
        "mb": round(sum(row[2] for row in rows) / 1e6, 1),
        "sizes": {
            name: {"rows": count, "mb": round(size / 1e6, 2), "bytes_a_row": round(size / count, 1) if count else None,
                   "compressed_rows": packed, "bytes_a_compressed_row": round(less / packed, 1) if packed else None}
            for name, count, size, packed, less in sorted(rows, key=lambda row: -row[2])
        },
        "ms": {name: _ms(connection, query, times) for name, query in QUERIES.items()},
    }  # fmt: skip


def _ms(connection: Any, query: str, times: dict[str, datetime]) -> float:
    return round(1000 * median(_timed(lambda: connection.execute(query, times).fetchall()) for _ in range(12)), 2)


def _late(connection: Any, engine: Any, start: datetime, late: int) -> dict[str, Any]:
    """Late ticks, each in a minute of its own, land in the oldest chunks and are repaired."""
    times = [start + timedelta(minutes=13 * n, seconds=30.5) for n in range(late)]
    began = time.perf_counter()
    connection.execute(
        "insert into ticks (symbol, ts, seq, price, size) select 'SYM001', ts, 10 ^ 12 + n, 999, 1 "
        "from unnest(%s::timestamptz[]) with ordinality as t (ts, n) on conflict (symbol, ts, seq) do nothing", (times,)
    )  # fmt: skip
    landed = time.perf_counter()
    connection.execute(
        "insert into late_range (symbol, span) select 'SYM001', tstzrange(m, m + interval '1 minute') "
        "from (select date_bin('1 minute', ts, '2000-01-03Z') as m from unnest(%s::timestamptz[]) as ts) as minute",
        (times,),
    )
    repaired = _timed(engine.repair)
    return {"ticks": late, "landed_s": round(landed - began, 3), "repaired_s": repaired}


def _timed(work: Any) -> float:
    """Seconds that `work` takes."""
    began = time.perf_counter()
    work()
    return round(time.perf_counter() - began, 5)
