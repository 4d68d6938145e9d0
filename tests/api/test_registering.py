"""Registering symbols, what is missing of them, and what is being done about it."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from tests.api.conftest import Api, eventually
from tests.api.test_errors import error
from tests.api.truth import text
from tests.api.vouched import Vouched

GOOD = {"source": "simulator", "start": "2020-01-01"}
_names = iter(f"R{n}USD" for n in range(1000))


def put(api: Api, symbol: str, **body: Any) -> Any:
    return api.client.put(f"/v1/symbols/{symbol}", json={**GOOD, **body})


def test_a_symbol_is_registered_once_and_again(api: Api) -> None:
    name = next(_names)
    first = put(api, name)
    assert first.status_code == 201
    made = first.json()
    assert made == api.client.get(f"/v1/symbols/{name}").json() | {"gaps": made["gaps"]}
    assert (made["source"], made["market"], made["base"], made["quote"]) == (
        "simulator", f"Coinbase~{name[:-3]}~USD", name[:-3], "USD"
    )  # fmt: skip
    assert (made["history_start"], made["history_source"], made["live"]) == ("2020-01-01T00:00:00Z", "simulator", True)
    assert (made["complete"], made["gaps"], made["stopped"], made["covered"]["1m"]) == (False, 1, False, None)
    again = put(api, name)
    assert (again.status_code, again.json()["registered_at"]) == (200, made["registered_at"])
    # The start moves only back.
    assert put(api, name, start="2021-01-01T10:30:30Z").json()["history_start"] == "2020-01-01T00:00:00Z"
    assert put(api, name, start=1546300800).json()["history_start"] == "2019-01-01T00:00:00Z"


@pytest.mark.parametrize("symbol", ["EUR/USD", "a:b/c", "A.b_c-d+e=f@g"])
def test_any_symbol_may_stand_in_the_path(api: Api, symbol: str) -> None:
    for written in (symbol.replace("+", "%2B"), quote(symbol, safe="")):
        answer = api.client.put(f"/v1/symbols/{written}", json=GOOD)
        assert answer.status_code in (200, 201), answer.text
        assert answer.json()["symbol"] == symbol
        assert api.client.get(f"/v1/symbols/{written}").json()["symbol"] == symbol
    assert api.client.delete(f"/v1/symbols/{quote(symbol, safe='')}").status_code == 200


def test_sources_and_their_markets(api: Api) -> None:
    name = next(_names)
    ccxt = put(api, name, source="ccxt:binance").json()
    assert (ccxt["market"], ccxt["base"], ccxt["quote"]) == (f"{name[:-3]}/USD", name[:-3], "USD")
    assert put(api, name, source="ccxt:binance", market="BTC/USDT:USDT", base="X").json()["base"] == "X"
    silent = put(api, next(_names), source="kafka").json()
    assert (silent["live"], silent["history_source"], silent["market"], silent["complete"]) == (False, None, None, None)
    joined = put(api, next(_names), source="kafka", history_source="cryptocompare", market="Kraken~A~B").json()
    assert (joined["live"], joined["history_source"], joined["base"], joined["complete"]) == (
        False, "cryptocompare", "A", False
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "parameter", "words"),
    [
        ({"sorce": "simulator"}, "sorce", "Did you mean source?"),
        ({"source": None}, "source", "simulator"), ({"source": "simulater"}, "source", "simulator"),
        ({"source": "ccxt"}, "source", "ccxt:<exchange>"), ({"source": 5}, "source", "text"),
        ({"source": "kafka", "history_source": "kafka"}, "history_source", "no history"),
        ({"history_source": "ccxt:binance"}, "history_source", "markets of simulator"),
        ({"market": "BTC/USD"}, "market", "Coinbase~BTC~USD"), ({"market": "a~~b"}, "market", "Coinbase~BTC~USD"),
        ({"source": "ccxt:kraken", "market": "Coinbase~BTC~USD"}, "market", "BTC/USDT"),
        ({"start": None}, "start", "missing"), ({"start": "soon"}, "start", "no time"),
        ({"start": True}, "start", "text"),
        ({"start": "2199-01-01"}, "start", "future"), ({"start": "1800-01-01"}, "start", "1970"),
        ({"start": 1.5}, "start", "whole number"), ({"base": ""}, "base", "text"), ({"quote": "\0"}, "quote", "text"),
    ],
)  # fmt: skip
def test_what_is_refused(api: Api, body: dict[str, Any], parameter: str, words: str) -> None:
    found = error(put(api, "REFUSED", **body), 400)
    assert found["details"]["parameter"] == parameter
    assert words in found["message"] + found["hint"] + str(found["details"])
    assert api.get("/v1/symbols/REFUSED").status_code == 404


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"5", b'"x"', b"\xff", b"{}" * 2])
def test_bodies_that_are_no_object(api: Api, content: bytes) -> None:
    assert error(api.client.put("/v1/symbols/REFUSED", content=content), 400)["code"] == "bad_body"


def test_other_refusals(api: Api) -> None:
    error(api.client.put("/v1/symbols/-bad", json=GOOD), 400)
    error(api.client.put("/v1/symbols/GOOD?x=1", json=GOOD), 400)
    error(api.client.delete("/v1/symbols/NOBODY"), 404)
    error(api.client.delete("/v1/symbols/NOBODY?purge=true"), 404)
    error(api.client.delete("/v1/symbols/NOBODY?purge=1"), 400)
    error(api.get("/v1/gaps", symbol="NOBODY"), 404)
    error(api.get("/v1/backfills", symbol="NOBODY"), 404)
    error(api.get("/v1/backfills", all="maybe"), 400)
    error(api.get("/v1/gaps", limit=0), 400)


def test_a_stopped_symbol_keeps_its_data_a_purged_one_is_gone(api: Api, connection: psycopg.Connection[Any]) -> None:
    name = next(_names)
    put(api, name)
    connection.execute("select prepare_ticks(array['2020-01-01Z'::timestamptz])")
    connection.execute("insert into ticks (symbol, ts, seq, price, size) values (%s, '2020-01-01Z', 1, 5, 1)", (name,))
    connection.execute("select file_tasks(%s)", (name,))
    assert api.json("/v1/backfills", symbol=name)["backfills"]
    stopped = api.client.delete(f"/v1/symbols/{name}")
    assert (stopped.status_code, stopped.json()["stopped"], stopped.json()["live"]) == (200, True, False)
    assert (stopped.json()["gaps"], stopped.json()["complete"]) == (0, None)
    assert api.json("/v1/backfills", symbol=name)["backfills"] == []
    assert all(
        task["status"] == "cancelled" for task in api.json("/v1/backfills", symbol=name, all="true")["backfills"]
    )
    assert api.client.delete(f"/v1/symbols/{name}").status_code == 200
    assert connection.execute("select count(*) from ticks where symbol = %s", (name,)).fetchone() == (1,)
    assert put(api, name).json()["stopped"] is False
    assert api.client.delete(f"/v1/symbols/{name}?purge=true").status_code == 204
    assert api.get(f"/v1/symbols/{name}").status_code == 404
    eventually(lambda: error(api.get("/v1/bars", symbol=name, interval="1m"), 404))
    assert connection.execute("select count(*) from ticks where symbol = %s", (name,)).fetchone() == (0,)


def test_gaps_backfills_and_status(api: Api, connection: psycopg.Connection[Any]) -> None:
    name, start = next(_names), datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=9)
    put(api, name, start=text(start))
    v = Vouched(connection, name).imported(
        (start, start + timedelta(days=2)), (start + timedelta(days=3), start.replace(year=2199))
    )
    hole = {"symbol": name, "from": text(start + timedelta(days=2)), "to": text(start + timedelta(days=3))}
    assert api.json("/v1/gaps", symbol=name) == {"gaps": [hole], "more": False}
    assert hole in api.json("/v1/gaps", limit=10000)["gaps"]
    v.late((start, start + timedelta(minutes=1)))
    assert api.json("/v1/gaps", symbol=name, limit=1) == {"gaps": [hole], "more": True}
    v.repaired()
    connection.execute("select file_tasks(%s)", (name,))
    [task] = (found := api.json("/v1/backfills", symbol=name))["backfills"]
    assert (task["from"], task["to"], task["interval"]) == (hole["from"], hole["to"], "1m")
    assert (task["status"], task["attempt"], task["error"]) == ("queued", 0, None)
    [how_far] = found["progress"]
    assert (how_far["symbol"], how_far["tasks_open"], how_far["seconds_missing"]) == (name, 1, 86400)
    assert 0.85 < how_far["share"] < 0.91
    connection.execute(
        "insert into actor (role, instance, machine, subject, state) values ('feed', 'i', 'm', %s, 's')", (name,)
    )
    status = api.json("/v1/status")
    assert status["gaps"] >= 1
    assert status["tasks"]["by_status"]["queued"] == status["tasks"]["open"]
    assert name in [actor["subject"] for actor in status["actors"]]
    assert set(status["audit"]) == {"buckets", "findings", "at"}
    one = api.json(f"/v1/symbols/{name}")
    assert (one["complete"], one["gaps"]) == (False, 1)
    v.imported((start + timedelta(days=2), start + timedelta(days=3)))
    one = api.json(f"/v1/symbols/{name}")
    assert (one["complete"], one["finest"], one["gaps"]) == (True, "1m", 0)
    assert one["covered"]["1m"]["from"] == text(start)
