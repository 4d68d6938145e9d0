"""A real exchange class of ccxt, with its addresses pointed at a small server here."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from barwright.errors import BarwrightError
from barwright.ingest.feed import ccxt_live
from barwright.ingest.feed.ccxt_live import trade_of
from barwright.ingest.feed.ccxt_source import Ccxt
from barwright.ingest.feed.source import (
    Alive,
    Event,
    History,
    Market,
    MarketError,
    Subscribed,
    Subscriptions,
    Trades,
    UnavailableError,
    Unsubscribed,
)
from barwright.ingest.feed.sources import source_of
from barwright.settings import Settings
from tests.ingest.cryptocompare import Peer, Reply, http, streamer

HAS_CCXT = importlib.util.find_spec("ccxt") is not None
needs_ccxt = pytest.mark.skipif(not HAS_CCXT, reason="ccxt, an optional extra, is not installed")
BTC = Market("BTCUSDT", "BTC/USDT")
DAY = 86_400
NOW = int(datetime.now(UTC).timestamp()) - 30
TODAY = NOW // DAY * DAY
STEPS = {"1m": 60, "1h": 3_600, "1d": DAY}


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _info(name: str) -> dict[str, Any]:
    return {"symbol": f"{name}USDT", "status": "TRADING", "baseAsset": name, "quoteAsset": "USDT", "filters": [],
            "baseAssetPrecision": 8, "quotePrecision": 8, "orderTypes": [], "isSpotTradingAllowed": True,
            "permissions": ["SPOT"], "permissionSets": [["SPOT"]]}  # fmt: skip


class Exchange:
    """The few endpoints of Binance: klines of trades at these minutes (price, volume), and recent trades."""

    def __init__(self, trades: dict[int, tuple[float, float]]) -> None:
        self.trades = trades
        self.reach: dict[str, int] = {}
        self.calls: list[tuple[str, dict[str, str]]] = []
        self.recent: list[dict[str, Any]] = []
        self.scripted: list[Reply] = []

    def reply(self, path: str, query: dict[str, str]) -> Reply:
        """What it answers."""
        name = path.rpartition("/")[2]
        self.calls.append((name, query))
        if self.scripted and name != "exchangeInfo":
            return self.scripted.pop(0)
        body: Any = {}
        if name == "exchangeInfo":
            body = {"symbols": [_info("BTC"), _info("ETH")]}
        elif name == "time":
            body = {"serverTime": NOW * 1_000}
        elif name == "klines":
            body = self._klines(
                query["interval"], int(query.get("startTime", (NOW - 600) * 1_000)) // 1_000, int(query["limit"])
            )
        elif name == "aggTrades":
            since = int(query.get("startTime", 0))
            body = [trade for trade in self.recent if trade["T"] >= since][-int(query.get("limit", 500)) :]
        return 200, {}, msgspec.json.encode(body)

    def _klines(self, interval: str, since: int, limit: int) -> list[list[Any]]:
        """Without those that had no trade; the last one is open."""
        step, rows = STEPS[interval], dict[int, list[tuple[float, float]]]()
        for minute, traded in self.trades.items():
            time = minute // step * step
            if time >= max(since, self.reach.get(interval, 0)):
                rows.setdefault(time, []).append(traded)
        found = []
        for time, traded in sorted(rows.items())[:limit]:
            prices = [price for price, _ in traded]
            numbers = (prices[0], max(prices), min(prices), prices[-1], sum(volume for _, volume in traded))
            found.append(
                [time * 1_000, *(f"{number:.8f}" for number in numbers), time * 1_000 + 1, "1", 1, "1", "1", "0"]
            )
        return found


def minutes(start: int, end: int, step: int = 60) -> dict[int, tuple[float, float]]:
    return {time: (100 + time // 60 % 7 / 4, 0.25) for time in range(start, end, step)}


@asynccontextmanager
async def source(exchange: Exchange, ws: str = "", **has: bool) -> AsyncIterator[Ccxt]:
    async with http(exchange.reply) as url:
        api = {"public": f"{url}/api/v3", "private": f"{url}/api/v3", "v3": f"{url}/api/v3", "sapi": f"{url}/sapi/v1"}
        made = Ccxt.of(
            "ccxt:binance",
            timedelta(seconds=10),
            {
                "urls": {"api": api | ({"ws": {"spot": ws}} if ws else {})},
                "options": {"fetchMarkets": {"types": ["spot"]}, "defaultType": "spot", "fetchCurrencies": False},
                "has": {"fetchCurrencies": False, **has},
                "rateLimit": 1,
            },
        )
        made.pause = 0.01
        try:
            yield made
        finally:
            await made.close()


def history(exchange: Exchange, interval: str, lo: int, hi: int, market: Market = BTC) -> History:
    async def ask() -> History:
        async with source(exchange) as made:
            return await made.history(market, interval, at(lo), at(hi))

    return asyncio.run(ask())


@pytest.mark.skipif(HAS_CCXT, reason="ccxt is installed")
def test_without_ccxt_it_is_said_how_to_get_it() -> None:
    with pytest.raises(BarwrightError, match="pip install"):
        source_of("ccxt:binance", Settings())


@needs_ccxt
def test_an_exchange_that_ccxt_does_not_have() -> None:
    assert source_of("ccxt:binance", Settings()).name == "ccxt:binance"
    with pytest.raises(BarwrightError, match="Did you mean binance"):
        source_of("ccxt:binanse", Settings())


@needs_ccxt
def test_a_day_of_minutes() -> None:
    exchange = Exchange(minutes(TODAY - 2 * DAY, NOW))
    found = history(exchange, "1m", TODAY - DAY, TODAY)
    assert (found.start, found.end, len(found.bars)) == (at(TODAY - DAY), at(TODAY), 1440)
    first = found.bars[0]
    assert (first.interval, first.volume, first.quote_volume, first.trades) == ("1m", "0.25", None, None)
    assert first.ts == f"{at(TODAY - DAY):%Y-%m-%dT%H:%M:%SZ}"
    assert len([name for name, _ in exchange.calls if name == "klines"]) == 3


@needs_ccxt
def test_minutes_without_trades_have_no_row_and_the_open_one_is_left_out() -> None:
    start = NOW // 60 * 60 - 1_200
    exchange = Exchange(minutes(start - DAY, NOW + 60, step=180))
    found = history(exchange, "1m", start, start + 3_600)
    assert found.start == at(start)
    assert found.end == at(NOW // 60 * 60)
    assert {str(bar.ts) for bar in found.bars} == {
        f"{at(minute):%Y-%m-%dT%H:%M:%SZ}" for minute in exchange.trades if start <= minute < NOW // 60 * 60
    }


@needs_ccxt
def test_beyond_the_horizon_of_the_minutes_and_before_the_listing() -> None:
    exchange = Exchange(minutes(TODAY - 20 * DAY, NOW, step=600))
    exchange.reach = {"1m": TODAY - 5 * DAY}
    assert history(exchange, "1m", TODAY - 9 * DAY, TODAY - 8 * DAY) == History(
        [], at(TODAY - 8 * DAY), at(TODAY - 8 * DAY)
    )
    across = history(exchange, "1m", TODAY - 6 * DAY, TODAY - 4 * DAY)
    assert (across.start, len(across.bars)) == (at(TODAY - 5 * DAY), 144)
    before = history(exchange, "1m", TODAY - 30 * DAY, TODAY - 29 * DAY)
    assert before == History([], at(TODAY - 30 * DAY), at(TODAY - 29 * DAY))


@needs_ccxt
def test_what_goes_wrong_has_its_names() -> None:
    exchange = Exchange(minutes(TODAY - 2 * DAY, NOW))
    with pytest.raises(MarketError, match="XXX/USDT"):
        history(exchange, "1m", TODAY - DAY, TODAY, Market("X", "XXX/USDT"))
    exchange.scripted = [(500, {}, b"")]
    assert len(history(exchange, "1m", TODAY - DAY, TODAY).bars) == 1440
    exchange.scripted = [(500, {}, b"")] * 8
    with pytest.raises(UnavailableError, match="ccxt:binance"):
        history(exchange, "1m", TODAY - DAY, TODAY)


def recent(n: int, seconds: float) -> dict[str, Any]:
    """A trade as aggTrades have it."""
    return {
        "a": n,
        "p": "27180.12000000",
        "q": "0.00001000",
        "f": n,
        "l": n,
        "T": round(seconds * 1_000),
        "m": n % 2 == 0,
    }


async def taken(stream: Any, events: list[Event], kind: type[Any]) -> Any:
    async with asyncio.timeout(10):
        while True:
            events.append(await anext(stream))
            if isinstance(events[-1], kind):
                return events[-1]


def follow(
    exchange: Exchange, scenario: Callable[[Any, Subscriptions], Awaitable[None]], ws: str = "", **has: bool
) -> Awaitable[None]:
    async def run() -> None:
        async with source(exchange, ws, **has) as made:
            subscriptions = Subscriptions(frozenset({BTC}))
            stream = made.live(subscriptions)
            try:
                await scenario(stream, subscriptions)
            finally:
                await stream.aclose()  # type: ignore[attr-defined]

    return run()


@needs_ccxt
def test_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ccxt_live, "POLL", 0.05)
    exchange = Exchange({})
    exchange.recent = [recent(n, TODAY + n) for n in range(5)]

    async def scenario(stream: Any, subscriptions: Subscriptions) -> None:
        events: list[Event] = []
        first = (await taken(stream, events, Trades)).trades
        assert [trade.seq for trade in first] == [0, 1, 2, 3, 4]
        assert (first[1].side, first[1].price, first[1].size) == ("buy", "27180.12", "0.00001")
        assert (await taken(stream, events, Subscribed)).since == (TODAY + 4) * 1_000_000
        exchange.recent += [recent(5, TODAY + 9), recent(6, TODAY + 9)]
        assert [trade.seq for trade in (await taken(stream, events, Trades)).trades] == [5, 6]
        while (await taken(stream, events, Alive)).at < (TODAY + 9) * 1_000_000:
            pass
        assert max(event.at for event in events if isinstance(event, Alive)) == (TODAY + 9) * 1_000_000
        # A full page that does not reach back to what was seen: something is missing.
        exchange.recent = [recent(n, TODAY + n) for n in range(2_000, 3_100)]
        with pytest.raises(UnavailableError, match="than one page"):
            await taken(stream, events, type(None))
        assert sum(len(event.trades) for event in events if isinstance(event, Trades)) == 7

    asyncio.run(follow(exchange, scenario, watchTrades=False))  # type: ignore[arg-type]


@needs_ccxt
def test_watching() -> None:
    exchange = Exchange({})

    async def talk(peer: Peer) -> None:
        asked = await peer.heard()
        assert asked["params"] == ["btcusdt@trade"]
        await peer.send({"result": None, "id": asked["id"]})
        for n in range(3):
            frame = {"e": "trade", "E": 1, "s": "BTCUSDT", "t": 7 + n, "p": "1.5", "q": "2", "m": True, "M": True}
            await peer.send(frame | {"T": (TODAY + n) * 1_000})
            await asyncio.sleep(0.05)
        await peer.connection.close()

    async def scenario(stream: Any, subscriptions: Subscriptions) -> None:
        events: list[Event] = []
        with pytest.raises(UnavailableError):
            await taken(stream, events, type(None))
        trades = [trade for event in events if isinstance(event, Trades) for trade in event.trades]
        assert [(trade.seq, trade.side, trade.price) for trade in trades] == [(n, "sell", "1.5") for n in (7, 8, 9)]
        assert [event for event in events if isinstance(event, Subscribed)] == [
            Subscribed(frozenset({"BTCUSDT"}), TODAY * 1_000_000)
        ]
        assert [event for event in events if isinstance(event, Alive)][0].at >= TODAY * 1_000_000  # noqa: RUF015

    async def run() -> None:
        async with streamer(talk) as url:
            await follow(exchange, scenario, url)

    asyncio.run(run())


@needs_ccxt
def test_markets_come_and_go_and_an_unknown_one_disturbs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ccxt_live, "POLL", 0.05)
    exchange = Exchange({})
    exchange.recent = [recent(n, TODAY + n) for n in range(5)]

    async def scenario(stream: Any, subscriptions: Subscriptions) -> None:
        events: list[Event] = []
        assert (await taken(stream, events, Subscribed)).symbols == {"BTCUSDT"}
        subscriptions.wanted = frozenset({BTC, Market("NONE", "NONE/USDT"), Market("ETHUSDT", "ETH/USDT")})
        assert (await taken(stream, events, Subscribed)).symbols == {"ETHUSDT"}
        subscriptions.wanted = frozenset({BTC})
        gone = (await taken(stream, events, Unsubscribed)).symbols | (await taken(stream, events, Unsubscribed)).symbols
        assert gone == {"ETHUSDT", "NONE"}

    asyncio.run(follow(exchange, scenario, watchTrades=False))  # type: ignore[arg-type]


def test_a_trade_is_numbered_by_its_id_or_its_time() -> None:
    good = {"timestamp": 1_700_000_000_123, "price": 1e-05, "amount": 3, "id": "77", "side": "sell"}
    numeric, named = trade_of(good, "X"), trade_of(good | {"id": "a-b"}, "X")
    assert (numeric.seq, numeric.price, numeric.size, numeric.side) == (77, "0.00001", "3", "sell")
    assert named.seq is not None
    assert named.seq // 1_000_000 == 1_700_000_000_123
    assert named.seq == trade_of(good | {"id": "a-b"}, "Y").seq != trade_of(good | {"id": "a-c"}, "X").seq
