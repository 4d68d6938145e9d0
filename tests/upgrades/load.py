"""The first landed schema, filled, in a database of either engine; and what a test compares of a database."""

import gzip
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from tests import oracle

FIRST = Path(__file__).parent / "first"
INTERVALS = (*oracle.WIDTHS, "1mo")
BAR = "symbol, bucket, open, high, low, close, volume, quote_volume, vwap, trades, buy_volume, imported"
TICK = "symbol, ts, seq, price, size, side::text, open, high, low, quote, trades"
LEVELS = ("1m", "5m", "15m", "30m", "1h", "4h", "1d")

# Schema 'barwright' by the system's own words; not the partitions of a week.
CATALOG = """
with ours as (
    select c.oid, c.relname, c.relkind from pg_class as c
    where c.relnamespace = 'barwright'::regnamespace and not c.relispartition and c.relname !~ '^alembic'
)
select format('%s %s', relkind, relname) from ours where relkind not in ('i', 'I')
union all
select format('column %s.%s %s %s %s %s', relname, attname, format_type(atttypid, atttypmod), attnotnull, attidentity,
              pg_get_expr(adbin, adrelid))
from ours join pg_attribute on attrelid = oid and attnum > 0 and not attisdropped
left join pg_attrdef on adrelid = attrelid and adnum = attnum
where relkind not in ('i', 'I')
union all
select format('constraint %s.%s %s', relname, conname, pg_get_constraintdef(k.oid))
from ours join pg_constraint as k on conrelid = ours.oid where contype <> 'n'
union all
select format('index %s', pg_get_indexdef(indexrelid)) from ours join pg_index on indrelid = ours.oid
union all
select format('view %s %s', relname, pg_get_viewdef(oid)) from ours where relkind = 'v'
union all
select format('function %s', pg_get_functiondef(oid)) from pg_proc where pronamespace = 'barwright'::regnamespace
and not exists (select from pg_depend where objid = pg_proc.oid and deptype = 'e')
union all
select format('comment %s %s', relname, description) from ours join pg_description on objoid = oid and objsubid = 0
"""
TIMESCALEDB = """
select format('aggregate %s %s %s', view_name, materialized_only, view_definition)
from timescaledb_information.continuous_aggregates
union all
select format('dimension %s %s %s', hypertable_name, column_name, time_interval)
from timescaledb_information.dimensions where hypertable_schema = 'barwright'
union all
select format('job %s %s %s %s', proc_name, hypertable_name, schedule_interval, config - 'mat_hypertable_id')
from timescaledb_information.jobs where hypertable_schema in ('barwright', '_timescaledb_internal')
"""


def first(connection: psycopg.Connection[Any], engine: str, filled: bool = True) -> None:
    """Build the first schema in an empty database, from the dump or by what its revision ran. In autocommit: a refresh
    is no part of a transaction."""
    if engine == "postgres":
        connection.execute("set check_function_bodies = off")  # as pg_dump does: they come before their tables
        _run(connection, _text("schema"))
        connection.execute("reset check_function_bodies")
    else:
        connection.execute("create schema if not exists barwright")
        _run(connection, (FIRST / "timescaledb.sql").read_text())
    connection.execute("set search_path = barwright, public")
    if filled:
        _fill(connection, engine)


def patiently(work: Callable[..., Any], *args: Any) -> Any:
    """Do what a refresh by TimescaleDB's own policies may be in the way of: they begin as soon as they are made."""
    for _ in range(50):
        try:
            return work(*args)
        except psycopg.errors.LockNotAvailable:
            time.sleep(0.1)
    return work(*args)


def state(connection: psycopg.Connection[Any]) -> dict[str, list[tuple[Any, ...]]]:
    """What an upgrade must not change: ticks, every bar, positions, letters, how far the levels are."""
    queries = {
        "ticks": f"select {TICK} from ticks order by symbol, ts, seq",
        **{i: f"select {BAR} from ohlcv_{i} order by symbol, bucket" for i in INTERVALS},
        "offsets": "select topic, partition, topic_id, next_offset, generation, rows, skipped from ingest_offset "
        "order by 1, 2",
        "letters": 'select topic_id, partition, "offset", item, reason, raw from dead_letter order by 1, 2, 3, 4',
        "symbols": "select symbol, seq_rule, registered_at from symbols order by symbol",
        "levels": "select name, ordinal, width, parent, sealed, watermark from level order by ordinal",
        "late": "select symbol, span from late_range order by id",
        "revisions": "select rev, symbol, span from revision order by rev",
        "meta": "select engine, epoch, rev from meta",
    }
    return {name: connection.execute(query.encode()).fetchall() for name, query in queries.items()}


def truth(connection: psycopg.Connection[Any], interval: str) -> list[tuple[Any, ...]]:
    """The oracle's bars over the ticks that are there, as `state` gives them."""
    columns = ("symbol", "ts", "seq", "price", "size", "side", "open", "high", "low", "quote", "trades")
    ticks = [dict(zip(columns, row, strict=True)) for row in connection.execute(f"select {TICK} from ticks".encode())]
    bars = oracle.bars(ticks, interval)
    return sorted((tuple(bar[name] for name in BAR.split(", ")) for bar in bars), key=lambda bar: bar[:2])


def catalog(connection: psycopg.Connection[Any]) -> list[str]:
    """Everything that schema barwright is made of, as text; the names of what holds data of a week, a chunk or an
    aggregate differ from database to database and are left out."""
    found = [row[0] for row in connection.execute(CATALOG)]
    if _one(connection, "select count(*) from pg_extension where extname = 'timescaledb'"):
        found += [row[0] for row in connection.execute(TIMESCALEDB)]
    return sorted(re.sub(r"(materialized_hypertable_|cagg_watermark\()\d+", r"\1N", line) for line in found)


def _fill(connection: psycopg.Connection[Any], engine: str) -> None:
    connection.execute("delete from level")
    for statement in re.split(r"(?<=;)\n(?=INSERT|SELECT)", _text("data")):
        _run(connection, statement)  # one by one: the WASM build takes no megabyte at once
    if engine == "postgres":
        _run(connection, _text("rollups"))
        return
    connection.execute("update meta set engine = 'timescaledb'")
    # The late ranges that await repair are in these bars already: repairing them again must change nothing.
    for level in LEVELS:
        until = _one(connection, "select watermark from level where name = %s", level)
        names = (f"barwright.ohlcv_{level}", until)
        patiently(connection.execute, "call refresh_continuous_aggregate(%s, '2026-10-01Z', %s)", names)


def _text(part: str) -> str:
    return gzip.decompress((FIRST / f"{part}.sql.gz").read_bytes()).decode()


def _run(connection: psycopg.Connection[Any], text: str) -> None:
    connection.execute(text.encode())


def _one(connection: psycopg.Connection[Any], query: str, *values: Any) -> Any:
    row = connection.execute(query.encode(), values).fetchone()
    assert row is not None
    return row[0]
