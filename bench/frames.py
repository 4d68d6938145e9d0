"""The same minute bars by pandas, DuckDB and polars: no database, no server, all ticks in the memory of one process.

DuckDB and polars count in decimals and must agree to the last digit; pandas has doubles and must agree to 10^-9.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import pandas as pd
import polars as pl

COLUMNS = ("ts", "symbol", "seq", "price", "size", "side")
DUCKDB = """
select date_trunc('minute', ts) as bucket{symbol}, arg_min(price, (ts, seq)) as open, max(price) as high,
       min(price) as low, arg_max(price, (ts, seq)) as close, sum(size) as volume, sum(price * size) as quote_volume,
       count(*) as trades, coalesce(sum(size) filter (side = 'b'), 0) as buy_volume
from ticks where {where} group by all
"""
Bars = dict[tuple[str, int], tuple[Any, ...]]  # (symbol, seconds since 1970): open … buy_volume


def frame(rows: list[tuple[str, ...]]) -> pl.DataFrame:
    """The ticks as they would lie in a file: times, decimals, no order promised."""
    return pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String), orient="row").with_columns(
        pl.col("ts").str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ"),
        pl.col("seq").cast(pl.Int64),
        pl.col("price").cast(pl.Decimal(18, 2)),
        pl.col("size").cast(pl.Decimal(18, 4)),
    )


def by_polars(ticks: pl.DataFrame) -> pl.DataFrame:
    """Minute bars."""
    price, size = pl.col("price"), pl.col("size")
    quote = price.cast(pl.Decimal(38, 6)) * size.cast(pl.Decimal(38, 6))
    return (
        ticks.sort("ts", "seq")
        .group_by(pl.col("ts").dt.truncate("1m").alias("bucket"), "symbol")
        .agg(
            price.first().alias("open"), price.max().alias("high"), price.min().alias("low"),
            price.last().alias("close"), size.sum().alias("volume"), quote.sum().alias("quote_volume"),
            pl.len().alias("trades"), size.filter(pl.col("side") == "b").sum().alias("buy_volume"),
        )
    )  # fmt: skip


def by_pandas(ticks: pd.DataFrame) -> pd.DataFrame:
    """Minute bars, as most people write it."""
    ordered = ticks.sort_values(["ts", "seq"]).set_index("ts")
    ordered["quote"] = ordered["price"] * ordered["size"]
    ordered["bought"] = ordered["size"].where(ordered["side"] == "b", 0.0)
    bars = ordered.groupby("symbol").resample("1min")
    found = bars["price"].ohlc()
    found["volume"], found["quote_volume"] = bars["size"].sum(), bars["quote"].sum()
    found["trades"], found["buy_volume"] = bars["price"].count(), bars["bought"].sum()
    found = found[found["trades"] > 0].reset_index()
    return found[["ts", "symbol", *found.columns.drop(["ts", "symbol"])]]


def floats(ticks: pl.DataFrame) -> pd.DataFrame:
    """As pandas has them."""
    return ticks.with_columns(pl.col("price").cast(pl.Float64), pl.col("size").cast(pl.Float64)).to_pandas()


@contextmanager
def database(ticks: pl.DataFrame) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB with the ticks in a table of its own, in memory."""
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.register("arrow", ticks.to_arrow())
        connection.execute("create table ticks as select * from arrow")
        yield connection


def by_duckdb(connection: duckdb.DuckDBPyConnection) -> list[Any]:
    """Minute bars."""
    return connection.execute(DUCKDB.format(where="true", symbol=", symbol")).fetchall()


def bars(rows: Iterable[tuple[Any, ...]], symbol: str = "") -> Bars:
    """Rows by their keys: bucket, symbol (where it is not all the same one), numbers."""
    if symbol:
        rows = [row if isinstance(row[1], str) else (row[0], symbol, *row[1:]) for row in rows]
    return {(symbol, _seconds(bucket)): tuple(numbers) for bucket, symbol, *numbers in rows}


def same(ours: Bars, theirs: Bars, within: float, name: str) -> None:
    """That these are our bars: equal, or each number within so much of ours, relatively. Raises AssertionError."""
    assert theirs.keys() == ours.keys(), f"{name} has {len(theirs)} bars, we have {len(ours)}"
    for key, numbers in theirs.items():
        for number, own in zip(numbers, ours[key], strict=True):
            right = number == own if not within else abs(float(number) - float(own)) <= within * abs(float(own))
            assert right, f"{name} {key}: {number} instead of {own}"


def _seconds(bucket: Any) -> int:
    return int((bucket if bucket.tzinfo else pd.Timestamp(bucket, tz="UTC")).timestamp())
