"""CSV, Arrow and Parquet: as their readers see them, whatever is asked for, however the client behaves."""

import csv
import io
import random
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import psutil
import psycopg
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests import oracle
from tests.api.conftest import Api, eventually
from tests.api.truth import FIELDS, expected, text
from tests.sql.market import Market

New = Callable[..., Market]
PLACES = Decimal("1e-18")
MEDIA = {
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}


@pytest.fixture(scope="module")
def m(connection: psycopg.Connection[Any], eras: Iterator[int]) -> Market:
    """Two days of trades, of numbers with every digit there may be, and of imports that tell little. Made once:
    tests that make markets in later years, and so move the watermarks, come after those that use it."""
    m, dice = Market(connection, era=eras), random.Random(7)
    connection.execute("insert into symbols (symbol) values (%s)", (m.symbol,))
    prices = ["1", "0.000000000000000001", "999999999999.123456789012345678", "64012.37", "0.1"]
    trades = [
        m.trade(m.at("03-09 00:00") + timedelta(seconds=dice.randrange(172_800)), dice.choice(prices),
                dice.choice(["0.000000000000000007", "3", "12.5", "0"]), dice.choice(["b", "s", None]))
        for _ in range(300)
    ]  # fmt: skip
    bars = [m.bar(m.at("03-10 05:00") + timedelta(minutes=n), "3.5 4 3 3.25", "7", quote, 5 if quote else None)
            for n, quote in enumerate([None, "23.75", "24"])]  # fmt: skip
    other = [m.trade(m.at("03-09 12:00") + timedelta(minutes=3 * n), str(n + 1), symbol=f"{m.symbol}B")
             for n in range(200)]  # fmt: skip
    m.connection.execute("insert into symbols (symbol) values (%s)", (f"{m.symbol}B",))
    m.insert(*trades, *bars, *other)
    m.seal("03-10 18:00")
    return m


def table(api: Api, format: str, **params: Any) -> pa.Table:
    """An answer as pyarrow reads it."""
    answer = api.get("/v1/bars", format=format, **params)
    assert (answer.status_code, answer.headers["content-type"]) == (200, MEDIA[format]), answer.text
    if format == "arrow":
        return pa.ipc.open_stream(answer.content).read_all()
    return pa.parquet.read_table(io.BytesIO(answer.content))


def rows(found: pa.Table) -> list[dict[str, Any]]:
    """The bars of a table as JSON has them, their numbers Decimals."""
    return [
        {name: text(value) if name == "bucket" else Decimal(value) if name == "trades" and value is not None else value
         for name, value in row.items()} for row in found.to_pylist()
    ]  # fmt: skip


def held(bars: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Bars as Arrow's decimals hold them: 18 places."""
    return [
        {name: value.quantize(PLACES, ROUND_HALF_UP, oracle.EXACT) if isinstance(value, Decimal) else value
         for name, value in bar.items()} for bar in bars
    ]  # fmt: skip


@pytest.mark.parametrize("format", ["arrow", "parquet"])
@pytest.mark.parametrize("interval", ["1m", "15m", "1d", "1mo"])
def test_equals_the_oracle_to_the_last_digit(api: Api, m: Market, format: str, interval: str) -> None:
    found = table(api, format, symbol=m.symbol, interval=interval)
    assert rows(found) == held(expected(m, interval))
    assert found.schema.field("open").type == pa.decimal128(38, 18)
    assert found.schema.field("bucket").type == pa.timestamp("us", "UTC")


def test_common_readers_read_it(api: Api, m: Market, tmp_path: Path) -> None:
    bars = held(expected(m, "1m"))
    closes, buckets = [bar["close"] for bar in bars], [bar["bucket"] for bar in bars]
    params = {"symbol": m.symbol, "interval": "1m"}
    arrow, parquet = (api.get("/v1/bars", format=format, **params).content for format in ("arrow", "parquet"))
    file = tmp_path / "bars.parquet"
    file.write_bytes(parquet)

    for frame in (pa.ipc.open_stream(arrow).read_pandas(), pd.read_parquet(file)):
        assert [text(bucket) for bucket in frame["bucket"]] == buckets
        assert list(frame["close"]) == closes
    for polars in (pl.read_ipc_stream(arrow), pl.read_parquet(file)):
        assert [text(bucket) for bucket in polars["bucket"]] == buckets
        assert polars["close"].to_list() == closes
        assert polars["closed"].to_list() == [bar["closed"] for bar in bars]
    streamed = pa.ipc.open_stream(arrow).read_all()
    with duckdb.connect() as duck:
        duck.register("streamed", streamed)
        duck.execute("set timezone = 'UTC'")
        for source in ("streamed", f"'{file}'"):
            found = duck.execute(f"select epoch(bucket)::bigint, close, vwap, trades from {source}").fetchall()
            assert [text(datetime.fromtimestamp(row[0], UTC) if row[0] > 0 else datetime(1970, 1, 1, tzinfo=UTC)
                         + timedelta(seconds=row[0])) for row in found] == buckets  # fmt: skip
            assert [row[1:] for row in found] == [(bar["close"], bar["vwap"], bar["trades"]) for bar in bars]


def test_floats_for_those_who_reckon_with_them(api: Api, m: Market) -> None:
    bars = expected(m, "5m")
    for format in ("arrow", "parquet"):
        found = table(api, format, symbol=m.symbol, interval="5m", numbers="float")
        assert found.schema.field("vwap").type == pa.float64()
        for name in ("open", "quote_volume", "buy_volume"):
            assert found[name].to_pylist() == [None if bar[name] is None else float(bar[name]) for bar in bars]


def test_nothing_is_a_table_too(api: Api, m: Market) -> None:
    for format in ("arrow", "parquet"):
        found = table(api, format, symbol=m.symbol, interval="1m", start="1600-01-01", end="1600-01-02")
        assert (found.num_rows, found.schema.names) == (0, FIELDS)
    answer = api.get("/v1/bars", symbol=m.symbol, interval="1m", start="1600-01-01", end="1600-01-02", format="csv")
    assert answer.text == ",".join(FIELDS) + "\r\n"


def pages(api: Api, params: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The bars of JSON, page after page; of several symbols one after the other, as tables have them."""
    for symbol in params["symbol"].split(","):
        more, left = {"symbol": symbol}, params.get("limit", 10**9)
        while left:
            answer = api.json("/v1/bars", **{**params, "limit": min(left, 400), **more})
            yield from ({"symbol": symbol, **bar} if "," in params["symbol"] else bar for bar in answer["bars"])
            left -= len(answer["bars"])
            if answer["next_cursor"] is None:
                break
            more["cursor"] = answer["next_cursor"]


def asked(dice: random.Random, year: datetime, symbol: str, other: str) -> dict[str, Any]:
    """A request, at random, that JSON answers too."""
    params: dict[str, Any] = {"symbol": dice.choice([symbol, symbol, f"{other},{symbol}"])}
    kind = dice.choice(["level", "derived", "local", "session"])
    intervals = {"level": ["1m", "5m", "1h", "1d"], "derived": ["2m", "45m", "3h", "2d"], "local": ["1h", "4h", "1d"]}
    params["interval"] = dice.choice(intervals.get(kind, ["30m", "1h", "1d"]))
    if kind in ("local", "session"):
        params["tz"] = dice.choice(["America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"])
    if kind == "session":
        params["session"] = dice.choice(["09:30-16:00", "22:00-05:00"])
    if dice.random() < 0.5:
        params["fill"] = dice.choice(["previous", "null"])
    params["order"] = dice.choice(["asc", "desc"])
    # JSON without a start ends at the newest; so that pages of it can be followed, there is one.
    day = year + timedelta(days=66, seconds=dice.randrange(200_000))
    params["start"], params["end"] = text(day), text(day + timedelta(seconds=dice.choice([3000, 40_000, 200_000])))
    if dice.random() < 0.3:
        params["limit"] = dice.choice([1, 3, 50])
    if "," in params["symbol"] and "limit" not in params:
        params["limit"] = 1000
    return params


@pytest.mark.parametrize("seed", range(4))
def test_tables_are_what_json_is(api: Api, m: Market, seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(12):
        params = asked(dice, m.start, m.symbol, f"{m.symbol}B")
        wanted = list(pages(api, params))
        for format in ("arrow", "parquet"):
            assert rows(table(api, format, **params)) == held(wanted), params
        answer = api.get("/v1/bars", format="csv", **params)
        assert [plain(row) for row in csv.DictReader(io.StringIO(answer.text))] == [plain(bar) for bar in wanted], (
            params
        )


def plain(bar: dict[str, Any]) -> dict[str, Any]:
    """A bar of JSON or of CSV, with what is the same in both."""
    return {name: _plain(name, value) for name, value in bar.items()}


def _plain(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return {None: "", True: "true", False: "false"}[value]
    return Decimal(value) if name not in ("symbol", "bucket", "imported", "closed") and value else value


@pytest.mark.parametrize("time_", ["iso", "s", "ms"])
def test_time_in_csv(api: Api, m: Market, time_: str) -> None:
    answer = api.get("/v1/bars", symbol=m.symbol, interval="1h", format="csv", time=time_).text
    bars = api.bars(m.symbol, "1h", time=time_)
    assert [row["bucket"] for row in csv.DictReader(io.StringIO(answer))] == [str(bar["bucket"]) for bar in bars]


@pytest.fixture(scope="module")
def endless(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """A request whose answer has a hundred million bars: the nulls of two centuries."""
    connection.execute("insert into symbols (symbol) values ('ENDLESS')")
    return {"symbol": "ENDLESS", "interval": "1m", "fill": "null", "start": "1700-01-01", "end": "1900-01-01"}


def test_a_client_that_goes_leaves_nothing_behind(
    api: Api, connection: psycopg.Connection[Any], endless: dict[str, Any]
) -> None:
    for format in MEDIA:
        with api.client.stream("GET", "/v1/bars", params={**endless, "format": format}) as answer:
            assert answer.status_code == 200
            next(answer.iter_raw())
    eventually(lambda: _idle(connection), 5)
    process = psutil.Process(api.process.pid)
    time.sleep(0.3)
    before = process.cpu_times()
    time.sleep(0.5)
    after = process.cpu_times()
    assert after.user - before.user < 0.3  # nobody goes on writing
    assert api.bars("ENDLESS", limit=1) == []


def _idle(connection: psycopg.Connection[Any]) -> None:
    """No connection of the API is at work."""
    query = ("select state from pg_stat_activity where datname = current_database() "
             "and application_name = 'barwright serve' and state <> 'idle'")  # fmt: skip
    assert connection.execute(query).fetchall() == []


def test_a_slow_reader_costs_no_memory(api: Api, connection: psycopg.Connection[Any], endless: dict[str, Any]) -> None:
    process = psutil.Process(api.process.pid)
    query = "&".join(f"{name}={value}" for name, value in {**endless, "format": "arrow"}.items())
    with socket.create_connection(("127.0.0.1", api.client.base_url.port)) as client:
        client.sendall(f"GET /v1/bars?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert len(client.recv(100_000)) > 0
        time.sleep(0.5)
        start, read = process.memory_info().rss, 0
        while read < 60_000_000:
            read += len(client.recv(1_000_000))
        time.sleep(0.5)
        eventually(lambda: _idle(connection), 5)  # nor a connection
        assert process.memory_info().rss - start < 50e6


def test_what_decimals_cannot_hold_is_refused(api: Api, new: New) -> None:
    m = new()
    m.insert(m.trade("03-01 00:00:30", "999999999999999999", "999999"))
    params = {"symbol": m.symbol, "interval": "1m", "format": "arrow"}
    refused = api.get("/v1/bars", **params)
    assert refused.status_code == 400
    assert "numbers=float" in refused.json()["hint"]
    found = pa.ipc.open_stream(api.get("/v1/bars", numbers="float", **params).content).read_all()
    assert found["quote_volume"].to_pylist() == [float(Decimal("999999999999999999") * 999999)]


def test_a_file_name_goes_with_it(api: Api, new: New) -> None:
    m = new("EUR/USD:x")
    answer = api.get("/v1/bars", symbol=m.symbol, interval="60m", format="parquet")
    assert answer.headers["content-disposition"] == 'attachment; filename="EUR_USD_x-1h.parquet"'


def test_a_database_that_goes_away_interrupts_nothing(api: Api, connection: psycopg.Connection[Any], new: New) -> None:
    m = new()
    connection.execute("select prepare_ticks(array(select generate_series(%s, %s, interval '1 day')))",
                       (m.at("01-01 00:00"), m.at("02-20 00:00")))  # fmt: skip
    connection.execute("insert into ticks (ts, symbol, seq, price, size) select ts, %s, 1, 1.5, 1 "
                       "from generate_series(%s, %s, interval '1 minute') as ts",
                       (m.symbol, m.at("01-01 00:00"), m.at("02-19 23:59")))  # fmt: skip
    m.seal("02-20 00:00")
    params = {"symbol": m.symbol, "interval": "1m", "format": "arrow"}
    with api.client.stream("GET", "/v1/bars", params=params) as answer:
        chunks = answer.iter_bytes()
        data = next(chunks)
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
                           "and application_name = 'barwright serve'")  # fmt: skip
        data += b"".join(chunks)
    found = pa.ipc.open_stream(data).read_all()
    assert [text(bucket) for bucket in found["bucket"].to_pylist()] == [
        text(m.at("01-01 00:00") + timedelta(minutes=n)) for n in range(50 * 1440)
    ]
    down = table(api, order="desc", **params)
    assert down["bucket"].to_pylist() == found["bucket"].to_pylist()[::-1]
    newest = table(api, limit=30_000, **params)
    assert newest["bucket"].to_pylist() == found["bucket"].to_pylist()[-30_000:]
