"""The OpenAPI document is true: whatever it lets one send, nothing breaks and no answer is other than it says; and the
example of every parameter works as it stands."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import psycopg
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from barwright.api.app import create_app
from barwright.settings import Settings
from tests.api.conftest import Api, serving
from tests.api.keys import bearer, make
from tests.services import Server

# Not `positive_data_acceptance`: that a start lies before its end, or that a cursor goes with its request, is beyond
# what a schema can say.
CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
    response_schema_conformance, unsupported_method, allow_header_conformance,
]  # fmt: skip
DOCUMENT = create_app(Settings()).openapi_schema.to_schema()
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = {operation.label: operation for found in SCHEMA.get_all_operations() if (operation := found.ok())}
STREAMS = "/v1/stream"
KNOWN = {"symbol": "BTCUSD", "interval": "1m", "resolution": "60"}
EXAMPLES = settings(
    max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def traded(connection: psycopg.Connection[Any]) -> None:
    """The symbols that the examples name, with some bars."""
    for symbol in ("BTCUSD", "ETHUSD", "EUR/USD"):
        connection.execute(
            "insert into symbols (symbol, source, market, base, quote, history_start, history_source) values "
            "(%s, 'kafka', 'Coinbase~BTC~USD', 'BTC', 'USD', '2019-10-11', 'simulator') on conflict do nothing",
            (symbol,),
        )
        connection.execute("select prepare_ticks(array[now() - interval '1 hour', now()])")
        connection.execute(
            "insert into ticks (symbol, ts, seq, price, size) select %s, ts, 1, 100.25, 2 from "
            "generate_series(now() - interval '10 minutes', now(), interval '1 minute') as ts on conflict do nothing",
            (symbol,),
        )


def asked(api: Api, method: str, path: str, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    """One answer, of a stream its beginning."""
    url = str(api.client.base_url).rstrip("/") + path
    with api.client.stream(method, url, headers=headers, **body) as answer:
        streams = answer.headers.get("content-type", "").startswith("text/event-stream")
        content = next(answer.iter_bytes(), b"") if streams else answer.read()
    kept = [(name, value) for name, value in answer.headers.multi_items() if name != "content-encoding"]
    whole = httpx.Response(answer.status_code, headers=kept, content=content, request=answer.request)
    whole.elapsed = timedelta(0)
    return whole


def takes(label: str) -> bool:
    """Whether an operation takes anything that could be wrong."""
    return bool(OPERATIONS[label].query or OPERATIONS[label].path_parameters or OPERATIONS[label].body)


@pytest.mark.parametrize(
    ("label", "mode"),
    [(label, mode) for label in OPERATIONS for mode in ("positive", "negative") if mode == "positive" or takes(label)],
)
def test_no_answer_is_other_than_documented(label: str, mode: str, api: Api) -> None:
    operation = OPERATIONS[label]
    # UDF has no statuses: what is wrong there is told with 200.
    checks = CHECKS if "/udf/" in label or mode == "positive" else [*CHECKS, negative_data_rejection]
    cases = operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode))

    @EXAMPLES
    @given(case=cases, known=st.booleans())
    def ask(case: Any, known: bool) -> None:
        if known and mode == "positive":
            case.query = {**(case.query or {}), **{n: v for n, v in KNOWN.items() if n in operation.query}}
        if mode == "positive" and "wait" in (case.query or {}):
            case.query["wait"] = 0.05
        if STREAMS in label:
            sent = case.as_transport_kwargs(base_url=str(api.client.base_url))
            request = httpx.Request(sent["method"], sent["url"], params=sent["params"], headers=sent["headers"])
            response: Any = asked(api, request.method, request.url.raw_path.decode(), dict(request.headers))
        else:
            response = case.call(base_url=str(api.client.base_url), timeout=20)
        case.validate_response(response, checks=checks)

    ask()


@pytest.fixture(scope="module")
def locked(dsn: str, valkey: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API with keys on."""
    log = tmp_path_factory.mktemp("locked") / "serve.log"
    with serving(dsn, valkey.url, log, BARWRIGHT_KEYS="on") as api:
        yield api


@pytest.mark.parametrize("label", OPERATIONS)
def test_refusals_are_documented(label: str, locked: Api, connection: psycopg.Connection[Any]) -> None:
    operation = OPERATIONS[label]
    path = operation.path.replace("{name}", "X")
    path += "?" + urlencode({name: value for name, value in KNOWN.items() if name in operation.query})
    key = bearer(make(connection))
    expected = {200} if "/health/" in path else {401}
    assert asked(locked, operation.method, path).status_code in expected
    for headers, query, statuses in (
        ({}, "", expected), (key, "", {200, 400, 403, 404}), ({**key, "Host": "evil.example"}, "", {421}),
        (key, "&a=" + "x" * 9000, {414}), ({**key, "Content-Length": "70000"}, "", {413}),
        ({**key, "Origin": "https://evil.example"}, "", {200, 400, 403, 404}),
    ):  # fmt: skip
        body = {"content": b" " * 70_000} if "Content-Length" in headers else {}
        answer = asked(locked, operation.method, path + query, headers, **body)
        assert answer.status_code in statuses, (headers, answer.text)
        case = operation.Case(path_parameters={"name": "X"} if "{name}" in operation.path else None)
        case.validate_response(answer, checks=CHECKS[:5])


def example(described: dict[str, Any]) -> Any:
    """The first example of a parameter or a body."""
    return next(iter(described["examples"].values()))["value"]


def tries() -> Iterator[tuple[str, str, str, dict[str, str], Any]]:
    """Each operation with the examples of what is required, and then with each other parameter's."""
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            given = operation.get("parameters", [])
            where = path
            for parameter in given:
                if parameter["in"] == "path":
                    where = where.replace(f"{{{parameter['name']}}}", quote(str(example(parameter)), safe=""))
            body = operation.get("requestBody")
            # UDF asks for one of two, and a zone goes with hours.
            needed = ("countback", "interval")
            required = [p for p in given if p["in"] == "query" and (p.get("required") or p["name"] in needed)]
            for one in [None, *(p for p in given if "examples" in p and p["in"] != "path" and not p.get("required"))]:
                query = {p["name"]: example(p) for p in [*required, *([one] if one and one["in"] == "query" else [])]}
                headers = {one["name"]: str(example(one))} if one and one["in"] == "header" else {}
                sent = example(body["content"]["application/json"]) if body else None
                yield method.upper(), where, urlencode(query), headers, sent


@pytest.mark.parametrize(("method", "path", "query", "headers", "body"), sorted(tries(), key=lambda one: one[0]))
def test_every_example_works(
    method: str, path: str, query: str, headers: dict[str, str], body: Any, api: Api, connection: Any
) -> None:
    if "EUR" in path:  # which may be removed by now
        connection.execute("insert into symbols (symbol) values ('EUR/USD') on conflict do nothing")
    answer = asked(api, method, f"{path}?{query}", headers, **({"json": body} if body else {}))
    assert answer.status_code in (200, 201, 204), answer.text
    operation = next(o for o in OPERATIONS.values() if o.method.upper() == method and _is(o.path, path))
    case = operation.Case(path_parameters={"name": "X"} if "{name}" in operation.path else None)
    case.validate_response(answer, checks=CHECKS[:5])
    if "/udf/" in path:
        assert '"s":"error"' not in answer.text


def _is(template: str, path: str) -> bool:
    return template == path or ("{name}" in template and path.startswith(template.partition("{")[0]))
