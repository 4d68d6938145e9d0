"""Keys, sessions, hosts, origins and sizes, as clients meet them; and what HEAD and gzip leave of an answer."""

import asyncio
import gzip
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from barwright.api.access import keys
from barwright.api.access.keys import Keys
from barwright.api.access.limits import Limiter
from barwright.api.access.origins import Origins
from barwright.api.access.policy import required
from barwright.api.access.token import KEY, fresh
from barwright.api.errors import ApiError, unavailable
from barwright.api.shared import Shared
from barwright.settings import Settings
from tests.api.conftest import Api, eventually, serving
from tests.api.keys import bearer, make, revoke
from tests.services import Server
from tests.sql.market import Market

Connection = psycopg.Connection[Any]
BARS = "/v1/bars?symbol=KNOWN&interval=1m"
PATHS = [BARS, "/v1/bars/latest?symbol=KNOWN", "/v1/symbols", "/v1/symbols/KNOWN", "/v1/status", "/v1/gaps",
         "/v1/backfills", "/metrics", "/schema", "/nowhere", "/", "/udf/config"]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def known(connection: Connection) -> None:
    connection.execute("insert into symbols (symbol) values ('KNOWN') on conflict do nothing")


@pytest.fixture(scope="module")
def locked(dsn: str, valkey: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API that asks for keys; its log holds none."""
    log = tmp_path_factory.mktemp("locked") / "serve.log"
    with serving(dsn, valkey.url, log, BARWRIGHT_KEYS="on", BARWRIGHT_RATE_LIMIT="0") as api:
        yield api
    said = [line for line in log.read_text().splitlines() if not line.startswith("Log in, once")]
    assert not KEY.search("\n".join(said))


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The body of a refusal."""
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    words = set(body) - {"s", "errmsg"}  # UDF has its own, too
    assert (words, body["code"]) == ({"code", "message", "details", "hint"}, code)
    return body


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_told_without_a_key(locked: Api, path: str) -> None:
    answer = locked.client.get(path)
    assert "barwright key link" in refused(answer, 401, "unauthorized")["hint"]
    assert answer.headers["www-authenticate"] == "Bearer"


def test_probes_need_no_key(locked: Api) -> None:
    assert locked.get("/health/live").status_code == 200
    assert locked.get("/health/ready").status_code == 200


def test_a_key_opens_by_either_header(locked: Api, connection: Connection) -> None:
    key = make(connection)
    assert locked.client.get(BARS, headers=bearer(key)).status_code == 200
    assert locked.client.get(BARS, headers={"X-API-Key": key}).status_code == 200
    assert locked.client.get(BARS, headers={"Authorization": f"bearer  {key}"}).status_code == 200
    assert locked.client.get(f"{BARS}&key={key}", headers=bearer(key)).json()["code"] == "unknown_parameter"
    refused(locked.client.get(f"{BARS}&key={key}"), 401, "unauthorized")


@pytest.mark.parametrize("key", ["x", "bw_aaaaaaaa_" + "A" * 43, "ä" * 40, "Basic dXNlcjpw"])
def test_what_is_no_key_opens_nothing(locked: Api, key: str) -> None:
    for headers in ({b"Authorization": b"Bearer " + key.encode()}, {b"X-API-Key": key.encode()},
                    {b"Cookie": b"barwright=" + key.encode()}):  # fmt: skip
        refused(locked.client.get(BARS, headers=headers), 401, "unauthorized")


def test_scopes(locked: Api, connection: Connection) -> None:
    body = {"source": "kafka", "start": "2024-01-01"}
    reads, writes, rules = (bearer(make(connection, scope)) for scope in ("read", "write", "admin"))
    assert "write" in refused(locked.client.put("/v1/symbols/W", json=body, headers=reads), 403, "forbidden")["hint"]
    assert locked.client.put("/v1/symbols/W", json=body, headers=writes).status_code == 201
    assert locked.client.get("/v1/symbols/W", headers=writes).status_code == 200
    refused(locked.client.delete("/v1/symbols/W", headers=reads), 403, "forbidden")
    assert locked.client.delete("/v1/symbols/W", headers=writes).status_code == 200
    refused(locked.client.delete("/v1/symbols/W?purge=true", headers=writes), 403, "forbidden")
    assert locked.client.delete("/v1/symbols/W?purge=true", headers=rules).status_code == 204


def test_a_revoked_key_opens_nothing_within_seconds(locked: Api, connection: Connection) -> None:
    old, new = make(connection), make(connection)
    assert locked.client.get(BARS, headers=bearer(old)).status_code == 200
    revoke(connection, old)
    deadline = time.monotonic() + 6
    while locked.client.get(BARS, headers=bearer(old)).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    refused(locked.client.get(BARS, headers=bearer(old)), 401, "unauthorized")
    assert locked.client.get(BARS, headers=bearer(new)).status_code == 200


def test_a_key_expires(locked: Api, connection: Connection) -> None:
    key = make(connection, lasts=timedelta(seconds=1))
    assert locked.client.get(BARS, headers=bearer(key)).status_code == 200
    time.sleep(1)
    refused(locked.client.get(BARS, headers=bearer(key)), 401, "unauthorized")


def test_the_link_that_serve_prints_logs_a_browser_in_once(locked: Api) -> None:
    def printed() -> str:
        found = re.search(r"Log in, once.*: (http://\S+)", locked.log.read_text())
        assert found
        return found[1]

    link = eventually(printed, 5)
    browser = httpx.Client(base_url=locked.client.base_url, timeout=20)
    assert browser.head(link).status_code == 200  # a preview does not use it up
    answer = browser.get(link)
    assert answer.status_code == 200
    cookie = answer.headers["set-cookie"]
    assert re.search("HttpOnly", cookie, re.I)
    assert re.search("SameSite=Strict", cookie, re.I)
    assert "no-referrer" in answer.headers["referrer-policy"]
    assert browser.get(BARS).status_code == 200
    assert browser.put("/v1/symbols/P", json={"source": "kafka", "start": "2024-01-01"}).status_code == 201
    assert httpx.get(link).status_code == 401
    browser.cookies.clear()
    assert browser.get(BARS).status_code == 401
    browser.close()


def test_a_link_is_no_key_and_a_key_no_link(locked: Api, connection: Connection) -> None:
    link = make(connection, kind="link", lasts=timedelta(minutes=15))
    refused(locked.client.get(BARS, headers=bearer(link)), 401, "unauthorized")
    assert locked.client.get(f"/login/{make(connection)}").status_code == 401
    assert locked.client.get("/login/nonsense").status_code == 401
    old = make(connection, kind="link", lasts=timedelta(seconds=-1))
    assert locked.client.get(f"/login/{old}").status_code == 401


def test_people_are_told_how_to_log_in(locked: Api) -> None:
    answer = locked.client.get("/", headers={"Accept": "text/html,*/*"})
    assert (answer.status_code, answer.headers["content-type"]) == (401, "text/html; charset=utf-8")
    assert "barwright key link" in answer.text


class Answering:
    """A database that answers what it is told to, or is away."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.away = False
        self.asked = self.answered = 0

    async def fetch(self, *_: Any, newest: bool) -> list[Any]:
        """The rows; who may come in is asked of the primary."""
        assert newest
        self.asked += 1
        await asyncio.sleep(0.02)
        self.answered += 1
        if self.away:
            raise unavailable("The database cannot be reached.")
        return self.rows


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> tuple[Keys, Answering]:
    """Keys that are asked for again ten times as soon."""
    for name in ("YOUNG", "OLD", "PATIENCE"):
        monkeypatch.setattr(keys, name, getattr(keys, name) / 10)
    database = Answering()
    limiter = Limiter(0, True, Shared(Settings()), lambda: None)
    return Keys(True, database, limiter), database  # type: ignore[arg-type]


def test_keys_go_on_while_the_database_is_away(quick: tuple[Keys, Answering]) -> None:
    known, database = quick
    key, other = fresh()[0], fresh()[0]

    async def live() -> None:
        database.rows = [(1, "desk", ["read"], None)]
        assert (await known.authenticate(key)).name == "desk"
        database.away = True
        until = time.monotonic() + 1.2
        while time.monotonic() < until:
            began = time.monotonic()
            assert (await known.authenticate(key)).name == "desk"
            assert time.monotonic() - began < 0.1
            await asyncio.sleep(0.02)
        assert 4 <= database.asked <= 10  # now and then, not each time
        with pytest.raises(ApiError) as caught:
            await known.authenticate(other)
        assert caught.value.status == 503
        database.away, database.rows = False, []
        await asyncio.sleep(0.6)
        with suppress(ApiError):
            await known.authenticate(key)
        await asyncio.sleep(0.3)
        with pytest.raises(ApiError) as caught:
            await known.authenticate(key)
        assert caught.value.status == 401

    asyncio.run(live())


def test_a_key_is_looked_up_once_for_all_who_ask(quick: tuple[Keys, Answering]) -> None:
    known, database = quick
    key = fresh()[0]

    async def live() -> None:
        database.rows = [(1, "desk", ["read"], None)]
        await asyncio.gather(*(known.authenticate(key) for _ in range(50)))
        assert database.asked == 1
        await asyncio.sleep(0.3)  # older than YOUNG: nobody waits for the next look
        await asyncio.gather(*(known.authenticate(key) for _ in range(50)))
        assert database.answered == 1
        await asyncio.sleep(0.1)
        assert database.asked == 2
        database.rows = [(1, "desk", ["read"], time.time() - 1)]
        await asyncio.sleep(0.6)
        with pytest.raises(ApiError):
            await known.authenticate(key)

    asyncio.run(live())


@pytest.mark.parametrize("role", ["serve", "run"])
def test_without_keys_only_this_machine_may_ask(role: str, dsn: str, valkey: Server, tmp_path: Path) -> None:
    env = {**os.environ, "DATABASE_URL": dsn, "REDIS_URL": valkey.url, "BARWRIGHT_HOME": str(tmp_path),
           "BARWRIGHT_HOST": "0.0.0.0", "BARWRIGHT_KEYS": "off"}  # fmt: skip
    done = subprocess.run([sys.executable, "-m", "barwright", role], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "BARWRIGHT_KEYS=off, but BARWRIGHT_HOST=0.0.0.0 can be reached" in done.stderr


@pytest.mark.parametrize(
    ("host", "keys", "needed"),
    [("127.0.0.1", "auto", False), ("127.0.0.2", "auto", False), ("::1", "auto", False), ("localhost", "off", False),
     ("127.0.0.1", "on", True), ("0.0.0.0", "auto", True), ("10.0.0.1", "auto", True), ("bars.example", "auto", True)],
)  # fmt: skip
def test_when_keys_are_needed(host: str, keys: Any, needed: bool) -> None:
    assert required(Settings(host=host, keys=keys)) is needed


def raw(api: Api, request: bytes, packets: int = 1000) -> bytes:
    """What is answered to some bytes, at most so many packets of it."""
    host, port = api.client.base_url.host, api.client.base_url.port
    with socket.create_connection((host, port or 80), timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while packets and (part := connection.recv(65536)):
            answer, packets = answer + part, packets - 1
    return answer


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost", True), ("localhost:9", True), ("127.0.0.1", True), ("10.1.2.3:80", True), ("[::1]:8000", True),
        ("a.localhost", True), ("evil.example", False), ("127.0.0.1.evil.example", False), ("", False),
        ("localhost.evil.example:8000", False), ("[::1", True), ("ä", False),
    ],
)  # fmt: skip
def test_names_that_are_not_ours(api: Api, host: str, known: bool) -> None:
    answer = api.client.get("/health/live", headers={b"Host": host.encode()})
    if known:
        assert answer.status_code == 200
    else:
        refused(answer, 421, "unknown_host")


def origins(**given: str) -> Origins:
    """Those of an API with some settings."""
    return Origins(Settings.model_validate(given), keys=True)


def test_names_by_setting() -> None:
    known = origins(allowed_hosts="Bars.example.com, *.example.org", host="10.0.0.1")
    for name in (b"bars.example.com", b"BARS.example.com:80", b"a.b.example.org:443", socket.gethostname().encode()):
        assert known.knows(name)
    for name in (b"example.com", b"badexample.org", b"xbars.example.com"):
        assert not known.knows(name)
    assert origins(allowed_hosts="*").knows(b"anything.at.all")


LOCAL, FOREIGN = "http://localhost:3000", "https://evil.example"


def test_pages_of_this_machine_may_read_while_keys_are_off(api: Api) -> None:
    for origin in (LOCAL, "http://127.0.0.1:5173", "https://localhost", "http://[::1]:80"):
        answer = api.get("/v1/symbols", headers={"Origin": origin})
        assert answer.headers["access-control-allow-origin"] == origin
        exposed = answer.headers["access-control-expose-headers"]
        assert {"ETag", "Retry-After", "RateLimit-Remaining"} <= set(exposed.split(", "))
        assert "Origin" in answer.headers["vary"]
        missing = api.get("/v1/symbols/NOPE", headers={"Origin": origin})
        assert missing.headers["access-control-allow-origin"] == origin
    for origin in (FOREIGN, "null", "http://localhost.evil.example", "ftp://localhost"):
        assert "access-control-allow-origin" not in api.get("/v1/symbols", headers={"Origin": origin}).headers


def preflight(api: Api, origin: str, method: str) -> httpx.Response:
    """What a browser asks before it lets a page ask."""
    headers = {"Origin": origin, "Access-Control-Request-Method": method}
    return api.client.options("/v1/symbols/KNOWN", headers=headers)


def test_pages_elsewhere_change_nothing(api: Api) -> None:
    assert preflight(api, LOCAL, "GET").headers["access-control-allow-methods"] == "GET, HEAD"
    refused(preflight(api, FOREIGN, "GET"), 403, "forbidden")
    for origin in (LOCAL, FOREIGN, "null"):
        refused(api.client.delete("/v1/symbols/KNOWN", headers={"Origin": origin}), 403, "forbidden")
    own = f"http://{api.client.base_url.host}:{api.client.base_url.port}"
    assert api.client.delete("/v1/symbols/KNOWN", headers={"Origin": own}).status_code == 200


def test_origins_by_setting(dsn: str, valkey: Server, tmp_path: Path, connection: Connection) -> None:
    page = "https://charts.example.com"
    with serving(dsn, valkey.url, tmp_path / "log", BARWRIGHT_KEYS="on", BARWRIGHT_CORS_ORIGINS=page) as api:
        first = preflight(api, page, "PUT")
        assert (first.status_code, first.headers["access-control-allow-origin"]) == (204, page)
        assert "PUT" in first.headers["access-control-allow-methods"]
        assert "Authorization" in first.headers["access-control-allow-headers"]
        headers = {"Origin": page, **bearer(make(connection, "write"))}
        body = {"source": "kafka", "start": "2024-01-01"}
        assert api.client.put("/v1/symbols/CORS", json=body, headers=headers).status_code == 201
        refused(preflight(api, LOCAL, "GET"), 403, "forbidden")
        answer = api.client.get("/v1/symbols", headers={"Origin": page})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, page)
    anyone = origins(cors_origins="*")
    assert anyone.reads(FOREIGN.encode())
    assert not anyone.writes(FOREIGN.encode(), b"localhost")
    assert anyone.headers(FOREIGN.encode())[0] == (b"access-control-allow-origin", b"*")


def test_sizes(api: Api) -> None:
    refused(api.client.get(f"{BARS}&cursor={'x' * 8300}"), 414, "url_too_long")
    refused(api.client.get(f"/v1/symbols/{'x' * 8300}"), 414, "url_too_long")
    assert api.client.get(f"{BARS}&cursor={'x' * 7000}").status_code == 400
    refused(api.client.put("/v1/symbols/BIG", content=b"x" * 70_000), 413, "too_large")
    early = b"GET /v1/symbols HTTP/1.1\r\nHost: a.localhost\r\nConnection: close\r\nContent-Length: 70000\r\n\r\n"
    assert raw(api, early).startswith(b"HTTP/1.1 413 ")

    def chunks() -> Iterator[bytes]:
        yield from (b" " * 10_000 for _ in range(8))

    refused(api.client.put("/v1/symbols/BIG", content=chunks()), 413, "too_large")


def test_what_stands_before_the_body_has_a_limit(api: Api) -> None:
    endless = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: " + b"x" * 600_000
    assert raw(api, endless, 1).startswith(b"HTTP/1.1 431 ")
    assert raw(api, b"GET /" + b"x" * 600_000, 1).startswith(b"HTTP/1.1 431 ")
    assert b'"code":"bad_request"' in raw(api, b"NO HTTP\r\n\r\n")
    twice = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"x" * 20_000 + b"\r\n\r\n"
    assert (
        raw(api, twice * 20 + b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").count(b" 200 ")
        == 20
    )


SPAN = f"{BARS}&start=2019-01-01&end=2019-01-02"


@pytest.mark.parametrize("path", [SPAN, f"{SPAN}&format=csv", "/v1/symbols", "/v1/symbols/NOPE", "/health/live",
                                  "/metrics", "/v1/status", "/schema", "/nowhere", SPAN + "&wait=1"])  # fmt: skip
def test_head_is_get_without_a_body(api: Api, path: str) -> None:
    got, head = api.client.get(path), api.client.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    for name in ("content-type", "etag", "cache-control"):
        assert head.headers.get(name) == got.headers.get(name)
    if path not in ("/metrics", "/v1/status"):
        assert head.headers.get("content-length") == got.headers.get("content-length")
    assert api.client.head("/v1/symbols").status_code == 200  # the connection is as good as before


def test_head_of_a_long_export_sends_nothing_and_ends(
    api: Api, connection: Connection, new: Callable[..., Market]
) -> None:
    market = new()
    span = {"lo": market.start, "hi": market.start + timedelta(days=18), "symbol": market.symbol}
    connection.execute("select prepare_ticks(array(select generate_series(%(lo)s, %(hi)s, interval '1 day')))", span)
    connection.execute(
        "insert into ticks (symbol, ts, seq, price, size) select %(symbol)s, ts, 1, 1, 1 "
        "from generate_series(%(lo)s, %(hi)s, interval '1 minute') as ts",
        span,
    )
    path = f"/v1/bars?symbol={market.symbol}&interval=1m&format=csv&end={market.year + 1}-01-01"
    answer = api.client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/csv")
    _, body = uncompressed(api, path)
    assert body == api.client.get(path, headers={"Accept-Encoding": "identity"}).content
    assert body.count(b"\n") == 18 * 1440 + 2


def uncompressed(api: Api, path: str) -> tuple[httpx.Response, bytes]:
    """A gzipped answer, and what is in it."""
    with api.client.stream("GET", path, headers={"Accept-Encoding": "gzip, br"}) as answer:
        body = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in answer.headers["vary"]
    return answer, gzip.decompress(body)


@pytest.mark.parametrize("path", ["/schema/openapi.json", "/metrics", f"{BARS}&format=csv&limit=1"])
def test_gzip_when_asked(api: Api, path: str) -> None:
    plain = api.client.get(path, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    packed, body = uncompressed(api, path)
    if path != "/metrics":
        assert body == plain.content
    assert packed.headers["content-type"] == plain.headers["content-type"]
    refusing = api.client.get(path, headers={"Accept-Encoding": "gzip;q=0, identity"})
    assert "content-encoding" not in refusing.headers


def test_gzip_has_an_etag_of_its_own_that_is_recognised(api: Api, connection: Connection) -> None:
    for n in range(20):
        connection.execute("insert into symbols (symbol) values (%s) on conflict do nothing", (f"MANY{n}",))
    plain = api.client.get("/v1/symbols", headers={"Accept-Encoding": "identity"})
    packed, body = uncompressed(api, "/v1/symbols")
    assert body == plain.content
    assert json.loads(body)["symbols"]
    assert packed.headers["etag"] == plain.headers["etag"][:-1] + '-gzip"'
    for tag in (plain.headers["etag"], packed.headers["etag"]):
        again = api.client.get("/v1/symbols", headers={"If-None-Match": tag, "Accept-Encoding": "gzip"})
        assert again.status_code == 304
    small = api.client.get("/health/live", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in small.headers
