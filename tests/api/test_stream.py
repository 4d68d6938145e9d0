"""Streams: history, the live bar, closings, repairs, resuming, and what clients do wrong."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from websockets.exceptions import ConnectionClosed

from tests.api.conftest import Api, eventually, serving
from tests.api.keys import make
from tests.api.streams import Store, events, exact, read, receive, socket, subscribe
from tests.services import Server
from tests.sql.market import Market

New = Callable[..., Market]
Connection = psycopg.Connection[Any]
ALL = "0001-01-01"


@pytest.fixture
def market(new: New) -> Market:
    """Five minutes with a trade each, three of them closed."""
    made = new()
    made.insert(*(made.trade(f"01-01 00:0{n}:10", str(100 + n)) for n in range(5)))
    made.seal("01-01 00:03")
    return made


def test_history_then_the_live_bar_its_closing_and_a_repair(api: Api, market: Market) -> None:
    store = Store()
    with socket(api) as opened:
        subscribe(opened, symbol=market.symbol, interval="1m", start=ALL)
        for message in read(opened, "live"):
            assert message["id"] == "a"
            store.take(message)
        assert store.list() == api.bars(market.symbol)
        assert [bar["closed"] for bar in store.list()] == [True, True, True, False, False]
        market.insert(market.trade("01-01 00:04:20", "200"))
        [message] = read(opened, "bar")
        store.take(message)
        assert (message["bar"]["high"], message["bar"]["closed"]) == (200, False)
        market.seal("01-01 00:05")
        for message in [*read(opened, "bar"), *read(opened, "bar")]:
            assert message["bar"]["closed"]
            store.take(message)
        market.insert(market.trade("01-01 00:01:30", "1"))
        market.repair()
        [message] = read(opened, "revision")
        store.take(message)
        assert (message["bar"]["low"], message["rev"] > 0) == (1, True)
        assert store.list() == api.bars(market.symbol)


def test_without_a_start_it_begins_with_the_bar_that_closed_last(api: Api, market: Market) -> None:
    with socket(api, f"?symbol={market.symbol}&interval=1m&id=q") as opened:
        bars, live = read(opened, "live")
    assert (bars["id"], live["id"]) == ("q", "q")
    assert [bar["bucket"][14:16] for bar in bars["bars"]] == ["02", "03", "04"]


def test_the_live_bar_where_ticks_are_compressed(api: Api, market: Market, connection: Connection) -> None:
    """They have no transactions' ids: what is open is added up by the view."""
    if market.engine.name != "timescaledb":
        pytest.skip("it compresses no ticks")
    connection.execute("alter table ticks set (timescaledb.enable_columnstore, timescaledb.segmentby = 'symbol')")
    connection.execute("select compress_chunk(c) from show_chunks('ticks', newer_than => %s) as c", (market.start,))
    with socket(api, f"?symbol={market.symbol}&interval=1m") as opened:
        read(opened, "live")
        market.insert(market.trade("01-01 00:04:20", "200"))
        [message] = read(opened, "bar")
        assert message["bar"]["high"] == 200


def test_a_start_that_has_not_come_yet(api: Api, market: Market) -> None:
    with socket(api) as opened:
        subscribe(opened, symbol=market.symbol, interval="1m", start=market.at("01-01 00:05").isoformat())
        bars, _ = read(opened, "live")
        assert bars["bars"] == []
        market.insert(market.trade("01-01 00:04:50", "7"), market.trade("01-01 00:05:50", "8"))
        market.seal("01-01 00:04")
        [message] = read(opened, "bar")
        assert (message["bar"]["bucket"][14:16], message["bar"]["close"]) == ("05", 8)


def test_long_history_comes_in_pages(api: Api, new: New) -> None:
    market = new()
    market.insert(*(market.trade(f"01-01 {n // 60:02}:{n % 60:02}:10", str(100 + n)) for n in range(0, 1400, 1)))
    market.seal("01-01 20:00")
    store = Store()
    with socket(api, max_queue=None) as opened:
        subscribe(opened, symbol=market.symbol, interval="1m", start=ALL)
        messages = read(opened, "live")
    assert [len(message["bars"]) for message in messages[:-1]] == [1000, 400]
    for message in messages:
        store.take(message)
    assert store.list() == api.bars(market.symbol, limit=10000)
    # Cut after the first page, the rest comes as it would have.
    with socket(api, max_queue=None) as opened:
        subscribe(opened, symbol=market.symbol, interval="1m", start=ALL, since=messages[0]["event"])
        rest = read(opened, "live")
    assert [message["bars"] for message in rest[:-1]] == [message["bars"] for message in messages[1:-1]]


@pytest.mark.parametrize("numbers", ["number", "string"])
@pytest.mark.parametrize("time", ["iso", "s", "ms"])
def test_styles_are_those_of_bars(api: Api, market: Market, numbers: str, time: str) -> None:
    params = {"symbol": market.symbol, "interval": "1m", "start": ALL, "numbers": numbers, "time": time}
    with socket(api) as opened:
        subscribe(opened, **params)
        bars = [bar for message in read(opened, "live")[:-1] for bar in message["bars"]]
        assert bars == api.bars(**params)
        market.insert(market.trade("01-01 00:04:20", "20.5"))
        [message] = read(opened, "bar")
    assert message["bar"] == api.bars(**params)[-1]


INTERVALS: list[dict[str, str]] = [
    {"interval": "3m"}, {"interval": "10m"}, {"interval": "2h"}, {"interval": "1d"}, {"interval": "1w"},
    {"interval": "1mo"}, {"interval": "1h", "tz": "Asia/Kathmandu"}, {"interval": "1d", "tz": "America/New_York"},
    {"interval": "30m", "session": "23:50-00:04"},
]  # fmt: skip


@pytest.mark.parametrize("params", INTERVALS)
def test_any_interval_streams(api: Api, market: Market, params: dict[str, str]) -> None:
    store = Store()
    with socket(api) as opened:
        subscribe(opened, symbol=market.symbol, start=ALL, **params)
        for message in read(opened, "live"):
            store.take(message)
        assert store.list() == api.bars(market.symbol, **params)
        market.insert(market.trade("01-01 00:03:20", "200"))
        store.take(read(opened, "bar")[-1])
        market.insert(market.trade("01-01 00:01:20", "201"))
        market.repair()
        store.take(receive(opened, lambda m: "bar" in m and m["bar"]["high"] == 201)[-1])
        market.seal("01-01 00:12")

        def settled() -> None:
            with suppress(TimeoutError):
                store.take(exact(opened.recv(timeout=0.05)))
            assert store.list() == api.bars(market.symbol, **params)

        eventually(settled, 3)


def test_a_closed_bar_that_goes_is_removed(api: Api, new: New) -> None:
    market = new()
    market.insert(market.bar("01-01 00:00", "1 2 1 2"), market.trade("01-01 00:01:10", "3"))
    market.seal("01-01 00:03")
    with socket(api) as opened:
        subscribe(opened, symbol=market.symbol, interval="1m", start=ALL)
        store = Store()
        for message in read(opened, "live"):
            store.take(message)
        with market.connection.transaction():
            market.connection.execute("delete from ticks where symbol = %s and seq = -1", (market.symbol,))
            market.connection.execute("insert into late_range (symbol, span) values (%s, tstzrange(%s, %s))",
                                      (market.symbol, market.start, market.at("01-01 00:01")))  # fmt: skip
        market.repair()
        [message] = read(opened, "removed")
        assert [message[name][14:16] for name in ("bucket", "end")] == ["00", "01"]
        store.take(message)
        assert store.list() == api.bars(market.symbol)


def test_ordered_clients_never_go_back(api: Api, market: Market) -> None:
    with socket(api) as opened:
        subscribe(opened, symbol=market.symbol, interval="1m", start=ALL, ordered=True)
        bars, _ = read(opened, "live")
        seen = [(bar["bucket"], bar["closed"]) for bar in bars["bars"]]
        assert len(seen) == 4
        market.insert(market.trade("01-01 00:04:20", "200"))
        market.seal("01-01 00:05")
        messages = [*read(opened, "bar"), *read(opened, "bar")]
        seen += [(message["bar"]["bucket"], message["bar"]["closed"]) for message in messages]
    assert all(a[0] <= b[0] for a, b in pairwise(seen))
    assert seen[-1] == (f"{market.year}-01-01T00:04:00Z", True)


def test_a_slow_rate_sends_less_and_the_last_state_always(api: Api, market: Market) -> None:
    with socket(api) as opened:
        subscribe(opened, symbol=market.symbol, interval="1m", rate=2)
        read(opened, "live")
        for n in range(20):
            market.insert(market.trade(f"01-01 00:04:{20 + n}", str(300 + n)))
            time.sleep(0.05)
        messages = receive(opened, lambda m: m["bar"]["close"] == 319)
    assert 2 <= len(messages) <= 5


def test_resuming_sends_what_changed_and_nothing_twice(api: Api, market: Market) -> None:
    ask = {"symbol": market.symbol, "interval": "1m", "start": ALL}
    with socket(api) as opened:
        subscribe(opened, **ask)
        event = read(opened, "live")[-1]["event"]
    with socket(api) as opened:
        subscribe(opened, **ask, since=event)
        [live] = read(opened, "live")
        assert live["event"] == event
    market.insert(market.trade("01-01 00:01:20", "400"), market.trade("01-01 00:04:20", "401"))
    market.repair()
    market.seal("01-01 00:04")
    with socket(api) as opened:
        subscribe(opened, **ask, since=event)
        messages = read(opened, "live")
    assert [message["type"] for message in messages] == ["revision", "bars", "live"]
    assert messages[0]["bar"]["high"] == 400
    assert [(bar["bucket"][14:16], bar["closed"]) for bar in messages[1]["bars"]] == [("03", True), ("04", False)]
    # Without a start it is the one of before.
    with socket(api) as opened:
        subscribe(opened, symbol=market.symbol, interval="1m", since=event)
        assert [message["type"] for message in read(opened, "live")] == ["revision", "bars", "live"]


def test_what_cannot_be_resumed_starts_over(api: Api, market: Market, connection: Connection) -> None:
    ask = {"symbol": market.symbol, "interval": "1m", "start": market.at("01-01 00:01").isoformat()}

    def starts_over(**params: Any) -> None:
        with socket(api) as opened:
            subscribe(opened, **{**ask, **params})
            messages = read(opened, "live")
        assert [message["type"] for message in messages] == ["reset", "bars", "live"]

    with socket(api) as opened:
        subscribe(opened, **ask)
        event = read(opened, "live")[-1]["event"]
    starts_over(since=event, start=ALL)
    starts_over(since=f"{'0' * 8}{event[8:]}")
    market.insert(market.trade("01-01 00:02:20", "400"))
    market.repair()
    connection.execute("delete from revision")
    with serving_anew(api) as other, socket(other) as opened:
        subscribe(opened, **ask, since=event)
        assert [message["type"] for message in read(opened, "live")] == ["reset", "bars", "live"]


@contextmanager
def serving_anew(api: Api) -> Iterator[Api]:
    """A process that has heard of nothing."""
    env = {name: value for line in Path(f"/proc/{api.process.pid}/environ").read_text().split("\0") if line
           for name, _, value in [line.partition("=")]}  # fmt: skip
    with serving(env["DATABASE_URL"], env["REDIS_URL"], api.log.with_name("anew.log")) as other:
        yield other


def test_another_epoch_resets_who_is_connected(api: Api, market: Market, connection: Connection) -> None:
    with socket(api) as opened:
        subscribe(opened, symbol=market.symbol, interval="1m", start=ALL)
        store = Store()
        for message in read(opened, "live"):
            store.take(message)
        connection.execute("select renew_epoch()")
        messages = read(opened, "live")
        assert [message["type"] for message in messages] == ["reset", "bars", "live"]
        for message in messages:
            store.take(message)
        assert store.list() == api.bars(market.symbol)


def test_a_symbol_that_is_purged_ends_its_subscription(api: Api, market: Market, connection: Connection) -> None:
    with socket(api) as opened:
        subscribe(opened, symbol=market.symbol, interval="1m")
        read(opened, "live")
        connection.execute("delete from symbols where symbol = %s", (market.symbol,))
        assert read(opened, "error")[-1]["code"] == "unknown_symbol"
        subscribe(opened, symbol=market.symbol, interval="1m")
        assert read(opened, "error")[-1]["code"] == "unknown_symbol"


BAD: list[tuple[dict[str, Any], str]] = [
    ({"symbol": "NOBODY", "interval": "1m"}, "unknown_symbol"),
    ({"symbol": "NOBODY", "interval": "7s"}, "bad_parameter"),
    ({"symbol": "no symbol!", "interval": "1m"}, "bad_parameter"),
    ({"symbol": "NOBODY"}, "bad_parameter"),
    ({"symbol": "NOBODY", "interval": "1m", "tz": "Mars/Base"}, "bad_parameter"),
    ({"symbol": "NOBODY", "interval": "1m", "start": "yesterday"}, "bad_parameter"),
    ({"symbol": "NOBODY", "interval": "1m", "rate": 0}, "bad_parameter"),
    ({"symbol": "NOBODY", "interval": "1m", "ordered": "maybe"}, "bad_parameter"),
    ({"symbol": "NOBODY", "interval": "1m", "since": "nonsense"}, "bad_parameter"),
    ({"symbol": "NOBODY", "interval": "1m", "numbers": "roman"}, "bad_parameter"),
    ({"symbol": "NOBODY", "interval": "1m", "intervall": "1m"}, "unknown_parameter"),
    ({"symbol": "NOBODY", "interval": "1m", "id": 7}, "bad_parameter"),
    ({"op": "shout"}, "bad_parameter"),
    ({"symbol": ["NOBODY"]}, "bad_message"),
]


def test_what_is_wrong_is_told_and_the_socket_stays(api: Api, market: Market) -> None:
    with socket(api) as opened:
        subscribe(opened, id="good", symbol=market.symbol, interval="1m")
        read(opened, "live")
        for params, code in BAD:
            opened.send(json.dumps({"op": "subscribe", "id": "bad", **params}))
            error = read(opened, "error")[-1]
            assert error["code"] == code, (params, error)
            assert {"id", "status", "message", "details", "hint"} < error.keys()
        for text in ("", "nonsense", "[]", '"a"', "x" * 5000, b"\xff\xfe"):
            opened.send(text)
            assert read(opened, "error")[-1]["code"] == "bad_message", text
        subscribe(opened, id="good", symbol=market.symbol, interval="1m")
        assert "already" in read(opened, "error")[-1]["message"]
        opened.send('{"op":"ping","id":"7"}')
        assert read(opened, "pong")[-1]["id"] == "7"
        market.insert(market.trade("01-01 00:04:20", "200"))
        assert read(opened, "bar")[-1]["id"] == "good"


def test_an_event_of_another_series_is_refused(api: Api, market: Market) -> None:
    with socket(api) as opened:
        subscribe(opened, symbol=market.symbol, interval="1m")
        event = read(opened, "live")[-1]["event"]
        subscribe(opened, id="b", symbol=market.symbol, interval="5m", since=event)
        error = read(opened, "error")[-1]
    assert (error["id"], error["code"]) == ("b", "bad_parameter")


def test_several_series_on_one_socket(api: Api, market: Market) -> None:
    with socket(api) as opened:
        for interval in ("1m", "5m", "1h"):
            subscribe(opened, id=interval, symbol=market.symbol, interval=interval)
        live: set[str] = set()
        while len(live) < 3:
            live.add(read(opened, "live")[-1]["id"])
        market.insert(market.trade("01-01 00:04:20", "200"))
        changed: set[str] = set()
        while len(changed) < 3:
            changed.add(read(opened, "bar")[-1]["id"])
        opened.send('{"op":"unsubscribe","id":"5m"}')
        assert read(opened, "unsubscribed")[-1]["id"] == "5m"
        opened.send('{"op":"unsubscribe","id":"5m"}')
        assert read(opened, "error")[-1]["id"] == "5m"
        market.insert(market.trade("01-01 00:04:21", "201"))
        assert {read(opened, "bar")[-1]["id"], read(opened, "bar")[-1]["id"]} == {"1m", "1h"}


def test_a_socket_takes_a_hundred_series(api: Api, market: Market) -> None:
    with socket(api, max_queue=None) as opened:
        for n in range(101):
            subscribe(opened, id=str(n), symbol=market.symbol, interval=f"{n + 1}m")
        assert read(opened, "error")[-1]["code"] == "too_many"


def test_server_sent_events_resume_by_their_last_id(api: Api, market: Market) -> None:
    params = {"symbol": market.symbol, "interval": "1m", "start": ALL}
    with api.client.stream("GET", "/v1/stream", params=params) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        found = list[Any]()
        for id, data in events(answer.iter_lines()):
            found.append(exact(data))
            assert id == found[-1]["event"]
            if found[-1]["type"] == "live":
                break
    assert [bar for message in found[:-1] for bar in message["bars"]] == api.bars(market.symbol)
    market.insert(market.trade("01-01 00:04:20", "200"))
    last = {"Last-Event-ID": found[-1]["event"]}
    with api.client.stream("GET", "/v1/stream", params=params, headers=last) as answer:
        bars, live = (exact(data) for _, data in islice(events(answer.iter_lines()), 2))
    assert [bar["high"] for bar in bars["bars"]] == [200]
    assert live["type"] == "live"


@pytest.mark.parametrize(("query", "status"), [
    ("symbol=NOBODY&interval=1m", 404), ("symbol=NOBODY&interval=7s", 400), ("interval=1m", 400),
    ("symbol=A&interval=1m&id=a", 400), ("symbol=A&interval=1m&since=x", 400),
])  # fmt: skip
def test_what_is_wrong_with_events_is_an_answer(api: Api, query: str, status: int) -> None:
    answer = api.client.get(f"/v1/stream?{query}")
    assert answer.status_code == status
    assert {"code", "message", "details", "hint"} == answer.json().keys()


def test_streams_end_within_a_second_when_the_server_stops(
    dsn: str, valkey: Server, tmp_path: Path, market: Market
) -> None:
    query = {"symbol": market.symbol, "interval": "1m"}
    with serving(dsn, valkey.url, tmp_path / "log") as api, httpx.Client(timeout=5) as client:
        url = f"{api.client.base_url}/v1/stream"
        with socket(api) as opened, client.stream("GET", url, params=query) as answer:
            subscribe(opened, **query)
            read(opened, "live")
            lines = answer.iter_lines()
            assert next(lines) == "retry: 1000"
            began = time.monotonic()
            api.process.terminate()
            with pytest.raises(ConnectionClosed) as closed:
                read(opened, "never")
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
            assert list(lines)[-1] == ""  # a whole answer, not one that was cut
            assert time.monotonic() - began < 1
            assert api.process.wait(5) == 0


def test_a_key_opens_a_socket_by_its_header_or_its_first_message(
    dsn: str, valkey: Server, tmp_path: Path, market: Market, connection: Connection
) -> None:
    key = make(connection)
    ask = {"symbol": market.symbol, "interval": "1m"}
    with serving(dsn, valkey.url, tmp_path / "log", BARWRIGHT_KEYS="on") as api:
        with socket(api, additional_headers={"Authorization": f"Bearer {key}"}) as opened:
            subscribe(opened, **ask)
            read(opened, "live")
        with socket(api) as opened:
            subscribe(opened, **ask)
            assert read(opened, "error")[-1]["code"] == "unauthorized"
            opened.send(json.dumps({"op": "auth", "key": "wrong"}))
            assert read(opened, "error")[-1]["code"] == "unauthorized"
            opened.send(json.dumps({"op": "auth", "key": key}))
            read(opened, "auth")
            subscribe(opened, **ask)
            read(opened, "live")
        assert api.client.get("/v1/stream", params=ask).status_code == 401
