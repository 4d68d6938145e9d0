"""The views as clients see them: each reads the same bars, with every digit where its types can hold them."""

import asyncio
import csv
import io
import shutil
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import adbc_driver_postgresql.dbapi
import asyncpg
import pandas
import polars
import pytest
import sqlalchemy
from psycopg.conninfo import conninfo_to_dict

from barwright import migrations, sql
from barwright.settings import Settings
from tests import services
from tests.services import Server
from tests.sql.market import Market

QUERY = "select bucket, open, high, low, close, volume, vwap, trades from ohlcv_5m where symbol = '{}' order by bucket"
NAMES = ["open", "high", "low", "close", "volume", "vwap", "trades"]


class Seeded:
    """A database with an hour of trades of one symbol, partly rolled up, whose digits no double holds."""

    def __init__(self, url: str, market: Market) -> None:
        self.url, self.query = url, QUERY.format(market.symbol)
        given = conninfo_to_dict(url)
        self.server = {"host": given["host"], "port": int(given["port"] or 5432), "database": given["dbname"]}
        self.user, self.password = given["user"], given.get("password")
        self.bars = market.oracle("5m")
        self.buckets: list[datetime] = [bar["bucket"] for bar in self.bars]
        self.values = [[bar[name] for name in NAMES] for bar in self.bars]


@pytest.fixture(scope="module")
def seeded(postgres: Server, template: str | None) -> Iterator[Seeded]:
    with services.new_database(postgres.url, template) as url, sql.connect(url, "test", autocommit=True) as connection:
        if template is None:
            migrations.upgrade(Settings(database_url=url))
        market = Market(connection, "BTCUSD")
        base = market.at("03-01 00:00")
        market.insert(*(
            market.trade(base + timedelta(seconds=7 * n), f"8500.12345678901234{n % 89:02}", f"0.00000001{n}")
            for n in range(1, 500)
        ))  # fmt: skip
        market.seal("03-01 00:30")
        yield Seeded(url, market)


def floats(rows: list[list[Any]]) -> list[list[float]]:
    """What a client with doubles makes of exact numbers."""
    return [[pytest.approx(float(value), rel=1e-15) for value in row] for row in rows]


@pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")
def test_psql(seeded: Seeded) -> None:
    command = ["psql", seeded.url, "--no-psqlrc", "--csv", "--tuples-only", "-c", seeded.query]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = list(csv.reader(io.StringIO(told)))
    assert [datetime.fromisoformat(row[0]) for row in rows] == seeded.buckets
    assert [[Decimal(value) for value in row[1:]] for row in rows] == seeded.values


def test_asyncpg(seeded: Seeded) -> None:
    async def fetch() -> list[Any]:
        connection = await asyncpg.connect(user=seeded.user, password=seeded.password, **seeded.server)
        try:
            return list(await connection.fetch(seeded.query))
        finally:
            await connection.close()

    rows = asyncio.run(fetch())
    assert [row["bucket"] for row in rows] == seeded.buckets
    assert [[row[name] for name in NAMES] for row in rows] == seeded.values


def test_pandas(seeded: Seeded) -> None:
    url = sqlalchemy.URL.create("postgresql+psycopg", seeded.user, seeded.password, **seeded.server)
    engine = sqlalchemy.create_engine(url)
    try:
        frame = pandas.read_sql(seeded.query, engine)
        exact = pandas.read_sql(seeded.query, engine, coerce_float=False)
    finally:
        engine.dispose()
    assert list(frame["bucket"]) == seeded.buckets
    assert frame[NAMES].values.tolist() == floats(seeded.values)
    assert exact[NAMES].values.tolist() == seeded.values


def test_polars(seeded: Seeded) -> None:
    with sql.connect(seeded.url) as connection:
        frame = polars.read_database(seeded.query, connection, infer_schema_length=None)
    assert frame["bucket"].to_list() == seeded.buckets
    assert [list(row) for row in frame.select(NAMES).rows()] == seeded.values


def test_adbc(seeded: Seeded) -> None:
    with adbc_driver_postgresql.dbapi.connect(seeded.url) as connection, connection.cursor() as cursor:
        cursor.execute(seeded.query)
        table = cursor.fetch_arrow_table()
    assert table["bucket"].to_pylist() == seeded.buckets
    # A numeric is `arrow.opaque` over its text: exact, and for the reader to cast.
    columns = [[Decimal(value) for value in table[name].to_pylist()] for name in NAMES]
    assert [list(row) for row in zip(*columns, strict=True)] == seeded.values
