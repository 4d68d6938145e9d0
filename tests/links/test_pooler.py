"""PgBouncer in transaction mode, few servers for many clients, with and without TLS."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from barwright import migrations, schema, sql
from barwright.errors import BarwrightError
from barwright.ingest.feed.database import Database
from barwright.links.database import demand_sessions
from barwright.settings import Settings
from tests import services
from tests.api.conftest import Api, serving
from tests.api.truth import check
from tests.links.certificates import Authority
from tests.links.pooler import PgBouncer
from tests.services import Server
from tests.sql.market import Market

SERVERS = 4  # connections to the database


def pooler(home: Path, server: Server, **settings: str) -> PgBouncer:
    """A pooler before a server, whose user it knows."""
    at = conninfo_to_dict(server.url)
    user, password = str(at.get("user", "postgres")), str(at.get("password", ""))
    trust = {} if password else {"auth_type": "trust"}
    address = f"{at.get('host', '127.0.0.1')}:{at.get('port', 5432)}"
    return PgBouncer(home, address, {user: password}, default_pool_size=str(SERVERS), **trust, **settings)


def through(bouncer: PgBouncer, url: str, **changed: str) -> str:
    """A DSN by way of the pooler."""
    return make_conninfo(url, **{"host": "127.0.0.1", "port": bouncer.port, **changed})


@pytest.fixture(scope="module")
def bouncer(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PgBouncer]:
    """A pooler as Debian ships it, which refuses what it does not know of a client's start."""
    made = pooler(tmp_path_factory.mktemp("pgbouncer"), postgres)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def dsn(postgres: Server, bouncer: PgBouncer) -> Iterator[str]:
    """A database that was migrated through the pooler; its own address."""
    with services.new_database(postgres.url) as url:
        settings = Settings(database_url=through(bouncer, url), pooler="transaction")
        migrations.upgrade(settings)
        yield url


@pytest.fixture(scope="module")
def m(dsn: str) -> Iterator[Market]:
    """A market of two closed days."""
    with sql.connect(dsn, "test", autocommit=True) as connection:
        made = Market(connection, era=count(1700, 2))
        connection.execute("insert into symbols (symbol) values (%s)", (made.symbol,))
        first = made.at("02-01 00:00")
        made.insert(*(made.trade(first + timedelta(minutes=7 * n), str(100 + n % 17)) for n in range(400)))
        made.seal(made.at("02-03 00:00"))
        yield made


@pytest.fixture(scope="module")
def api(dsn: str, bouncer: PgBouncer, valkey: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API through the pooler."""
    log = tmp_path_factory.mktemp("api") / "serve.log"
    with serving(through(bouncer, dsn), valkey.url, log, BARWRIGHT_POOLER="transaction") as running:
        yield running


def test_bars_through_a_pooler_equal_the_oracle(api: Api, m: Market) -> None:
    check(api, m)
    m.insert(m.trade("02-01 03:00:30", "999"))
    m.repair()
    check(api, m)


@pytest.mark.slow
def test_many_requests_share_few_servers(api: Api, m: Market, dsn: str) -> None:
    found: list[int] = []
    most, over = 0, threading.Event()

    def ask(n: int) -> None:
        with httpx.Client(base_url=api.client.base_url, timeout=20) as client:
            for k in range(15):
                # Latest bars are never from a cache.
                params = {"symbol": m.symbol, "interval": f"{1 + (n + k) % 7}h"}
                found.append(client.get("/v1/bars/latest", params=params).status_code)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    with psycopg.connect(dsn, autocommit=True) as connection:
        while any(thread.is_alive() for thread in threads):
            [(now,)] = connection.execute(
                "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() "
                "and application_name like 'barwright serve%'"
            ).fetchall()
            most = max(most, now)
            over.wait(0.02)
    assert (set(found), len(found)) == ({200}, 300)
    assert 0 < most <= SERVERS


@pytest.mark.slow
def test_registering_and_feeding_go_through_it(api: Api, dsn: str, bouncer: PgBouncer) -> None:
    answer = api.client.put("/v1/symbols/ADAUSD", json={"source": "simulator", "start": "2026-01-01"})
    assert answer.status_code == 201, answer.text

    async def followed() -> list[Any]:
        database = Database(Settings(database_url=through(bouncer, dsn), pooler="transaction"))
        await database.open()
        try:
            found = [await database.rows("followed", sources=["simulator"]) for _ in range(12)]
            async with database.transaction() as connection:
                await connection.execute("select 1")
            return found
        finally:
            await database.close()

    assert {row[0] for rows in asyncio.run(followed()) for row in rows} == {"ADAUSD"}
    environment = {**os.environ, "DATABASE_URL": through(bouncer, dsn), "BARWRIGHT_POOLER": "transaction"}
    command = [sys.executable, "-m", "barwright", "symbol", "list", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert "ADAUSD" in done.stdout, done.stderr


def test_a_pooler_that_nobody_told_of_is_named(dsn: str, bouncer: PgBouncer) -> None:
    with pytest.raises(BarwrightError, match="Set BARWRIGHT_POOLER=transaction"):
        schema.demand(Settings(database_url=through(bouncer, dsn)))
    schema.demand(Settings(database_url=through(bouncer, dsn), pooler="transaction"))


@pytest.mark.parametrize("role", ["ingest", "maintain"])
def test_roles_that_need_sessions_say_so(role: str) -> None:
    with pytest.raises(BarwrightError, match=f"{role} keeps locks"):
        demand_sessions(Settings(pooler="transaction"), role)
    demand_sessions(Settings(), role)


@pytest.mark.slow
def test_tls_to_the_database(
    postgres: Server, dsn: str, valkey: Server, tmp_path: Path, authority: Authority, stranger: Authority, m: Market
) -> None:
    """libpq's own parameters; the embedded PostgreSQL has no TLS, PgBouncer stands in for it."""
    certificate, key = authority.issue("pgbouncer", "subjectAltName=DNS:localhost")
    tls = {"client_tls_sslmode": "require", "client_tls_cert_file": str(certificate), "client_tls_key_file": str(key)}
    safe = pooler(tmp_path, postgres, **tls)
    for file in (certificate, key):
        file.chmod(0o644)
    safe.start()
    try:
        checked = {"sslmode": "verify-full", "sslrootcert": str(authority.ca), "host": "localhost"}
        good = through(safe, dsn, **checked)
        with serving(good, valkey.url, tmp_path / "serve.log", BARWRIGHT_POOLER="transaction") as api:
            check(api, m)
        for wrong in (
            {"sslrootcert": str(stranger.ca)},  # signed by another
            {"host": "127.0.0.1"},  # not the name in the certificate
            {"sslmode": "disable"},
        ):
            with pytest.raises(psycopg.OperationalError, match=r"certificate|SSL"):
                sql.connect(through(safe, dsn, **{**checked, **wrong}), "test", pooled=True).close()
    finally:
        safe.stop()
