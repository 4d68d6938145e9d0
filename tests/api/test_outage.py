"""The database goes and comes: 503 with Retry-After, never 500, and back by itself."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from barwright import migrations, sql
from barwright.embedded.postgres import Postgres
from barwright.settings import Settings
from tests import services
from tests.api.conftest import Api, eventually, serving
from tests.services import Server

PATHS = ["/v1/bars?symbol=A&interval=1m", "/v1/bars?symbol=A&interval=1h&format=csv", "/v1/bars/latest?symbol=A",
         "/v1/symbols", "/v1/symbols/A", "/v1/status", "/v1/gaps", "/v1/backfills?symbol=A"]  # fmt: skip


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL that may be stopped."""
    server = services.postgres(tmp_path_factory.mktemp("postgres"))
    services.demand(server)
    server.start()
    yield server
    server.stop()


@contextmanager
def database(server: Postgres) -> Iterator[str]:
    """The DSN of a new database; it is left behind, for the server may be down at the end."""
    name = f"outage_{uuid4().hex[:8]}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"create database {name}")
    yield psycopg.conninfo.make_conninfo(server.url, dbname=name)


@pytest.fixture
def api(own_postgres: Postgres, valkey: Server, tmp_path: Path) -> Iterator[Api]:
    with database(own_postgres) as url:
        migrations.upgrade(Settings(database_url=url, engine="postgres"))
        with sql.connect(url, "test", autocommit=True) as connection:
            connection.execute("insert into symbols (symbol) values ('A')")
        with serving(url, valkey.url, tmp_path / "serve.log") as running:
            yield running


def unavailable(api: Api, path: str) -> None:
    """503, in the shape of every error."""
    answer = api.client.get(path)
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) >= 1
    if not path.startswith("/health"):
        assert set(answer.json()) == {"code", "message", "details", "hint"}


def all_unavailable(api: Api, *paths: str) -> None:
    """At the same time: each waits two seconds for the database."""
    with ThreadPoolExecutor(len(paths)) as threads:
        list(threads.map(lambda path: unavailable(api, path), paths))


def test_the_database_stops_and_starts_again(api: Api, own_postgres: Postgres) -> None:
    for path in PATHS:
        assert api.client.get(path).status_code == 200
    seen: Counter[int] = Counter()
    over = threading.Event()
    clients = [threading.Thread(target=_ask, args=(api, seen, over)) for _ in range(8)]
    for client in clients:
        client.start()
    own_postgres.stop()
    try:
        time.sleep(1.2)  # what is cached may be served for a second
        all_unavailable(api, *PATHS, "/health/ready")
        for write in (api.client.put("/v1/symbols/A", json={"source": "kafka", "start": "2020-01-01"}),
                      api.client.delete("/v1/symbols/A")):  # fmt: skip
            assert (write.status_code, write.headers["retry-after"]) == (503, "1")
        assert api.get("/health/live").status_code == 200
        assert api.get("/health/ready").json()["checks"]["database"] == "down"
        time.sleep(3)
    finally:
        own_postgres.start()
    for path in PATHS:
        eventually(lambda path=path: _ok(api, path), 6)
    over.set()
    for client in clients:
        client.join()
    assert set(seen) == {200, 503}
    for path in PATHS * 5:
        _ok(api, path)


def _ok(api: Api, path: str) -> None:
    assert api.client.get(path).status_code == 200


def _ask(api: Api, seen: Counter[int], over: threading.Event) -> None:
    n = 0
    while not over.is_set():
        n += 1
        seen[api.client.get(PATHS[n % len(PATHS)]).status_code] += 1


def test_a_connection_lost_in_the_middle_of_a_query(api: Api, own_postgres: Postgres) -> None:
    seen: Counter[int] = Counter()
    over = threading.Event()
    clients = [threading.Thread(target=_ask, args=(api, seen, over)) for _ in range(4)]
    for client in clients:
        client.start()
    with psycopg.connect(own_postgres.url, autocommit=True) as connection:
        for _ in range(40):
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'barwright serve'"
            )
            time.sleep(0.05)
    over.set()
    for client in clients:
        client.join()
    assert set(seen) <= {200, 503}
    assert seen[200]
    for path in PATHS:
        eventually(lambda path=path: _ok(api, path), 3)


def test_it_starts_before_the_database(own_postgres: Postgres, valkey: Server, tmp_path: Path) -> None:
    with database(own_postgres) as url:
        own_postgres.stop()
        try:
            with serving(url, valkey.url, tmp_path / "serve.log") as api:
                all_unavailable(api, *PATHS)
                own_postgres.start()
                ready: Any = eventually(lambda: _not_migrated(api), 6)
                assert "barwright migrate" in ready["hint"]
                all_unavailable(api, *PATHS)
                migrations.upgrade(Settings(database_url=url, engine="postgres"))
                assert eventually(lambda: api.json("/health/ready"), 6)["status"] == "ready"
                eventually(lambda: _found(api), 3)
        finally:
            if own_postgres.pid is None:
                own_postgres.start()


def _not_migrated(api: Api) -> Any:
    body = api.get("/health/ready").json()
    assert body["checks"] == {"database": "up", "migration": "down", "redis": "up"}
    return body


def _found(api: Api) -> None:
    assert api.get("/v1/bars", symbol="A", interval="1m").status_code == 404


def test_waiting_requests_are_told_to_come_again(api: Api, own_postgres: Postgres) -> None:
    """The pool is held by queries that wait for a lock: others get 503, and all is well afterwards."""
    with psycopg.connect(own_postgres.url, autocommit=True) as connection:
        name = connection.execute(
            "select datname from pg_stat_activity where application_name = 'barwright serve' limit 1"
        ).fetchone()[0]  # type: ignore[index]
    url = psycopg.conninfo.make_conninfo(own_postgres.url, dbname=name)
    with sql.connect(url, "test") as blocker:
        blocker.execute("lock table symbols in access exclusive mode")
        answers = [eventually(lambda: api.client.get("/v1/symbols"), 1) for _ in range(2)]
        assert {answer.status_code for answer in answers} == {503}
        blocker.rollback()
    eventually(lambda: _ok(api, "/v1/symbols"), 3)
