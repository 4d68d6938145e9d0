"""REST to the letter: rows, paging, filler, horizon, limits and errors."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

from barwright.errors import BarwrightError
from barwright.settings import Settings
from barwright.simulator.app import create_app
from barwright.simulator.bars import bars
from barwright.simulator.exchange import Exchange
from barwright.simulator.limits import Limits
from barwright.simulator.market import Market
from tests.simulator.conftest import BITCOIN, Running

DAY = 86_400
FIELDS = ["time", "high", "low", "open", "volumefrom", "volumeto", "close", "conversionType", "conversionSymbol"]
Row = dict[str, Any]
Ask = Callable[..., dict[str, Any]]


def asking(rate: float = 0.05, listed: int | None = None, **settings: Any) -> tuple[Ask, Exchange]:
    """A way to ask an exchange of these settings in this process, and the exchange."""
    exchange = Exchange(1, rate, {BITCOIN: listed} if listed else {})
    app = create_app(Settings(**settings), exchange)

    def ask(path: str = "histominute", **given: object) -> dict[str, Any]:
        async def call() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
                parameters = {"fsym": "BTC", "tsym": "USD", "e": "Coinbase"} | given
                return await client.get(
                    f"/data/v2/{path}", params={k: str(v) for k, v in parameters.items() if v != ""}
                )

        answer = asyncio.run(call())
        assert answer.status_code == 200
        return json.loads(answer.text, parse_float=Decimal)  # type: ignore[no-any-return]

    return ask, exchange


def rows(answer: dict[str, Any]) -> list[Row]:
    """The rows of an answer."""
    assert (answer["Response"], answer["Type"]) == ("Success", 100), answer
    return answer["Data"]["Data"]  # type: ignore[no-any-return]


def real(found: list[Row]) -> list[Row]:
    """Those with trades."""
    return [row for row in found if row["volumefrom"]]


def true(market: Market, start: int, end: int, interval: str) -> list[Row]:
    """The true bars of [start, end) seconds, as rows."""
    price, size = market.price_places, market.size_places
    return [
        {"time": bucket * 60, **{name: Decimal(units).scaleb(-price) for name, units in
         zip(("open", "high", "low", "close"), prices, strict=True)}, "volumefrom": Decimal(volume).scaleb(-size),
         "volumeto": Decimal(quote).scaleb(-price - size), "conversionType": "direct", "conversionSymbol": ""}
        for piece in bars(market, start // 60, end // 60, interval)
        for bucket, *prices, volume, quote, _, _ in zip(*(column.tolist() for column in piece), strict=True)
    ]  # fmt: skip


@pytest.mark.parametrize(("path", "usual"), [("histominute", 1440), ("histohour", 168), ("histoday", 30)])
def test_one_row_more_than_the_limit_comes_in_the_vendors_form(path: str, usual: int) -> None:
    ask, _ = asking()
    answer = ask(path)
    data = answer["Data"]
    assert len(rows(answer)) == usual + 1
    assert (data["TimeFrom"], data["TimeTo"]) == (rows(answer)[0]["time"], rows(answer)[-1]["time"])
    assert list(rows(answer)[0]) == FIELDS
    assert {key: answer[key] for key in ("Message", "HasWarning", "RateLimit")} == {
        "Message": "", "HasWarning": False, "RateLimit": {}
    }  # fmt: skip
    assert path == "histoday" or len(rows(ask(path, limit=2500))) == 2001
    assert len(rows(ask(path, limit=7))) == 8


@pytest.mark.parametrize(
    ("path", "interval", "step", "limit"),
    [("histominute", "1m", 60, 2000), ("histohour", "1h", 3600, 700), ("histoday", "1d", DAY, 70)],
)
def test_paging_back_gives_the_truth(path: str, interval: str, step: int, limit: int) -> None:
    ask, exchange = asking(simulator_minute_days=0)
    end = int(time.time()) // DAY * DAY
    start = end - 3 * limit * step
    found: dict[int, Row] = {}
    to = end
    while to > start:
        page = rows(ask(path, limit=limit, toTs=to))
        assert [row["time"] for row in page] == list(range(page[0]["time"], page[-1]["time"] + 1, step))
        found |= {row["time"]: row for row in page}
        to = page[0]["time"]
    inside = [row for at, row in sorted(found.items()) if start <= at < end]
    market = exchange.market(BITCOIN)
    expected = true(market, max(start, 60 * market.listed), end, interval)
    assert real(inside) == expected
    before = next((row["close"] for row in reversed(true(market, start - DAY, start, "1m"))), 0)
    for row in inside:
        if not row["volumefrom"]:
            assert (row["volumeto"], row["volumefrom"]) == (0, 0)
            assert row["open"] == row["high"] == row["low"] == row["close"] == before
        before = row["close"]
    assert path != "histominute" or len(expected) < len(inside)  # there were minutes without a trade


def test_the_last_row_is_the_open_period_or_that_of_to_ts(running: Running) -> None:
    before = int(time.time())
    answer = running.get("histohour", limit=1)
    last = json.loads(answer.text, parse_float=Decimal)["Data"]["Data"][-1]
    assert last["time"] in (before // 3600 * 3600, int(time.time()) // 3600 * 3600)
    assert abs(parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time()) < 2
    again = json.loads(running.get("histohour", limit=1, toTs=before + 10**6).text, parse_float=Decimal)
    assert again["Data"]["Data"][-1]["volumefrom"] >= last["volumefrom"] > 0
    (whole,) = true(running.exchange().market(BITCOIN), last["time"], last["time"] + 3600, "1h")
    assert whole["volumefrom"] > last["volumefrom"]
    past = json.loads(running.get("histominute", limit=1, toTs=before - 599).text)["Data"]["Data"]
    assert past[-1]["time"] == (before - 599) // 60 * 60


def test_before_the_listing_are_rows_of_zeros() -> None:
    now = int(time.time()) // 60
    ask, exchange = asking(listed=now - 100, rate=0.05)
    found = rows(ask(limit=300))
    assert all(row[name] == 0 for row in found[:199] for name in FIELDS[1:7])
    assert real(found)[:-1] == true(exchange.market(BITCOIN), 60 * (now - 101), real(found)[-1]["time"], "1m")
    assert found[-1]["close"] > 0
    assert [row["close"] for row in rows(ask(limit=10, toTs=60 * (now - 2000)))] == [0] * 11


def test_aggregates_are_aligned_slots() -> None:
    ask, exchange = asking()
    answer = ask(limit=100, aggregate=7)
    assert answer["Data"]["Aggregated"] is True
    found = rows(answer)
    assert len(found) == 101
    assert {row["time"] % 420 for row in found} == {0}
    start, end = found[0]["time"], found[-1]["time"]
    minutes = true(exchange.market(BITCOIN), start, end, "1m")
    for row in real(found[:-1]):
        inside = [one for one in minutes if row["time"] <= one["time"] < row["time"] + 420]
        assert row["volumefrom"] == sum(one["volumefrom"] for one in inside)
        assert (row["open"], row["close"]) == (inside[0]["open"], inside[-1]["close"])
    assert len(rows(ask(limit=2000, aggregate=30))) == 2000 // 30 + 1


def test_minute_history_reaches_back_so_many_days() -> None:
    since = int(time.time()) - 2 * DAY
    edge = {"limit": 200, "toTs": since + 6000}
    ask, _ = asking(simulator_minute_days=2, simulator_beyond="zero")
    found = rows(ask(**edge))
    assert [row["time"] >= since for row in found] == [row["close"] > 0 for row in found]
    assert len(found) == 201
    assert {row["close"] for row in rows(ask(toTs=since - 60))} == {0}
    assert min(row["close"] for row in rows(ask("histohour", toTs=since - 60))) > 0

    ask, _ = asking(simulator_minute_days=2, simulator_beyond="short")
    assert 98 <= len(rows(ask(**edge))) <= 102
    assert min(row["time"] for row in rows(ask(**edge))) >= since
    assert rows(ask(toTs=since - 60)) == []

    ask, _ = asking(simulator_minute_days=2, simulator_hour_days=4, simulator_beyond="error")
    answer = ask(toTs=since - 60)
    assert (answer["Response"], answer["Type"], answer["ParamWithError"]) == ("Error", 2, "toTs")
    assert 98 <= len(rows(ask(**edge))) <= 102
    assert ask("histohour", toTs=since - 3 * DAY)["Message"] == "histohour reaches back 4 days."
    assert len(rows(ask("histoday", toTs=since - 3 * DAY))) == 31


@pytest.mark.parametrize(
    ("given", "parameter", "message"),
    [
        ({"fsym": ""}, "fsym", "fsym is a required param."),
        ({"tsym": ""}, "tsym", "tsym is a required param."),
        ({"e": "Nowhere"}, "e", "Nowhere market does not exist for this coin pair (BTC-USD)"),
        ({"tsym": "BTC"}, "e", "Coinbase market does not exist for this coin pair (BTC-BTC)"),
        ({"tsym": "a b"}, "e", "Coinbase market does not exist for this coin pair (BTC-a b)"),
        ({"limit": "many"}, "limit", "limit param is not an integer"),
        ({"toTs": "-1"}, "toTs", "toTs param is not an integer"),
        ({"aggregate": 0}, "aggregate", "aggregate is smaller than min value."),
    ],
)
def test_an_error_has_status_200_and_names_the_parameter(given: Row, parameter: str, message: str) -> None:
    ask, _ = asking()
    assert ask(**given) == {
        "Response": "Error", "Message": message, "HasWarning": False, "Type": 2, "RateLimit": {}, "Data": {},
        "ParamWithError": parameter,
    }  # fmt: skip


def test_too_many_calls_are_said_with_the_limits() -> None:
    ask, _ = asking(simulator_limits="second=100,minute=4,hour=100")
    answers = [ask(limit=1) for _ in range(9)]  # the minute may turn once
    over = [answer for answer in answers if answer["Response"] == "Error"]
    assert over
    assert over[-1]["Type"] == 99
    assert over[-1]["RateLimit"]["max_calls"] == {"second": 100, "minute": 4, "hour": 100}
    assert over[-1]["RateLimit"]["calls_made"]["minute"] > 4
    assert set(over[-1]["RateLimit"]["calls_made"]) == {"second", "minute", "hour", "day", "month", "total_calls"}
    assert rows(ask(limit=1, api_key="another client"))


@pytest.mark.parametrize("limits", ["second", "second=many", "weekly=3"])
def test_limits_that_are_none_are_refused(limits: str) -> None:
    with pytest.raises(BarwrightError, match="BARWRIGHT_SIMULATOR_LIMITS"):
        Limits.from_settings(Settings(simulator_limits=limits))


def test_a_key_is_asked_for_where_one_is_set() -> None:
    app = create_app(Settings.model_validate({"simulator_key": "secret"}), Exchange(1, 1.0))

    async def call(**more: Any) -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            return (await client.get("/data/v2/histoday?fsym=BTC&tsym=USD&e=Coinbase&limit=1", **more)).status_code

    assert asyncio.run(call()) == 401
    assert asyncio.run(call(headers={"authorization": "Apikey secret"})) == 200


def test_listings_are_settings() -> None:
    settings = Settings(simulator_listed="Coinbase~NEW~USD=2024-05-01T10:30Z, Coinbase~OLD~USD=2001-01-01")
    exchange = Exchange.from_settings(settings)
    assert exchange.market("Coinbase~NEW~USD").listed == _since("2024-05-01T10:30")
    assert exchange.market("Coinbase~OLD~USD").listed == _since("2001-01-01T00:00")
    for wrong in ("Coinbase~NEW~USD", "Coinbase~NEW~USD=soon", "NEW=2024-05-01"):
        with pytest.raises(BarwrightError):
            Exchange.from_settings(Settings(simulator_listed=wrong))


def _since(text: str) -> int:
    """Minutes since 1970."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) // 60
