"""`/v1/bars` equals a pure-Python oracle, to the last digit, whatever is rolled up, cached or repaired."""

import csv
import io
import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.api.conftest import Api, eventually
from tests.api.truth import FIELDS, UNKNOWN, check, expected, pages, text
from tests.sql.market import INTERVALS, Market
from tests.sql.test_bars import play, steps

New = Callable[..., Market]


@settings(
    max_examples=6, deadline=None, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(steps=steps)
def test_random_ticks_orders_and_roll_ups(api: Api, new: New, steps: list[tuple[Any, ...]]) -> None:
    m = new()
    base = m.at("01-31 00:00")
    for step in steps:
        play(m, base, *step)
        if step[0] == "repair":
            check(api, m)
    m.repair()
    check(api, m)
    m.seal(base + timedelta(days=40))
    check(api, m)
    check(api, m)


def test_a_dense_month_through_pages_and_a_late_tick(api: Api, new: New) -> None:
    m = new()
    minutes = [m.at("02-01 00:00") + timedelta(minutes=n) for n in range(4000)]
    m.insert(*(m.trade(ts, str(100 + n % 17), "0.25") for n, ts in enumerate(minutes)))
    m.seal("02-03 18:00")
    check(api, m)
    assert pages(api, m.symbol, "1m", 333) == expected(m, "1m")[-333:]
    assert pages(api, m.symbol, "1m", 333, order="desc") == expected(m, "1m")[::-1]
    m.insert(m.trade("02-01 08:19:30", "999"), m.trade("02-01 08:20:30", "1"))  # both sides of a page's edge
    m.repair()
    check(api, m)


def test_the_shape_of_an_answer(api: Api, new: New) -> None:
    m = new("EUR/USD:spot")
    m.insert(m.trade("03-01 00:00:01", "100.50", "2.000", "b", 1), m.trade("03-01 00:00:02", "1E+2", "3", "s", 2))
    m.seal("03-01 00:01")
    answer = eventually(lambda: _closed(api.get("/v1/bars", symbol=m.symbol, interval="1m")))
    assert answer.text == (
        f'{{"symbol":"EUR/USD:spot","interval":"1m","bars":[{{"bucket":"{m.year}-03-01T00:00:00Z","open":100.5,'
        '"high":100.5,"low":100,"close":100,"volume":5,"quote_volume":501,"vwap":100.2,"trades":2,"buy_volume":2,'
        f'"imported":false,"closed":true}}],"next_cursor":null,{UNKNOWN},"rev":"{answer.json()["rev"]}"}}'
    )
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-cache"


def _closed(answer: Any) -> Any:
    assert '"closed":true' in answer.text
    return answer


def test_every_digit_and_no_exponent(api: Api, new: New) -> None:
    m = new()
    price, size = "999999999999999999.999999999999999999", "0.000000000000000001"
    m.insert(m.trade("03-01 00:00:01", price, size), m.trade("03-01 00:01:01", size, price))
    m.insert(m.trade("03-01 00:02:01", "5", "0"))
    for _ in range(2):
        body = api.get("/v1/bars", symbol=m.symbol, interval="1m").text
        assert f'"open":{price},' in body
        assert f'"volume":{size},' in body
        assert '"quote_volume":0.999999999999999999999999999999999999,' in body
        assert '"volume":0,"quote_volume":0,"vwap":null,' in body
        assert "E" not in body.replace(m.symbol, "")
        m.seal("03-02 00:00")
    check(api, m)


def test_times_and_bounds(api: Api, new: New) -> None:
    m = new()
    m.insert(*(m.trade(f"03-01 00:0{n}:30", str(n + 1)) for n in range(5)))
    buckets = [bar["bucket"] for bar in expected(m, "1m")]
    second = int((m.at("03-01 00:01")).timestamp())

    def ask(**params: Any) -> list[str]:
        return [bar["bucket"] for bar in api.bars(m.symbol, **params)]

    y = m.year
    assert ask(start=f"{y}-03-01T00:01:00Z", end=f"{y}-03-01T00:03:00Z") == buckets[1:3]
    assert ask(start=f"{y}-03-01T02:01:00+02:00", end=f"{y}-03-01T01:03:00+01:00") == buckets[1:3]
    assert ask(start=f"{y}-03-01T00:01:00.000001Z", end=f"{y}-03-01T00:03:00.5Z") == buckets[2:4]
    assert ask(start=f"{y}-03-01", end=f"{y}-03-02") == buckets
    assert ask(start=second, end=(second + 120) * 1000) == buckets[1:3]
    assert ask(start=f"{second - 1}.5") == buckets[1:]
    assert ask(start=f"{y}-03-01T00:01:00Z", end=f"{y}-03-01T00:01:00Z") == []
    assert ask(end=f"{y}-03-01T00:02:30Z", limit=2) == buckets[1:3]
    raw = api.client.get(f"/v1/bars?symbol={m.symbol}&interval=1m&start={y}-03-01T02:03:00+02:00")  # + not escaped
    assert [bar["bucket"] for bar in raw.json()["bars"]] == buckets[3:]


@pytest.mark.parametrize(
    ("alias", "name"),
    [("60m", "1h"), ("60min", "1h"), ("3600s", "1h"), ("240m", "4h"), ("24h", "1d"), ("1440m", "1d"), ("7d", "1w")],
)
def test_aliases(api: Api, new: New, alias: str, name: str) -> None:
    m = new()
    m.insert(m.trade("03-01 00:00:30", "1"))
    answer = api.json("/v1/bars", symbol=m.symbol, interval=alias)
    assert (answer["interval"], answer["bars"]) == (name, api.bars(m.symbol, name))


def test_a_cursor_is_stable_under_repairs_and_new_bars(api: Api, new: New) -> None:
    m = new()
    m.insert(*(m.trade(f"03-01 00:{n:02}:30", "1") for n in range(0, 20, 2)))
    m.seal("03-01 00:20")
    params = {"symbol": m.symbol, "interval": "1m", "limit": 4, "start": "0001-01-01"}
    up, down = (api.json("/v1/bars", order=order, **params) for order in ("asc", "desc"))
    m.insert(m.trade("03-01 00:05:30", "2"), m.trade("03-01 00:07:30", "2"), m.trade("03-01 00:15:30", "3"),
             m.trade("03-01 00:11:30", "3"), m.trade("03-01 00:30:30", "4"))  # fmt: skip
    m.repair()
    all_ = expected(m, "1m")

    def rest(answer: dict[str, Any], order: str) -> list[dict[str, Any]]:
        params = {"start": "0001-01-01", "order": order, "cursor": answer["next_cursor"], "limit": 100}
        return api.bars(m.symbol, "1m", **params)

    last = up["bars"][-1]["bucket"]
    eventually(lambda: _equal(rest(up, "asc"), [bar for bar in all_ if bar["bucket"] > last]))
    first = down["bars"][-1]["bucket"]
    eventually(lambda: _equal(rest(down, "desc"), [bar for bar in all_ if bar["bucket"] < first][::-1]))


def _equal(got: Any, wanted: Any) -> None:
    assert got == wanted


def test_a_sparse_symbol_and_a_far_start(api: Api, new: New) -> None:
    m = new()
    m.insert(*(m.trade(f"{month:02}-17 12:34:56", str(month)) for month in range(1, 13, 2)))
    m.seal("+1-06-01 00:00")
    check(api, m)
    assert api.bars(m.symbol, "1m", start="0001-01-01", limit=1) == expected(m, "1m")[:1]
    assert api.bars(m.symbol, "1m", start="0001-01-01", end="9999-12-31") == expected(m, "1m")
    assert api.bars(m.symbol, "1m", start="9999-12-31T23:59:59Z") == []
    assert api.bars(m.symbol, "1m", end="0001-01-01") == []


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_csv_has_the_same_bars(api: Api, new: New, interval: str, order: str) -> None:
    m = new()
    m.insert(*(m.trade(m.at("02-01 00:00") + timedelta(minutes=7 * n), str(n % 13 + 1), side=None if n % 50 else "b")
               for n in range(300)))  # fmt: skip
    m.seal("02-02 02:00")
    answer = api.get("/v1/bars", symbol=m.symbol, interval=interval, format="csv", order=order)
    assert answer.headers["content-type"].startswith("text/csv")
    table = list(csv.DictReader(io.StringIO(answer.text)))
    bars = expected(m, interval)[:: 1 if order == "asc" else -1]
    assert list(table[0]) == FIELDS
    assert table == [
        {n: "" if v is None else str(v).lower() if isinstance(v, bool) else v if n == "bucket" else _plain(v)
         for n, v in bar.items()} for bar in bars
    ]  # fmt: skip
    some = api.get("/v1/bars", symbol=m.symbol, interval=interval, format="csv", order=order, limit=3).text
    newest = bars[-3:] if order == "asc" else bars[:3]
    assert [row["bucket"] for row in csv.DictReader(io.StringIO(some))] == [bar["bucket"] for bar in newest]


def _plain(value: Decimal) -> str:
    """A number trimmed of trailing zeros, never with an exponent."""
    return format(value, "f").rstrip("0").rstrip(".") if "." in format(value, "f") else format(value, "f")


def test_csv_over_many_pages(api: Api, new: New, connection: psycopg.Connection[Any]) -> None:
    m = new()
    connection.execute("select prepare_ticks(array(select generate_series(%s, %s, interval '1 day')))",
                       (m.at("01-01 00:00"), m.at("01-20 00:00")))  # fmt: skip
    connection.execute(
        "insert into ticks (ts, symbol, seq, price, size) select ts, %s, 1, 1, 1 "
        "from generate_series(%s, %s, interval '1 minute') as ts",
        (m.symbol, m.at("01-01 00:00"), m.at("01-10 00:00")),
    )
    m.seal("01-09 00:00")
    wanted = [text(m.at("01-01 00:00") + timedelta(minutes=n)) for n in range(9 * 1440 + 1)]

    def ask(**params: Any) -> list[str]:
        answer = api.get("/v1/bars", symbol=m.symbol, interval="1m", format="csv", **params)
        return [row["bucket"] for row in csv.DictReader(io.StringIO(answer.text))]

    assert ask() == wanted
    assert ask(order="desc") == wanted[::-1]
    assert ask(limit=12000) == wanted[-12000:]
    assert ask(limit=12000, order="desc") == wanted[:-12001:-1]
    assert ask(limit=12000, start="0001-01-01") == wanted[:12000]


def test_etags(api: Api, new: New) -> None:
    m = new()
    m.insert(m.trade("03-01 00:00:30", "1"))
    m.seal("03-01 00:05")
    for path, params in [("/v1/bars", {"symbol": m.symbol, "interval": "1m"}), ("/v1/symbols", {}),
                         ("/v1/bars", {"symbol": m.symbol, "interval": "1m", "end": f"{m.year}-03-01T00:02:00Z"}),
                         ("/v1/bars/latest", {"symbol": m.symbol}), (f"/v1/symbols/{m.symbol}", {})]:  # fmt: skip
        plain = {"Accept-Encoding": "identity"}
        etag = api.get(path, headers=plain, **params).headers["etag"]
        for tag in (etag, f"W/{etag}", f'"other", {etag}', "*", f'{etag[:-1]}-gzip"'):
            answer = api.get(path, headers={"If-None-Match": tag, **plain}, **params)
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
        assert api.get(path, headers={"If-None-Match": '"other"'}, **params).status_code == 200
    old = api.get("/v1/bars", symbol=m.symbol, interval="1m").headers["etag"]
    # As many bytes as before: an ETag that tells only lengths would not do.
    m.insert(m.trade("03-01 00:00:40", "1"))
    m.repair()
    eventually(lambda: _changed(api, m.symbol, old), 0.5)


def _changed(api: Api, symbol: str, etag: str) -> None:
    assert api.get("/v1/bars", headers={"If-None-Match": etag}, symbol=symbol, interval="1m").status_code == 200


def test_newest_bars_of_several_symbols(api: Api, new: New) -> None:
    a, b, c = new("A/B:c"), new(), new()
    a.insert(a.trade("03-01 00:00:30", "1"), a.trade("03-02 00:03:30", "2"))
    b.insert(b.trade("03-01 00:07:30", "3"))
    for interval in INTERVALS:
        answer = api.json("/v1/bars/latest", symbol=[f"{b.symbol},{a.symbol}", c.symbol], interval=interval)
        assert answer["interval"] == interval
        wanted = [{"symbol": m.symbol, **bars[-1]} for m in (b, a) if (bars := api.bars(m.symbol, interval))]
        assert answer["bars"] == wanted


def test_symbols(api: Api, new: New, connection: psycopg.Connection[Any]) -> None:
    m = new("a/b:c-d.e=f+g@h_i")
    m.insert(m.trade("03-01 00:07:30", "3"))
    connection.execute("update symbols set base = 'A', live = true, history_start = '2020-01-01Z' where symbol = %s",
                       (m.symbol,))  # fmt: skip
    one = api.json(f"/v1/symbols/{m.symbol}")
    assert one == api.json("/v1/symbols/" + m.symbol.replace("/", "%2F").replace(":", "%3A").replace("+", "%2B"))
    listed = next(symbol for symbol in api.json("/v1/symbols")["symbols"] if symbol["symbol"] == m.symbol)
    assert listed == {name: one[name] for name in listed}
    assert {name: one[name] for name in ("symbol", "source", "base", "live", "history_start", "newest")} == {
        "symbol": m.symbol, "source": None, "base": "A", "live": True, "history_start": "2020-01-01T00:00:00Z",
        "newest": f"{m.year}-03-01T00:07:00Z",
    }  # fmt: skip
    assert api.bars(m.symbol) == expected(m, "1m")


def test_status_health_and_schema(api: Api) -> None:
    status = api.json("/v1/status")
    assert status["engine"] in ("postgres", "timescaledb")
    assert list(status["levels"]) == list(INTERVALS[:7])
    assert api.json("/health/live") == {"status": "live"}
    ready = api.json("/health/ready")
    assert ready["checks"] == {"database": "up", "migration": "up", "redis": "up"}
    schema = json.loads(api.get("/schema/openapi.json").text)
    assert schema["openapi"].startswith("3.1")
    for operation in (operation for item in schema["paths"].values() for operation in item.values()):
        assert all(parameter["description"] for parameter in operation["parameters"])
        for status, answer in operation["responses"].items():
            assert {"content", "$ref"} & set(answer) or status in ("204", "304")
    page = api.get("/schema")
    assert page.status_code == 200
    assert "/assets/schema.js" in page.text
    assert "http" not in page.text  # nothing from other hosts
