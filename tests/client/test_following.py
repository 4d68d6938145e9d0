"""A stream that is cut, reset, silent or refused, told by a scripted server."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from socket import SHUT_RDWR
from typing import Any

import pytest
from websockets.sync.server import ServerConnection, serve

from barwright.client import AsyncClient, Bar, Client, NoAccessError, NotFoundError, following

Script = Callable[[ServerConnection], None]
VALUES = {"open": "1.5", "high": "2", "low": "1", "close": "1.25", "volume": "7", "quote_volume": None, "vwap": None,
          "trades": None, "buy_volume": None, "imported": False}  # fmt: skip


def bar(minute: int, close: str = "1.25", closed: bool = True) -> dict[str, Any]:
    """A bar as the server writes it."""
    return {"bucket": f"2026-01-01T00:{minute:02}:00Z", **VALUES, "close": close, "closed": closed}


def at(minute: int) -> datetime:
    return datetime(2026, 1, 1, 0, minute, tzinfo=UTC)


@contextmanager
def scripted(*scripts: Script, **options: Any) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server whose n-th connection runs the n-th script; its URL, and the subscriptions it heard."""
    heard: list[dict[str, Any]] = []
    left = iter(scripts)

    def handler(socket: ServerConnection) -> None:
        heard.append(json.loads(socket.recv()))
        next(left)(socket)

    with serve(handler, "127.0.0.1", 0, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.socket.getsockname()[1]}", heard
        finally:
            server.shutdown()
            thread.join()


def says(*messages: dict[str, Any], stay: bool = False) -> Script:
    """Sends messages, then breaks off, or stays until the client goes."""

    def script(socket: ServerConnection) -> None:
        for message in messages:
            socket.send(json.dumps({"id": "0", **message}))
        if stay:
            for _ in socket:
                pass
        else:
            socket.socket.shutdown(SHUT_RDWR)

    return script


def sync_bars(url: str, count: int, **options: Any) -> list[Bar]:
    with Client(url) as client, closing(client.stream("BTCUSD", "1m", **options)) as found:
        return [one for _, one in zip(range(count), found, strict=False)]


def async_bars(url: str, count: int, **options: Any) -> list[Bar]:
    async def collect() -> list[Bar]:
        got: list[Bar] = []
        async with AsyncClient(url) as client:
            async for one in client.stream("BTCUSD", "1m", **options):
                got.append(one)
                if len(got) == count:
                    break
        return got

    return asyncio.run(collect())


@pytest.fixture(params=[sync_bars, async_bars])
def bars(request: pytest.FixtureRequest) -> Callable[..., list[Bar]]:
    return request.param  # type: ignore[no-any-return]


def test_history_then_changes(bars: Callable[..., list[Bar]]) -> None:
    script = says(
        {"type": "bars", "bars": [bar(0), bar(1, closed=False)], "event": "a"}, {"type": "live", "event": "a"},
        {"type": "heartbeat", "time": "2026-01-01T00:01:02Z"},
        {"type": "bar", "bar": bar(1, "1.000000000000000001"), "rev": 3, "event": "b"},
        {"type": "revision", "bar": bar(0, "9"), "rev": 4, "event": "c"},
        {"type": "removed", "bucket": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:02:00Z", "rev": 5, "event": "d"},
        stay=True,
    )  # fmt: skip
    with scripted(script) as (url, heard):
        got = bars(url, 5, start=at(0).replace(tzinfo=None), rate=5)
    assert heard == [{"op": "subscribe", "id": "0", "symbol": "BTCUSD", "interval": "1m", "numbers": "string",
                      "start": "2026-01-01T00:00:00+00:00", "rate": 5}]  # fmt: skip
    assert [(one.kind, one.bucket, one.first) for one in got] == [
        ("history", at(0), True), ("history", at(1), False), ("bar", at(1), False), ("revision", at(0), False),
        ("removed", at(0), False),
    ]  # fmt: skip
    assert got[2].close == Decimal("1.000000000000000001")
    assert got[0] == Bar(symbol="BTCUSD", interval="1m", kind="history", bucket=at(0), open=Decimal("1.5"),
                         high=Decimal(2), low=Decimal(1), close=Decimal("1.25"), volume=Decimal(7), closed=True,
                         first=True)  # fmt: skip
    assert (got[4].close, got[4].end, got[4].rev) == (None, at(2), 5)


def test_a_cut_goes_on_where_it_was(bars: Callable[..., list[Bar]]) -> None:
    first = says({"type": "bars", "bars": [bar(0)], "event": "a"}, {"type": "bar", "bar": bar(1), "event": "b"})
    with scripted(first, says(), says({"type": "bar", "bar": bar(2), "event": "c"}, stay=True)) as (url, heard):
        got = bars(url, 3)
    assert [one.bucket for one in got] == [at(0), at(1), at(2)]
    assert [one.first for one in got] == [True, False, False]
    assert [wish.get("since") for wish in heard] == [None, "b", "b"]


def test_a_reset_says_that_nothing_before_counts(bars: Callable[..., list[Bar]]) -> None:
    script = says({"type": "bars", "bars": [bar(0)], "event": "a"}, {"type": "reset"})
    again = says({"type": "bars", "bars": [bar(3), bar(4)], "event": "b"}, stay=True)
    with scripted(script, again) as (url, heard):
        got = bars(url, 3)
    assert [(one.bucket, one.first) for one in got] == [(at(0), True), (at(3), True), (at(4), False)]
    assert "since" not in heard[1]


def test_a_reset_is_told_also_where_the_connection_stays(bars: Callable[..., list[Bar]]) -> None:
    script = says(
        {"type": "bars", "bars": [bar(0)], "event": "a"}, {"type": "reset"},
        {"type": "bars", "bars": [bar(3), bar(4)], "event": "b"}, stay=True,
    )  # fmt: skip
    with scripted(script) as (url, _):
        got = bars(url, 3)
    assert [(one.bucket, one.first) for one in got] == [(at(0), True), (at(3), True), (at(4), False)]


def test_a_silent_connection_is_given_up(bars: Callable[..., list[Bar]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("barwright.client.clients.SILENCE", 0.2)
    first = says({"type": "bars", "bars": [bar(0)], "event": "a"}, stay=True)
    with scripted(first, says({"type": "bar", "bar": bar(1), "event": "b"}, stay=True)) as (url, heard):
        assert [one.bucket for one in bars(url, 2)] == [at(0), at(1)]
    assert heard[1]["since"] == "a"


def test_a_refused_subscription(bars: Callable[..., list[Bar]]) -> None:
    refused = {"type": "error", "code": "unknown_symbol", "message": "There is no symbol BTCUSD.",
               "details": {"symbol": "BTCUSD"}, "hint": "GET /v1/symbols lists them."}  # fmt: skip
    with scripted(says(refused, stay=True)) as (url, _), pytest.raises(NotFoundError, match="no symbol BTCUSD") as told:
        bars(url, 1)
    assert told.value.details == {"symbol": "BTCUSD"}


def test_what_is_away_for_now_is_asked_again(bars: Callable[..., list[Bar]]) -> None:
    away = {"type": "error", "code": "database_unavailable", "message": "The database cannot be reached."}
    again = says({"type": "bars", "bars": [bar(0)], "event": "a"}, stay=True)
    with scripted(says(away, stay=True), again) as (url, heard):
        assert [one.bucket for one in bars(url, 1)] == [at(0)]
    assert len(heard) == 2


def test_a_refused_handshake(bars: Callable[..., list[Bar]]) -> None:
    def refuse(socket: ServerConnection, _: Any) -> Any:
        return socket.respond(401, '{"code":"unauthorized","message":"A key is needed.","details":{},"hint":""}')

    with scripted(process_request=refuse) as (url, _), pytest.raises(NoAccessError):
        bars(url, 1)


def test_the_pause_between_attempts_grows_and_ends() -> None:
    state = following.following("A", "1m", None)
    assert [state.pause() for _ in range(8)] == [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0]
    list(state.take('{"type":"live","id":"0","event":"x"}'))
    assert state.pause() == 0.1
