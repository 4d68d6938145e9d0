"""`/udf` is what TradingView documents: its shapes, its rules for from, to, countback and nextTime, its errors."""

import json
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.conftest import Api, eventually, serving
from tests.services import Server
from tests.sql.market import Market

New = Callable[..., Market]
LEVELS = {"1": "1m", "5": "5m", "15": "15m", "30": "30m", "60": "1h", "240": "4h", "D": "1d", "1D": "1d", "1440": "1d",
          "W": "1w", "1W": "1w", "7D": "1w", "M": "1mo", "1M": "1mo"}  # fmt: skip


@pytest.fixture(scope="module")
def listed(connection: psycopg.Connection[Any]) -> None:
    """Symbols as sources register them."""
    for row in (
        ("BTCUSD", "simulator", "Coinbase~BTC~USD", "BTC", "USD"), ("BTCEUR", "ccxt:kraken", "BTC/EUR", "BTC", "EUR"),
        ("ETH/BTC", "ccxt:kraken", "ETH/BTC", "ETH", "BTC"), ("EUR/USD:spot", None, None, None, None),
    ):  # fmt: skip
        connection.execute("insert into symbols (symbol, source, market, base, quote) values (%s, %s, %s, %s, %s)", row)


@pytest.fixture
def market(new: New) -> Market:
    """Two days of minutes with holes, a hole of four hours, and one trade a month before."""
    m = new()
    dice = random.Random(7)
    times = [m.at("02-10 12:00"), *(m.at("03-10 20:00") + timedelta(minutes=n) for n in range(2000))]
    hole = m.at("03-11 04:00"), m.at("03-11 08:00")
    m.insert(*(
        m.trade(ts + timedelta(seconds=dice.randrange(60)), f"{dice.randrange(9000, 9999)}.{dice.randrange(100):02}",
                f"0.{dice.randrange(1, 10**6):06}")
        for ts in times if ts == times[0] or (dice.random() < 0.7 and not hole[0] <= ts < hole[1])
    ))  # fmt: skip
    m.seal("03-12 00:00")
    return m


def history(api: Api, symbol: str, resolution: str, **params: Any) -> Any:
    """An answer's body, its numbers exact; `start` is its `from`."""
    if "start" in params:
        params["from"] = params.pop("start")
    return api.json("/udf/history", symbol=symbol, resolution=resolution, **params)


def columns(bars: list[dict[str, Any]]) -> dict[str, Any]:
    """What must be answered for some of the oracle's bars."""
    names = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume"}
    return {
        "s": "ok",
        "t": [_epoch(bar) for bar in bars],
        **{key: [bar[of] for bar in bars] for key, of in names.items()},
    }


def _epoch(bar: dict[str, Any]) -> int:
    return int(bar["bucket"].timestamp())


def test_bars_of_every_resolution(api: Api, market: Market) -> None:
    for resolution, level in LEVELS.items():
        _check(api, market, resolution, market.oracle(level))


def _check(api: Api, market: Market, resolution: str, bars: list[dict[str, Any]]) -> None:
    times = [_epoch(bar) for bar in bars]
    end = times[-1] + 1
    everything = {"start": times[0] - 10**6, "to": end}
    eventually(lambda: _equal(history(api, market.symbol, resolution, **everything), columns(bars)))
    assert history(api, market.symbol, resolution, countback=10**6, to=end) == columns(bars)
    for _ in range(5):
        lo, hi = sorted(random.choices(range(times[0] - 5000, end), k=2))
        inside = [bar for bar in bars if lo <= _epoch(bar) < hi]
        answer = history(api, market.symbol, resolution, start=f"{lo - 1}.{random.randrange(1, 10**9)}", to=hi)
        if inside:
            assert answer == columns(inside)
        else:
            earlier = [t for t in times if t < lo]
            assert answer == {"s": "no_data", **({"nextTime": earlier[-1]} if earlier else {})}
        count = random.choice([1, 2, 329])
        before = [bar for bar in bars if _epoch(bar) < hi][-count:]
        # countback outranks from, wherever that lies.
        answer = history(api, market.symbol, resolution, start=random.choice([lo, hi]), to=hi, countback=count)
        assert answer == (columns(before) if before else {"s": "no_data"})


def _equal(found: Any, wanted: Any) -> None:
    assert found == wanted


def test_resolutions_that_are_no_level(api: Api, market: Market) -> None:
    for resolution, minutes in (("3", 3), ("45", 45), ("120", 120), ("3D", 3 * 1440)):
        start = datetime(2000, 1, 3, tzinfo=UTC)
        bars: dict[datetime, dict[str, Any]] = {}
        for bar in market.oracle("1m"):
            bucket = bar["bucket"] - (bar["bucket"] - start) % timedelta(minutes=minutes)
            one = bars.setdefault(bucket, {**bar, "bucket": bucket, "volume": Decimal(0)})
            one |= {"high": max(one["high"], bar["high"]), "low": min(one["low"], bar["low"]), "close": bar["close"],
                    "volume": one["volume"] + bar["volume"]}  # fmt: skip
        _check(api, market, resolution, list(bars.values()))


def test_daily_bars_are_at_midnight_and_to_is_exclusive(api: Api, market: Market) -> None:
    day = int(market.at("03-11 00:00").timestamp())
    assert history(api, market.symbol, "D", start=day, to=day + 1)["t"] == [day]
    before = history(api, market.symbol, "D", start=day - 86400, to=day)
    assert before["t"] == [day - 86400]
    month = history(api, market.symbol, "M", start=0 - 10**11, to=10**10)
    assert month["t"] == [int(market.at("02-01 00:00").timestamp()), int(market.at("03-01 00:00").timestamp())]


def test_where_there_is_nothing(api: Api, market: Market, new: New) -> None:
    lo, hi = (int(market.at(f"03-11 0{hour}:30").timestamp()) for hour in (4, 7))
    newest = max(_epoch(bar) for bar in market.oracle("1m") if _epoch(bar) < lo)
    assert history(api, market.symbol, "1", start=lo, to=hi) == {"s": "no_data", "nextTime": newest}
    assert history(api, market.symbol, "1", start=lo, to=hi, countback=2)["t"][-1] == newest
    oldest = min(_epoch(bar) for bar in market.oracle("1m"))
    assert history(api, market.symbol, "1", start=oldest - 10**6, to=oldest) == {"s": "no_data"}
    assert history(api, market.symbol, "1", start=oldest - 10**6, to=oldest, countback=5) == {"s": "no_data"}
    assert history(api, market.symbol, "1", start=-(10**15), to=-(10**14)) == {"s": "no_data"}
    assert history(api, market.symbol, "1", start=int(time.time()), to=10**12)["nextTime"] >= newest
    assert history(api, new("NOTHING").symbol, "D", countback=300, to=10**10) == {"s": "no_data"}


def test_numbers_are_numbers_with_every_digit(api: Api, new: New) -> None:
    m = new()
    m.insert(m.trade("03-01 00:00:01", "0.1234567890123456", "2.000"), m.trade("03-01 00:00:02", "1E+2", "1E-9"))
    m.seal("03-01 00:01")
    start = int(m.at("03-01 00:00").timestamp())
    wanted = (f'{{"s":"ok","t":[{start}],"o":[0.1234567890123456],"h":[100],"l":[0.1234567890123456],"c":[100],'
              '"v":[2.000000001]}')  # fmt: skip
    answer = api.get("/udf/history", symbol=m.symbol, resolution="1", countback=1, to=start + 60)
    assert answer.text == wanted
    assert answer.headers["content-type"] == "application/json"
    again = api.get("/udf/history", {"if-none-match": answer.headers["etag"]}, symbol=m.symbol, resolution="1",
                    countback=1, to=start + 60)  # fmt: skip
    assert again.status_code == 304


def test_a_repaired_bar_replaces_a_ready_answer(api: Api, market: Market) -> None:
    ts = market.at("03-11 04:10")
    asked = {"start": int(ts.timestamp()), "to": int(ts.timestamp()) + 60}
    for _ in range(3):
        assert history(api, market.symbol, "1", **asked)["s"] == "no_data"
    market.insert(market.trade(ts, "9500.5"))
    market.repair()
    eventually(lambda: _equal(history(api, market.symbol, "1", **asked).get("c"), [Decimal("9500.5")]))
    assert history(api, market.symbol, "1", **asked) == history(api, market.symbol, "1", **asked, spare="1")


def test_the_configuration(api: Api, listed: None) -> None:
    body = eventually(lambda: _with(api.get("/udf/config").json(), "KRAKEN"), 2)
    assert body["supports_search"] is True
    assert body["supports_time"] is True
    assert not body["supports_group_request"]
    assert not body["supports_marks"]
    assert not body["supports_timescale_marks"]
    assert {"1", "5", "15", "30", "60", "240", "1D", "1W", "1M"} <= set(body["supported_resolutions"])
    assert body["exchanges"][0]["value"] == ""
    assert {"name", "value"} <= set(body["symbols_types"][1])


def _with(body: Any, exchange: str) -> Any:
    assert exchange in [each["value"] for each in body["exchanges"]]
    return body


def test_the_time_is_plain_seconds(api: Api) -> None:
    answer = api.get("/udf/time")
    assert answer.headers["content-type"].startswith("text/plain")
    assert abs(int(answer.text) - time.time()) < 5


def test_a_symbol(api: Api, listed: None, connection: psycopg.Connection[Any], new: New) -> None:
    m = new("BTCUSD")
    m.insert(m.trade("03-01 00:00:01", "8500.5", "0.125"), m.trade("03-02 00:00:02", "8500.125", "3"))
    m.seal("03-03 00:00")
    body = api.get("/udf/symbols", symbol="BTCUSD").json()
    assert body["name"] == body["ticker"] == "BTCUSD"
    assert body["full_name"] == "COINBASE:BTCUSD"
    assert body["exchange"] == body["listed_exchange"] == "COINBASE"
    assert body["description"] == "BTC / USD"
    assert body["session"] == "24x7"
    assert body["timezone"] == "Etc/UTC"
    assert (body["minmov"], body["pricescale"], body["volume_precision"]) == (1, 1000, 3)
    assert body["has_intraday"]
    assert body["has_daily"]
    assert body["has_weekly_and_monthly"]
    assert body["currency_code"] == "USD"
    assert "s" not in body
    assert body["supported_resolutions"] == api.get("/udf/config").json()["supported_resolutions"]
    assert set(body["intraday_multipliers"]) <= set(body["supported_resolutions"])
    for name in ("COINBASE:BTCUSD", "coinbase:btcusd", "btcusd"):
        assert api.get("/udf/symbols", symbol=name).json() == body
        assert history(api, name, "D", countback=9) == history(api, "BTCUSD", "D", countback=9)


def test_names_with_colons_and_symbols_without_bars(api: Api, listed: None) -> None:
    for name in ("EUR/USD:spot", "BARWRIGHT:EUR/USD:spot"):
        body = api.get("/udf/symbols", symbol=name).json()
        assert (body["ticker"], body["pricescale"]) == ("EUR/USD:spot", 100)
        assert "currency_code" not in body


@pytest.mark.parametrize("name", ["NOPE", "KRAKEN:BTCUSD", ":BTCUSD", "BTC", "A\0", "x" * 300])
def test_an_unknown_symbol(api: Api, listed: None, name: str) -> None:
    failed(api, "/udf/symbols", symbol=name)
    failed(api, "/udf/history", symbol=name, resolution="1", countback=1)


def failed(api: Api, path: str, **params: Any) -> None:
    answer = api.get(path, **params)
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"s", "errmsg"}
    assert body["s"] == "error"
    assert body["errmsg"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"resolution": ""}, {"resolution": "1S"}, {"resolution": "0"}, {"resolution": "1m"}, {"resolution": "D1"},
        {"resolution": "1H"}, {"resolution": "999999W"}, {"resolution": "٣"}, {"from": "x"}, {"to": "NaN"},
        {"to": "Infinity"}, {"from": "2", "to": "1"}, {"from": "", "countback": "0"}, {"countback": "many"},
        {"symbol": ""},
    ],
)  # fmt: skip
def test_a_wrong_request(api: Api, listed: None, wrong: dict[str, str]) -> None:
    failed(api, "/udf/history", **{"symbol": "BTCUSD", "resolution": "60", "from": "1", **wrong})


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"query": "BTC"}, ["BTCEUR", "BTCUSD", "ETH/BTC"]), ({"query": "btc", "limit": 2}, ["BTCEUR", "BTCUSD"]),
        ({"query": "BTC", "exchange": "KRAKEN"}, ["BTCEUR", "ETH/BTC"]), ({"query": "KRAKEN:ETH"}, ["ETH/BTC"]),
        ({"query": "BTC / U"}, ["BTCUSD"]), ({"query": "BTC", "type": "crypto"}, ["BTCEUR", "BTCUSD", "ETH/BTC"]),
        ({"query": "BTC", "type": "stock"}, []), ({"query": "NOPE"}, []), ({"query": "BTC", "limit": 0}, []),
        ({"query": "", "exchange": "COINBASE"}, ["BTCUSD"]),
    ],
)  # fmt: skip
def test_a_search(api: Api, listed: None, params: dict[str, Any], found: list[str]) -> None:
    body = eventually(lambda: _symbols(api.get("/udf/search", **params).json(), found), 2)
    for one in body:
        assert set(one) == {"symbol", "full_name", "description", "exchange", "ticker", "type"}
        assert one["full_name"] == f"{one['exchange']}:{one['symbol']}"


def _symbols(body: Any, found: list[str]) -> Any:
    assert [one["symbol"] for one in body] == found
    return body


def test_symbols_as_a_table(api: Api, listed: None) -> None:
    body = api.get("/udf/symbol_info", group="KRAKEN").json()
    assert body["symbol"] == ["BTCEUR", "ETH/BTC"]
    assert body["session-regular"] == "24x7"
    assert body["timezone"] == "Etc/UTC"
    assert all(len(body[name]) == 2 for name in ("ticker", "description", "exchange-traded", "pricescale"))
    assert set(api.get("/udf/symbol_info").json()["symbol"]) >= {"BTCEUR", "ETH/BTC", "BTCUSD"}
    none = api.get("/udf/symbol_info", group="NYSE")
    assert (none.status_code, none.json()["s"]) == (404, "error")


def test_without_a_key_it_refuses_in_its_own_words_too(dsn: str, valkey: Server, tmp_path: Path) -> None:
    with serving(dsn, valkey.url, tmp_path / "serve.log", BARWRIGHT_KEYS="on") as guarded:
        for path in ("/udf/config", "/udf/history?symbol=A&resolution=1&countback=1"):
            answer = guarded.client.get(path)
            assert (answer.status_code, answer.json()["s"]) == (401, "error")
            assert answer.json()["errmsg"].startswith("A key is needed.")


_names = st.sampled_from(["symbol", "resolution", "from", "to", "countback", "limit", "query", "exchange", "group"])
_words = (
    st.text(max_size=20) | st.integers().map(str) | st.floats().map(str)
    | st.sampled_from(["BTCUSD", "COINBASE:BTCUSD", "1", "D", "1M", "1e400", "-1e99", "0.5", "Infinity"])
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(["history", "history", "symbols", "search", "symbol_info"]),
    params=st.dictionaries(
        st.sampled_from(["symbol", "resolution", "from", "to", "countback", "limit", "query"]), _words
    ),
)
def test_nothing_makes_a_500(api: Api, listed: None, path: str, params: dict[str, str]) -> None:
    answer = api.get(f"/udf/{path}", **params)
    body = json.loads(answer.text)
    assert answer.status_code in (200, 404) or "code" in body, answer.text
    assert answer.status_code < 500
