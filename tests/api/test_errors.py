"""Every refusal has one shape, names the parameter and says what is allowed; nothing a client sends makes a 500."""

from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barwright.api.params import BARS
from tests.api.conftest import Api
from tests.api.truth import UNKNOWN

GOOD = {"symbol": "KNOWN", "interval": "1m"}
PATHS = ["/v1/bars", "/v1/bars/latest", "/v1/symbols", "/v1/symbols/KNOWN", "/v1/status", "/v1/gaps",
         "/v1/backfills", "/health/live", "/health/ready"]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def known(connection: Any) -> None:
    connection.execute("insert into symbols (symbol) values ('KNOWN') on conflict do nothing")


def error(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The body of an answer that must be an error."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body: dict[str, Any] = answer.json()
    assert set(body) == {"code", "message", "details", "hint"}
    assert body["code"]
    assert body["message"]
    assert isinstance(body["details"], dict)
    return body


@pytest.mark.parametrize(
    ("params", "parameter"),
    [
        ({"interval": ""}, "interval"), ({"interval": "2x"}, "interval"), ({"interval": "90s"}, "interval"),
        ({"interval": "1M"}, "interval"), ({"interval": "٣m"}, "interval"), ({"interval": "0m"}, "interval"),
        ({"symbol": ""}, "symbol"), ({"symbol": "-A"}, "symbol"), ({"symbol": "A" * 65}, "symbol"),
        ({"symbol": "A\n"}, "symbol"), ({"symbol": "A\0"}, "symbol"), ({"symbol": "Ä"}, "symbol"),
        ({"start": "yesterday"}, "start"), ({"start": ""}, "start"), ({"start": "2019-13-01"}, "start"),
        ({"start": "2019-02-30T00:00:00Z"}, "start"), ({"start": "2019-01-01T25:00:00Z"}, "start"),
        ({"start": "2019-01-01T00:00:00"}, "start"), ({"start": "9" * 15}, "start"), ({"start": "1e5"}, "start"),
        ({"start": "0000-01-01"}, "start"), ({"start": "NaN"}, "start"), ({"end": "10000-01-01"}, "end"),
        ({"start": "2019-01-02", "end": "2019-01-01"}, "end"), ({"limit": "0"}, "limit"), ({"limit": "10001"}, "limit"),
        ({"limit": "-1"}, "limit"), ({"limit": "1.5"}, "limit"), ({"limit": ""}, "limit"), ({"limit": "٣"}, "limit"),
        ({"order": "up"}, "order"), ({"format": "xml"}, "format"), ({"cursor": "abc"}, "cursor"),
        ({"wait": "0"}, "wait"), ({"wait": "31"}, "wait"), ({"wait": "-1"}, "wait"), ({"wait": "x"}, "wait"),
        ({"wait": "5"}, "wait"),
        ({"wait": "5", "format": "csv"}, "wait"), ({"cursor": ""}, "cursor"),
        ({"cursor": "ä"}, "cursor"), ({"limits": "5"}, "limits"),
    ],
)  # fmt: skip
def test_bad_values(api: Api, params: dict[str, str], parameter: str) -> None:
    body = error(api.get("/v1/bars", **{**GOOD, **params}), 400)
    assert body["details"]["parameter"] == parameter


def test_hints(api: Api) -> None:
    assert "1mo" in error(api.get("/v1/bars", symbol="KNOWN", interval="1M"), 400)["hint"]
    assert error(api.get("/v1/bars", symbol="KNOWN", interval="90s"), 400)["details"]["allowed"][0] == "1m"
    assert error(api.get("/v1/bars", **GOOD, strat="1"), 400)["hint"] == "Did you mean start?"
    assert error(api.client.get("/v1/bars?symbol=KNOWN&symbol=B&interval=1m"), 400)["details"]["parameter"] == "symbol"
    assert error(api.get("/v1/bars", symbol="KNOWN"), 400)["details"]["parameter"] == "interval"
    assert error(api.client.get("/v1/bars?symbol=%FF&interval=1m"), 400)["code"] == "bad_query"
    empty = api.get("/v1/bars", **GOOD)
    rev = empty.json()["rev"]
    assert empty.text == f'{{"symbol":"KNOWN","interval":"1m","bars":[],"next_cursor":null,{UNKNOWN},"rev":"{rev}"}}'


def test_a_cursor_belongs_to_its_request(api: Api) -> None:
    cursor = "MTphc2M6MTU3MDgzODQwMDoxbTpLTk9XTg"  # 1:asc:1570838400:1m:KNOWN
    assert api.get("/v1/bars", **GOOD, cursor=cursor).status_code == 200
    for change in ({"interval": "5m"}, {"order": "desc"}, {"symbol": "OTHER"}):
        body = error(api.get("/v1/bars", **{**GOOD, **change}, cursor=cursor), 400)
        assert body["details"]["parameter"] == "cursor"


@pytest.mark.parametrize("path", ["/v1/bars?interval=1m&symbol=", "/v1/bars?interval=1mo&format=csv&symbol=",
                                  "/v1/bars/latest?symbol=KNOWN,", "/v1/symbols/"])  # fmt: skip
@pytest.mark.parametrize("symbol", ["NOPE", "N/O:P.E", "known"])
def test_an_unknown_symbol(api: Api, path: str, symbol: str) -> None:
    for written in (symbol, quote(symbol, safe="")):
        assert error(api.client.get(path + written), 404)["details"] == {"symbol": symbol}


@pytest.mark.parametrize("path", PATHS[:7])
def test_an_unknown_parameter(api: Api, path: str) -> None:
    assert error(api.get(path, nonsense="1"), 400)["code"] in ("unknown_parameter",)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_a_method_that_is_not_allowed(api: Api, path: str, method: str) -> None:
    if path == "/v1/symbols/KNOWN" and method in ("PUT", "DELETE"):
        pytest.skip("allowed")
    answer = api.client.request(method, path, content=b"x" * 100)
    assert error(answer, 405)["code"] == "method_not_allowed"
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("path", ["/v1", "/v1/bar", "/v1/bars/", "/v2/bars", "/%00", "/favicon.ico"])
def test_no_such_path(api: Api, path: str) -> None:
    answer = api.client.get(path)
    error(answer, 400 if path == "/v1/bars/" else 404)  # a slash at the end is forgiven


@pytest.mark.parametrize("params", [{}, {"symbol": ""}, {"symbol": "KNOWN,"}, {"symbol": ["KNOWN"] * 2 + ["é"]},
                                    {"symbol": "KNOWN", "interval": "1M"}, {"symbol": "KNOWN", "start": "0"},
                                    {"symbol": ",".join(f"S{n}" for n in range(501))}])  # fmt: skip
def test_bad_requests_for_the_newest_bars(api: Api, params: dict[str, Any]) -> None:
    error(api.get("/v1/bars/latest", **params), 400)


values = (
    st.text(max_size=30) | st.integers().map(str) | st.datetimes().map(str) | st.floats().map(str)
    | st.sampled_from(["KNOWN", "1m", "1h", "1mo", "asc", "desc", "csv", "json", "0001-01-01", "9999-12-31T23:59:59.9Z",
                       "MTphc2M6MTU3MDgzODQwMDoxbTpLTk9XTg", "MTphc2M6LTk5OTk5OTk5OTk5OToxbTpLTk9XTg"])
)  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(params=st.dictionaries(st.sampled_from(BARS) | st.text(max_size=10), values, max_size=6), good=st.booleans())
def test_nothing_makes_a_500(api: Api, params: dict[str, str], good: bool) -> None:
    answer = api.get("/v1/bars", **{**params, **(GOOD if good else {})})
    if answer.status_code != 200:
        error(answer, answer.status_code)
    assert answer.status_code in (200, 400, 404), answer.text


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(["/v1/bars?", "/v1/bars/latest?", "/v1/symbols/", "/v1/symbols?"]), rest=st.binary(max_size=40)
)
def test_no_bytes_make_a_500(api: Api, path: str, rest: bytes) -> None:
    answer = api.client.get(path + quote(rest, safe="=&,;%"))
    if answer.status_code != 200:
        error(answer, answer.status_code)
    assert answer.status_code in (200, 400, 404), answer.text
