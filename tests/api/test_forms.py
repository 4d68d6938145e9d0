"""The forms of an answer: columns, several symbols, styles, compression, what may be kept, and what waits in memory."""

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.api.conftest import Api, eventually, serving
from tests.api.test_errors import error
from tests.api.truth import FIELDS, expected, text
from tests.api.vouched import Vouched
from tests.services import Server
from tests.sql.market import Market

New = Callable[..., Market]
FOR_EVER = "public, max-age=31536000, immutable"


def minutes(m: Market, count: int) -> Market:
    """A bar each minute from the first of March, all closed."""
    m.insert(*(m.trade(m.at("03-01 00:00") + timedelta(minutes=n), str(100 + n % 7)) for n in range(count)))
    m.seal("03-20 00:00")
    return m


def test_columns_are_the_bars(api: Api, new: New) -> None:
    m = minutes(new(), 20)
    ask = {"symbol": m.symbol, "interval": "1m", "limit": 7, "order": "desc"}
    bars, columns = api.json("/v1/bars", **ask), api.json("/v1/bars", format="columns", **ask)
    assert list(columns["columns"]) == FIELDS
    assert [dict(zip(FIELDS, row, strict=True)) for row in zip(*columns["columns"].values(), strict=True)] == bars[
        "bars"
    ]
    assert {name: columns[name] for name in columns if name != "columns"} == {n: bars[n] for n in bars if n != "bars"}
    empty = api.json("/v1/bars", format="columns", end="0001-01-01", **ask)
    assert empty["columns"] == {name: [] for name in FIELDS}


def test_several_symbols_are_the_answers_of_each(api: Api, new: New) -> None:
    a, b, c = minutes(new(), 30), minutes(new("B/2:x"), 3), new()
    ask = {"interval": "5m", "limit": 2, "start": "0001-01-01", "tz": None}
    del ask["tz"]
    names = [b.symbol, c.symbol, a.symbol]
    answer = api.json("/v1/bars", symbol=",".join([*names, b.symbol]), **ask)
    assert answer["series"] == [api.json("/v1/bars", symbol=name, **ask) for name in names]
    assert [len(part["bars"]) for part in answer["series"]] == [1, 0, 2]
    rest = api.json("/v1/bars", symbol=",".join(names), cursor=answer["next_cursor"], **ask)
    assert [[bar["bucket"] for bar in part["bars"]] for part in rest["series"]] == [
        [], [], [bar["bucket"] for bar in expected(a, "5m")[2:4]]
    ]  # fmt: skip
    bad = error(api.get("/v1/bars", symbol=a.symbol, cursor=answer["next_cursor"], **ask), 400)
    assert bad["details"]["parameter"] == "cursor"
    assert error(api.get("/v1/bars", symbol=f"{a.symbol},NOPE", **ask), 404)["details"] == {"symbol": "NOPE"}
    etag = api.get("/v1/bars", symbol=",".join(names), **ask).headers["etag"]
    assert api.get("/v1/bars", {"If-None-Match": etag}, symbol=",".join(names), **ask).status_code == 304


def test_styles(api: Api, new: New) -> None:
    m = new()
    m.insert(m.trade("03-01 00:00:01", "999999999999999999.999999999999999999", "0.000000000000000001", None))
    second = int(m.at("03-01 00:00").timestamp())
    ask = {"symbol": m.symbol, "interval": "1m"}
    body = api.get("/v1/bars", numbers="string", time="ms", **ask).text
    assert f'{{"bucket":{second}000,"open":"999999999999999999.999999999999999999","high":' in body
    assert '"volume":"0.000000000000000001","quote_volume":"0.999999999999999999999999999999999999",' in body
    assert '"trades":1,"buy_volume":null,"imported":false,"closed":false}' in body
    assert f'{{"bucket":{second},"open":999999999999999999.99' in api.get("/v1/bars", time="s", **ask).text
    latest = api.json("/v1/bars/latest", numbers="string", time="s", **ask)["bars"]
    assert (latest[0]["bucket"], latest[0]["volume"]) == (second, "0.000000000000000001")


def test_the_beginning_of_time_and_1970(api: Api, new: New, connection: psycopg.Connection[Any]) -> None:
    m = new()
    for style, wanted in (("ms", 0), ("s", 0), ("iso", "1970-01-01T00:00:00Z")):
        found = api.json("/v1/bars", symbol=m.symbol, interval="1h", start=0, end=3600, fill="null", time=style)
        assert [bar["bucket"] for bar in found["bars"]] == [wanted]


def test_what_was_asked_for_is_said_again(api: Api, new: New) -> None:
    m = minutes(new(), 3)
    ask = {"symbol": m.symbol, "interval": "60m", "tz": "america/new_york", "session": "09:30-16:00", "fill": "null"}
    answer = api.json("/v1/bars", limit=1, **ask)
    assert {name: answer[name] for name in ("interval", "tz", "session", "fill")} == {
        "interval": "1h", "tz": "America/New_York", "session": "09:30-16:00", "fill": "null"
    }  # fmt: skip
    plain = api.json("/v1/bars", symbol=m.symbol, interval="1h", fill="none")
    assert not {"tz", "session", "fill"} & set(plain)


def test_fill_needs_no_bar_in_the_page(api: Api, new: New) -> None:
    m = new()
    m.insert(m.trade("03-01 00:00:30", "5"), m.trade("03-01 00:03:30", "7"))
    m.seal("03-02 00:00")
    at = {f"{n:02}": text(m.at(f"03-01 00:{n:02}")) for n in range(60)}

    def closes(**params: Any) -> list[tuple[str, Any]]:
        return [(bar["bucket"], bar["close"]) for bar in api.bars(m.symbol, "1m", **params)]

    flat = api.bars(m.symbol, "1m", start=at["10"], end=at["12"], fill="previous")
    assert [bar["bucket"] for bar in flat] == [at["10"], at["11"]]
    assert {(bar["open"], bar["close"], bar["volume"], bar["vwap"], bar["trades"]) for bar in flat} == {
        (7, 7, 0, None, 0)
    }
    assert closes(start="0001-01-01", end=at["05"], fill="previous") == [
        (at["00"], 5), (at["01"], 5), (at["02"], 5), (at["03"], 7), (at["04"], 7)
    ]  # fmt: skip
    assert closes(end=at["05"], limit=2, fill="previous") == [(at["03"], 7), (at["04"], 7)]
    before = text(m.at("03-01 00:00") - timedelta(minutes=2))
    assert closes(start=before, end=at["02"], fill="previous") == [(at["00"], 5), (at["01"], 5)]
    assert [close for _, close in closes(start=before, end=at["02"], fill="null")] == [None, None, 5, None]
    assert closes(end=at["02"], limit=50, fill="null") == [(at["00"], 5), (at["01"], None)]
    newest = api.bars(m.symbol, "1h", fill="previous", limit=1)[0]
    assert newest["bucket"] == text(datetime.now(UTC).replace(minute=0, second=0, microsecond=0))
    assert api.bars(new().symbol, "1m", fill="previous", start=at["10"], end=at["12"]) == []


def test_accept(api: Api, new: New) -> None:
    m = minutes(new(), 3)

    def kind(accept: str, **params: Any) -> str:
        answer = api.get("/v1/bars", {"Accept": accept}, symbol=m.symbol, interval="1m", **params)
        assert answer.status_code == 200
        assert "Accept" in answer.headers.get("vary", "Accept")
        return str(answer.headers["content-type"]).partition(";")[0]

    arrow, parquet = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
    for accept, wanted in [
        ("*/*", "application/json"), ("text/csv", "text/csv"), (arrow, arrow), (parquet, parquet),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"), ("image/png", "application/json"),
        (f"{arrow};q=0.5, application/json", "application/json"), (f"{arrow}, application/json;q=0.5", arrow),
    ]:  # fmt: skip
        for _ in range(2):
            assert kind(accept) == wanted
    assert kind("text/csv", format="json") == "application/json"
    assert kind("application/json", format="csv") == "text/csv"


def test_compressed_answers_have_their_own_etag(api: Api, new: New) -> None:
    m = minutes(new(), 50)
    ask = {"symbol": m.symbol, "interval": "1m", "end": text(m.at("03-01 00:40"))}

    def raw(**headers: str) -> httpx.Response:
        return api.get("/v1/bars", headers, **ask)

    plain = eventually(lambda: raw(**{"Accept-Encoding": "identity"}))
    with api.client.stream("GET", "/v1/bars", params=ask, headers={"Accept-Encoding": "gzip"}) as answer:
        body = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) == len(body) < len(plain.content) / 3
    assert gzip.decompress(body) == plain.content
    etag, packed = plain.headers["etag"], answer.headers["etag"]
    assert packed == f'{etag[:-1]}-gzip"'
    for tag in (etag, packed):
        for encoding, own in (("identity", etag), ("gzip", packed)):
            again = raw(**{"If-None-Match": tag, "Accept-Encoding": encoding})
            assert (again.status_code, again.headers["etag"]) == (304, own)
    assert "content-encoding" not in raw(**{"Accept-Encoding": "gzip;q=0"}).headers
    head = api.client.head("/v1/bars", params=ask, headers={"Accept-Encoding": "identity"})
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", etag)
    assert int(head.headers["content-length"]) == len(plain.content)


def test_what_may_be_kept_for_ever(api: Api, new: New, connection: psycopg.Connection[Any]) -> None:
    m = minutes(new(), 120)
    other = minutes(new(), 1)
    start, end = m.at("03-01 00:00"), m.at("03-01 01:00")
    v = Vouched(connection, m.symbol).register(start).imported((start, end + timedelta(hours=1)))
    ask = {"symbol": m.symbol, "interval": "1m", "start": text(start), "end": text(end)}

    def caching(rev: str, **params: Any) -> str:
        return str(api.get("/v1/bars", rev=rev, **{**ask, **params}).headers["cache-control"])

    def now() -> str:
        return str(api.json("/v1/bars", **ask)["rev"])

    eventually(lambda: _equal(caching(now()), FOR_EVER))
    rev = now()
    epoch, number = rev.split("-")
    assert api.get("/v1/bars", **ask).headers["cache-control"] == "no-cache"
    assert api.get("/v1/bars", {"If-None-Match": "*"}, rev=rev, **ask).headers["cache-control"] == FOR_EVER
    for other_rev in (f"{epoch}-{int(number) + 1}", f"00000000-{number}"):
        assert caching(other_rev) == "no-cache"
    assert caching(rev, end=text(m.at("03-01 03:00"))) == "no-cache"  # not complete
    # Complete, but its bars are not closed yet.
    [(edge,)] = connection.execute("select watermark from level where name = '1m'").fetchall()
    v.imported((edge, edge + timedelta(minutes=10)))
    open_ = {"start": text(edge), "end": text(edge + timedelta(minutes=10))}
    eventually(lambda: _equal(api.json("/v1/bars", **{**ask, **open_})["coverage"]["complete"], True))
    assert caching(rev, **open_) == "no-cache"
    answer = api.get("/v1/bars", symbol=m.symbol, interval="1m", start=text(start), rev=rev)
    assert answer.headers["cache-control"] == "no-cache"  # no end
    # A revision of another symbol, and of another span, leave it.
    other.insert(other.trade("03-01 00:30:30", "9"))
    other.repair()
    m.insert(m.trade("03-01 01:30:30", "9"))
    m.repair()
    eventually(lambda: _equal(now() != rev, True))
    v.imported((start, end))
    eventually(lambda: _equal(caching(rev), FOR_EVER))
    # One of its own does not, nor what was swept from the log.
    m.insert(m.trade("03-01 00:30:30", "9"))
    m.repair()
    eventually(lambda: _equal(caching(rev), "no-cache"))
    eventually(lambda: _equal(caching(now()), FOR_EVER))
    rev = now()
    other.insert(other.trade("03-01 00:31:30", "9"))
    other.repair()
    connection.execute("delete from revision")
    eventually(lambda: _equal(caching(rev), "no-cache"))
    for text_ in ("x", "-1", f"{epoch}-", "G" * 8 + "-1", f"{rev}x"):
        assert error(api.get("/v1/bars", rev=text_, **ask), 400)["details"]["parameter"] == "rev"


def _equal(got: Any, wanted: Any) -> None:
    assert got == wanted


@pytest.mark.parametrize(("params", "parameter"), [
    ({"tz": "Mars/Olympus", "interval": "1h"}, "tz"), ({"tz": "", "interval": "1h"}, "tz"), ({"tz": "UTC"}, "tz"),
    ({"session": "9-5", "interval": "1h"}, "session"), ({"session": "25:00-01:00"}, "session"),
    ({"session": "09:30-16:00", "interval": "36h"}, "session"), ({"interval": "90s"}, "interval"),
    ({"interval": "3M"}, "interval"), ({"interval": "200mo"}, "interval"), ({"fill": "zero"}, "fill"),
    ({"numbers": "float"}, "numbers"), ({"numbers": "string", "format": "arrow"}, "numbers"), ({"time": "us"}, "time"),
    ({"format": "xml"}, "format"), ({"symbol": ",".join(f"S{n}" for n in range(51))}, "symbol"),
    ({"symbol": "A,,B"}, "symbol"), ({"symbol": "A,"}, "symbol"), ({"wait": "1", "format": "arrow"}, "wait"),
    ({"rev": ""}, "rev"),
])  # fmt: skip
def test_bad_values(api: Api, params: dict[str, str], parameter: str) -> None:
    for path in ("/v1/bars", "/v1/bars/latest"):
        if path.endswith("latest") and (set(params) - {"symbol", "interval", "tz", "session", "numbers", "time"}
                                        or params.get("symbol", "").count(",") > 5):  # fmt: skip
            continue
        body = error(api.get(path, **{"symbol": "KNOWN", "interval": "1m", **params}), 400)
        assert body["details"]["parameter"] == parameter
        assert body["hint"] or body["details"]["allowed"]


def test_live_symbols_are_read_before_anybody_asks(dsn: str, valkey: Server, tmp_path: Path, new: New) -> None:
    m = minutes(new(), 1200)
    Vouched(m.connection, m.symbol).register(m.at("03-01 00:00"))
    with serving(dsn, valkey.url, tmp_path / "serve.log", BARWRIGHT_LOG_LEVEL="DEBUG") as api:
        eventually(lambda: _logged(tmp_path / "serve.log", "warmed up"), 5)
        assert api.bars(m.symbol, "1m", limit=900) == expected(m, "1m")[-900:]


def _logged(log: Path, words: str) -> None:
    assert words in log.read_text()


def test_numbers_read_back_exactly(api: Api, new: New) -> None:
    m = minutes(new(), 10)
    strings = api.get("/v1/bars", symbol=m.symbol, interval="3m", numbers="string").json()["bars"]
    numbers = json.loads(
        api.get("/v1/bars", symbol=m.symbol, interval="3m").text, parse_float=Decimal, parse_int=Decimal
    )
    for quoted, plain in zip(strings, numbers["bars"], strict=True):
        assert {n: Decimal(v) if isinstance(v, str) and n != "bucket" else v for n, v in quoted.items()} == plain
