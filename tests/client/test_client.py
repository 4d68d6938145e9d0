"""The client against the real API: its frames and its stream equal the oracle, its errors say what was wrong."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from socket import SHUT_RDWR
from typing import Any

import pandas
import polars
import pyarrow as pa
import pytest
from websockets.sync.client import connect

import barwright.client as barwright
from barwright.client import (
    AsyncClient,
    BadRequestError,
    Client,
    ClientError,
    ConnectionFailedError,
    NotFoundError,
    is_complete,
)
from barwright.client.address import address
from barwright.embedded.ports import free_port
from tests.api.conftest import Api
from tests.sql.market import Market

New = Callable[..., Market]
NAMES = ["bucket", "open", "high", "low", "close", "volume", "quote_volume", "vwap", "trades", "buy_volume", "imported"]


@pytest.fixture
def client(api: Api) -> Iterator[Client]:
    with Client(str(api.client.base_url)) as client:
        yield client


@pytest.fixture
def market(new: New) -> Market:
    m = new()
    base = m.at("03-01 00:00")
    m.insert(*(
        m.trade(base + timedelta(seconds=20 * n), f"8500.1234567{n % 7}", f"0.0000000{n % 9 + 1}")
        for n in range(900)
    ))  # fmt: skip
    m.seal("03-01 03:00")
    return m


def rows(bars: list[dict[str, Any]]) -> list[list[Any]]:
    return [[bar[name] for name in NAMES] for bar in bars]


def values(table: pa.Table) -> list[list[Any]]:
    return [[row[name] for name in NAMES] for row in table.to_pylist()]


def test_a_table_has_every_digit(client: Client, market: Market) -> None:
    table = client.bars(market.symbol, "1m", start=market.start)
    assert values(table) == rows(market.oracle("1m"))
    assert is_complete(table) is None
    hour = client.bars(market.symbol, "1h", market.at("03-01 01:00"), market.at("03-01 03:00"))
    assert values(hour) == rows(market.oracle("1h"))[1:3]
    newest = client.bars(market.symbol, "5m", limit=3, order="desc")
    assert values(newest) == rows(market.oracle("5m"))[:-4:-1]
    # More arrives than fits in one page of the server, and a time may be a number or text.
    assert len(client.bars(market.symbol, "1m", int(market.start.timestamp()), str(market.year + 1) + "-01-01")) == 300


def test_frames(client: Client, market: Market) -> None:
    closes = [bar["close"] for bar in market.oracle("15m")]
    frame = client.bars(market.symbol, "15m", market.start, frame="pandas")
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.index) == [bar["bucket"] for bar in market.oracle("15m")]
    assert frame["close"].dtype == float
    assert frame["close"].tolist() == [float(close) for close in closes]
    assert frame.attrs["complete"] is None
    lazy = client.bars(market.symbol, "15m", market.start, frame="polars", numbers="decimal")
    assert isinstance(lazy, polars.DataFrame)
    assert lazy["close"].to_list() == closes


def test_several_symbols_and_the_newest_bars(client: Client, market: Market) -> None:
    market.connection.execute("insert into symbols (symbol) values ('OTHER')")
    market.insert(market.trade("03-01 04:00:01", "7", symbol="OTHER"))
    table = client.bars([market.symbol, "OTHER"], "1d")
    assert table.column("symbol").to_pylist() == [market.symbol, "OTHER"]
    newest = {bar.symbol: bar for bar in client.latest([market.symbol, "OTHER"], "1h")}
    assert newest["OTHER"].close == Decimal(7)
    assert newest[market.symbol].interval == "1h"
    assert {market.symbol, "OTHER"} <= {row["symbol"] for row in client.symbols()}


def test_asyncio(api: Api, market: Market) -> None:
    async def ask() -> tuple[pa.Table, Any, Any]:
        async with AsyncClient(str(api.client.base_url)) as client:
            return await asyncio.gather(
                client.bars(market.symbol, "1m"), client.latest(market.symbol), client.symbols()
            )

    table, newest, symbols = asyncio.run(ask())
    assert values(table) == rows(market.oracle("1m"))
    assert newest[0].close == market.oracle("1m")[-1]["close"]
    assert market.symbol in {row["symbol"] for row in symbols}


def test_errors_have_types(client: Client, market: Market) -> None:
    with pytest.raises(NotFoundError, match="no symbol NOPE") as unknown:
        client.bars("NOPE", "1m")
    assert (unknown.value.status, unknown.value.code) == (404, "unknown_symbol")
    with pytest.raises(BadRequestError) as wrong:
        client.bars(market.symbol, "7x")
    assert wrong.value.details["parameter"] == "interval"
    with pytest.raises(ClientError, match="symbol is missing"):
        client.bars([], "1m")
    with pytest.raises(ClientError, match="no frame"):
        client.bars(market.symbol, "1m", frame="excel")  # type: ignore[arg-type]
    with pytest.raises(ConnectionFailedError, match="cannot be reached"):
        Client(f"http://127.0.0.1:{free_port(0)}").symbols()
    with pytest.raises(NotFoundError, match="NOPE"):
        next(iter(client.stream("NOPE", "1m")))
    with pytest.raises(BadRequestError):
        next(iter(client.stream(market.symbol, "7x")))


def test_where_the_server_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BARWRIGHT_HOME", str(tmp_path))
    monkeypatch.delenv("BARWRIGHT_URL", raising=False)
    assert address(None) == "http://127.0.0.1:8000"
    monkeypatch.setenv("BARWRIGHT_URL", "https://bars.example/")
    assert address(None) == "https://bars.example"
    assert address("http://other:1") == "http://other:1"
    with pytest.raises(ClientError, match="no URL"):
        address("other:1")


def test_the_server_at_hand(api: Api, market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARWRIGHT_URL", str(api.client.base_url))
    assert len(barwright.bars(market.symbol, "1h")) == 5
    assert [bar.symbol for bar in barwright.latest(market.symbol)] == [market.symbol]
    assert barwright.symbols()
    with closing(barwright.stream(market.symbol, "1h", market.start)) as bars:
        assert next(bars).bucket == market.at("03-01 00:00")


def test_the_stream_equals_the_table(client: Client, market: Market) -> None:
    stored: dict[datetime, Decimal | None] = {}
    with closing(client.stream(market.symbol, "1m", market.start)) as bars:
        for bar in bars:
            if bar.first:
                stored.clear()
                assert bar.kind == "history"
            stored[bar.bucket] = bar.close
            if len(stored) == 300:
                break
        assert stored == {row["bucket"]: row["close"] for row in market.oracle("1m")}
        # A late trade repairs a bar that was sent, another one changes the newest.
        market.insert(market.trade("03-01 00:10:59.9", "8501.5"))
        market.repair()
        market.insert(market.trade("03-01 04:59:59.9", "8502.5"))
        seen = {}
        for bar in bars:
            seen[bar.bucket] = bar.kind, bar.close
            if len(seen) == 2:
                break
    assert seen == {market.at("03-01 00:10"): ("revision", Decimal("8501.5")),
                    market.at("03-01 04:59"): ("bar", Decimal("8502.5"))}  # fmt: skip


def test_nothing_is_missed_across_a_cut(client: Client, market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    sockets = []

    def connected(**options: Any) -> Any:
        sockets.append(connect(**options))
        return sockets[-1]

    monkeypatch.setattr("websockets.sync.client.connect", connected)
    stored: dict[datetime, Decimal | None] = {}
    with closing(client.stream(market.symbol, "1m", market.start)) as bars:
        for bar in bars:
            stored[bar.bucket] = bar.close
            # What was received before the first cut may reach to the second, on a socket that is shut already.
            if len(stored) in (200, 300):
                with suppress(OSError):
                    sockets[-1].socket.shutdown(SHUT_RDWR)
            if len(stored) == 300:
                break
        market.insert(market.trade("03-01 00:20:59.9", "8501.5"), market.trade("03-01 05:00:00", "8502.5"))
        market.repair()
        wanted = {row["bucket"]: row["close"] for row in market.oracle("1m")}
        for bar in bars:
            assert not bar.first
            stored[bar.bucket] = bar.close
            if stored == wanted:
                break
    assert len(sockets) >= 2


def test_it_imports_nothing_of_the_server() -> None:
    code = "import sys, barwright.client; print([name for name in sys.modules if name.count('.') < 2])"
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    for name in ("barwright.api", "barwright.sql", "litestar", "psycopg", "kafka", "pyarrow", "pandas", "websockets"):
        assert f"'{name}'" not in told
