"""Keys, cookies and origins on what stays open: WebSockets and event streams."""

import json
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.api.conftest import Api, serving
from tests.api.keys import bearer, make, revoke
from tests.services import Server

QUERY = "symbol=KNOWN&interval=1m"
Connection = psycopg.Connection[Any]


@pytest.fixture(scope="module", autouse=True)
def known(connection: Connection) -> None:
    connection.execute("insert into symbols (symbol) values ('KNOWN') on conflict do nothing")


@pytest.fixture(scope="module")
def locked(dsn: str, valkey: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API that asks for keys."""
    log = tmp_path_factory.mktemp("locked") / "serve.log"
    with serving(dsn, valkey.url, log, BARWRIGHT_KEYS="on", BARWRIGHT_CORS_ORIGINS="https://mine.example") as api:
        yield api


def opened(api: Api, query: str = "", **headers: str) -> ClientConnection:
    """A socket; InvalidStatus where the handshake is refused."""
    url = f"ws://{api.client.base_url.host}:{api.client.base_url.port}/v1/stream?{query}"
    return connect(url, additional_headers=headers, open_timeout=5)


def heard(socket: ClientConnection, kind: str, seconds: float = 5) -> dict[str, Any]:
    """The next message of a kind."""
    deadline = time.monotonic() + seconds
    while True:
        message: dict[str, Any] = json.loads(socket.recv(timeout=max(0.01, deadline - time.monotonic())))
        if message["type"] == kind:
            return message


def test_a_socket_opens_by_header_by_cookie_and_by_its_first_message(locked: Api, connection: Connection) -> None:
    key = make(connection)
    for headers in (bearer(key), {"X-API-Key": key}, {"Cookie": f"a=b; barwright={key}"}):
        with opened(locked, QUERY, **headers) as socket:
            heard(socket, "live")
    with opened(locked) as socket:
        socket.send(json.dumps({"op": "subscribe", "id": "a", "symbol": "KNOWN", "interval": "1m"}))
        assert heard(socket, "error")["code"] == "unauthorized"
        socket.send(json.dumps({"op": "auth", "key": "bw_aaaaaaaa_" + "A" * 43}))
        assert heard(socket, "error")["code"] == "unauthorized"
        socket.send(json.dumps({"op": "auth", "key": key}))
        heard(socket, "auth")
        socket.send(json.dumps({"op": "subscribe", "id": "a", "symbol": "KNOWN", "interval": "1m"}))
        assert heard(socket, "live")["id"] == "a"


def test_a_wrong_key_is_refused_in_the_handshake(locked: Api) -> None:
    with pytest.raises(InvalidStatus) as caught:
        opened(locked, **bearer("bw_aaaaaaaa_" + "A" * 43))
    assert caught.value.response.status_code == 401
    assert json.loads(caught.value.response.body)["code"] == "unauthorized"


def test_pages_elsewhere_open_no_socket(locked: Api, api: Api, connection: Connection) -> None:
    key = make(connection)
    own = f"http://{locked.client.base_url.host}:{locked.client.base_url.port}"
    for origin in (own, "https://mine.example"):
        with opened(locked, QUERY, Origin=origin, Cookie=f"barwright={key}") as socket:
            heard(socket, "live")
    refused = [(locked, "https://evil.example"), (locked, "null"), (locked, "http://localhost:3000"),
               (api, "https://evil.example")]  # fmt: skip
    for where, origin in refused:
        with pytest.raises(InvalidStatus) as caught:
            opened(where, QUERY, Origin=origin, Cookie=f"barwright={key}")
        assert caught.value.response.status_code == 403
    with opened(api, QUERY, Origin="http://localhost:3000") as socket:
        heard(socket, "live")
    with pytest.raises(InvalidStatus) as caught:
        opened(api, QUERY, Host="evil.example")
    assert caught.value.response.status_code == 421


def test_what_is_open_ends_with_its_key_or_without_one(locked: Api, connection: Connection) -> None:
    key, late, other = make(connection), make(connection), make(connection)
    with (
        opened(locked, QUERY, **bearer(key)) as first,
        opened(locked) as second,
        opened(locked, QUERY, **bearer(other)) as third,
        opened(locked) as keyless,
        locked.client.stream("GET", f"/v1/stream?{QUERY}", headers=bearer(key)) as events,
    ):
        second.send(json.dumps({"op": "auth", "key": late}))
        heard(second, "auth")
        heard(third, "live")
        assert events.status_code == 200
        revoke(connection, key)
        revoke(connection, late)
        began = time.monotonic()
        for _ in events.iter_bytes():
            pass
        for socket in (first, second, keyless):
            with pytest.raises(ConnectionClosed) as caught:
                heard(socket, "nothing", 8)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1008
        assert time.monotonic() - began < 7
        third.send(json.dumps({"op": "ping"}))
        heard(third, "pong")
    assert locked.client.get(f"/v1/stream?{QUERY}", headers=bearer(key)).status_code == 401


def test_head_of_a_stream_ends_at_once(locked: Api, connection: Connection) -> None:
    answer = locked.client.head(f"/v1/stream?{QUERY}", headers=bearer(make(connection)))
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")
