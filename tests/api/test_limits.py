"""Limits: points a minute, shared by processes, told in headers; none waits for Redis."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from barwright.api.access import Access
from barwright.api.access.limits import POINT, WINDOW, Account, Limiter, charge, network, spend
from barwright.api.errors import ApiError
from barwright.api.shared import Shared
from barwright.embedded.valkey import Valkey
from barwright.settings import Settings
from tests import services
from tests.api.conftest import Api, eventually, serving
from tests.api.keys import bearer, make
from tests.services import Server

PATH = "/v1/bars?symbol=KNOWN&interval=1m&limit="
Clock = Callable[[float], None]


@pytest.fixture(scope="module", autouse=True)
def known(connection: psycopg.Connection[Any]) -> None:
    connection.execute("insert into symbols (symbol) values ('KNOWN') on conflict do nothing")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Sets the time; minutes begin at multiples of 60."""
    monkeypatch.setattr(time, "time", lambda: 0.0)
    return lambda now: monkeypatch.setattr(time, "time", lambda: now)


def test_the_count_slides(clock: Clock) -> None:
    clock(6000)
    account = Account("a", 10)
    for _ in range(10):
        account.charge(POINT)
    with pytest.raises(ApiError) as caught:
        account.charge(POINT)
    assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "60"})
    clock(6059)
    with pytest.raises(ApiError) as caught:
        account.charge(POINT)
    assert caught.value.headers == {"Retry-After": "1"}
    clock(6066)  # a tenth of the minute before has left
    account.charge(POINT)
    with pytest.raises(ApiError) as caught:
        account.charge(POINT)
    assert caught.value.headers == {"Retry-After": "1"} or account.used(6066) >= account.limit
    clock(6180)
    assert account.used(6180) == 0


def test_what_may_begin_may_end_and_is_felt_afterwards(clock: Clock) -> None:
    clock(6000)
    account = Account("a", 10)
    scope = {"barwright.account": account}
    charge(scope, 9 * POINT)
    spend(scope, 100 * POINT)
    with pytest.raises(ApiError) as caught:
        charge(scope, 1)
    assert caught.value.headers == {"Retry-After": str(60 + 55)}  # 109 fade to 10 after 55 of 60 seconds
    charge({}, 10**9)
    spend({}, 10**9)


@given(
    limit=st.integers(1, 100), before=st.integers(0, 500_000), now=st.integers(0, 500_000), into=st.floats(0, 59.99),
)  # fmt: skip
def test_whoever_waits_as_long_as_told_is_let_in(limit: int, before: int, now: int, into: float) -> None:
    account = Account("a", limit)
    account.minute, account.before, account.others = 100, before, now
    start = 100 * WINDOW + into
    if account.used(start) < account.limit:
        return
    wait = account.wait(start)
    assert wait >= 1
    assert account.used(start + wait) < account.limit


def test_addresses() -> None:
    assert network(("192.0.2.1", 5)) == "192.0.2.1"
    assert network(("::ffff:192.0.2.1", 5)) == "192.0.2.1"
    assert network(("2001:db8:1:2:3::4", 5)) == network(("2001:db8:1:2::9", 7))
    assert network(("2001:db8:1:2::", 5)) != network(("2001:db8:1:3::", 5))
    assert network(None) == "unknown"


def test_accounts_are_bounded_and_keys_have_their_own() -> None:
    limiter = Limiter(5, True, Shared(Settings()), lambda: None)
    for n in range(10_100):
        limiter.of(None, (f"host{n}", 1))
    assert len(limiter.accounts) == 10_000
    keys = [limiter.of(Access("a", frozenset(), bytes([n]) * 32), ("h", 1)) for n in (1, 2, 1)]
    assert keys[0] is keys[2]
    assert keys[0] is not keys[1]
    assert Limiter(None, False, Shared(Settings()), lambda: None).of(None, ("h", 1)) is None
    assert Limiter(None, True, Shared(Settings()), lambda: None).points == 6000
    assert Limiter(0, True, Shared(Settings()), lambda: None).points == 0


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A Valkey that may be stopped."""
    server = services.valkey(tmp_path)
    services.demand(server)
    server.start()
    yield server
    server.stop()


def test_headers_tell_and_the_limit_holds(dsn: str, valkey: Server, tmp_path: Path) -> None:
    with serving(dsn, valkey.url, tmp_path / "log", BARWRIGHT_RATE_LIMIT="20") as api:
        first = api.client.get("/v1/symbols")
        assert (first.headers["ratelimit-limit"], first.headers["ratelimit-remaining"]) == ("20", "19")
        assert 1 <= int(first.headers["ratelimit-reset"]) <= 60
        left = 20
        while (answer := api.client.get("/v1/symbols", headers={"Origin": "http://localhost"})).status_code == 200:
            assert int(answer.headers["ratelimit-remaining"]) < left
            left = int(answer.headers["ratelimit-remaining"])
        body = answer.json()
        assert (answer.status_code, body["code"], set(body)) == (
            429, "too_many_requests", {"code", "message", "details", "hint"}
        )  # fmt: skip
        assert 1 <= int(answer.headers["retry-after"]) <= 120
        assert answer.headers["ratelimit-remaining"] == "0"
        assert answer.headers["access-control-allow-origin"] == "http://localhost"
        assert api.client.get("/health/live").status_code == 200
        forged = {"X-Forwarded-For": "192.0.2.7"}  # believed of trusted proxies only
        assert api.client.get("/v1/symbols", headers=forged).status_code == 429


def test_keys_have_limits_of_their_own_and_guessing_is_dear(
    dsn: str, valkey: Server, tmp_path: Path, connection: psycopg.Connection[Any]
) -> None:
    mine, other = make(connection), make(connection)
    given = {"BARWRIGHT_KEYS": "on", "BARWRIGHT_RATE_LIMIT": "100", "BARWRIGHT_TRUSTED_PROXIES": "127.0.0.1"}
    with serving(dsn, valkey.url, tmp_path / "log", **given) as api:
        answers = [api.client.get("/v1/symbols", headers=bearer(mine)) for _ in range(102)]
        assert answers[50].status_code == 200
        assert answers[-1].status_code == 429
        assert api.client.get("/v1/symbols", headers=bearer(other)).headers["ratelimit-remaining"] == "99"
        # From an address of its own: in the shared Redis stands what the tests before have used of 127.0.0.1.
        here = {"X-Forwarded-For": "192.0.2.6"}
        guesses = [api.client.get("/v1/symbols", headers=bearer(f"bw_aaaaaaaa_{n:043}") | here) for n in range(8)]
        assert [guess.status_code for guess in guesses] == [401] * 5 + [429] * 3
        elsewhere = bearer("bw_aaaaaaaa_" + "A" * 43) | {"X-Forwarded-For": "192.0.2.7"}
        assert api.client.get("/v1/symbols", headers=elsewhere).status_code == 401
        assert api.client.get("/v1/symbols", headers=bearer(other)).status_code == 200


def used(api: Api) -> int:
    """The points that count, as the process knows them."""
    return 1000 - int(api.client.get("/v1/status").headers["ratelimit-remaining"])


def test_processes_share_the_count_and_go_on_without_redis(dsn: str, own_valkey: Valkey, tmp_path: Path) -> None:
    limit = {"BARWRIGHT_RATE_LIMIT": "1000"}
    with (
        serving(dsn, own_valkey.url, tmp_path / "a", **limit) as first,
        serving(dsn, own_valkey.url, tmp_path / "b", **limit) as second,
    ):
        for _ in range(60):
            first.client.get("/v1/symbols")

        def shared() -> None:
            assert used(second) > 60

        eventually(shared, 5)
        own_valkey.stop()
        for _ in range(10):
            began = time.monotonic()
            assert second.client.get("/v1/symbols").status_code == 200
            assert time.monotonic() - began < 0.5
        alone = used(second)
        own_valkey.start()

        def more() -> None:
            assert used(first) > alone

        first.client.get("/v1/symbols")
        eventually(more, 15)
