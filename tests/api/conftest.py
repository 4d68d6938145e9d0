"""The API as a process of its own, on real servers."""

import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from barwright import migrations, sql
from barwright.embedded.ports import free_port
from barwright.settings import Settings
from tests import services
from tests.services import Server
from tests.sql.market import Market


class Api:
    """`barwright serve` and a client of it, by TLS where it is told whom to trust."""

    def __init__(
        self, database: str, redis: str, log: Path, trusting: ssl.SSLContext | None = None, **settings: str
    ) -> None:
        self.log, wanted = log, settings.get("BARWRIGHT_PORT")
        while True:
            port = int(wanted or free_port())
            env = {**os.environ, "DATABASE_URL": database, "REDIS_URL": redis, "BARWRIGHT_PORT": str(port), **settings}
            with log.open("w") as stderr:
                self.process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "barwright", "serve"], env=env, stderr=stderr
                )
            address = f"{'https' if trusting else 'http'}://127.0.0.1:{port}"
            self.client = httpx.Client(base_url=address, timeout=20, verify=trusting or True)
            try:
                eventually(self._answer, 60, httpx.HTTPError)
                return
            except (httpx.HTTPError, ChildProcessError):
                self.stop()
                # It listens seconds after the port was free: another test's server may have come first.
                if wanted or "Address already in use" not in log.read_text():
                    raise

    def _answer(self) -> None:
        if self.process.poll() is not None:
            raise ChildProcessError(self.log.read_text())
        self.client.get("/health/live").raise_for_status()

    def get(self, path: str, /, headers: dict[str, str] | None = None, **params: Any) -> httpx.Response:
        """One request."""
        return self.client.get(path, params=params, headers=headers)

    def json(self, path: str, /, **params: Any) -> Any:
        """The body of an answer that must be 200, its numbers exact."""
        answer = self.get(path, **params)
        assert answer.status_code == 200, answer.text
        return json.loads(answer.text, parse_float=Decimal, parse_int=Decimal)

    def bars(self, symbol: str, interval: str = "1m", **params: Any) -> list[dict[str, Any]]:
        """The bars of one answer."""
        return list(self.json("/v1/bars", symbol=symbol, interval=interval, **params)["bars"])

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.client.close()
        self.process.terminate()
        return self.process.wait(20)  # 3 s on two cores with forty at work


def eventually(check: Callable[[], Any], seconds: float = 1.0, *errors: type[BaseException]) -> Any:
    """What `check` returns once it does not raise any more; its error after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return check()
        except (AssertionError, *errors):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@contextmanager
def serving(
    database: str, redis: str, log: Path, trusting: ssl.SSLContext | None = None, **settings: str
) -> Iterator[Api]:
    """An API process for a while; it must stop cleanly and have met no unforeseen error."""
    api = Api(database, redis, log, trusting, **settings)
    try:
        yield api
    finally:
        status = api.stop()
    assert status == 0, log.read_text()
    assert "unexpected error" not in log.read_text(), log.read_text()


@pytest.fixture(scope="module")
def dsn(postgres: Server, template: str | None) -> Iterator[str]:
    """A migrated database for a module."""
    with services.new_database(postgres.url, template) as url:
        if template is None:
            migrations.upgrade(Settings(database_url=url))
        with sql.connect(url, "test", autocommit=True) as connection:
            # Copies of one template share an epoch, modules their symbols' names, and all of them one Redis.
            connection.execute("select renew_epoch()")
        yield url


@pytest.fixture(scope="module")
def api(dsn: str, valkey: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API on it."""
    with serving(dsn, valkey.url, tmp_path_factory.mktemp("api") / "serve.log") as running:
        yield running


@pytest.fixture(scope="module")
def connection(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the same database."""
    with sql.connect(dsn, "test", autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def eras() -> Iterator[int]:
    """Markets of this module's database lie in the past, where `now` is after them: 160 of them fit."""
    return count(1700, 2)


@pytest.fixture
def new(connection: psycopg.Connection[Any], eras: Iterator[int]) -> Callable[..., Market]:
    """Makes markets whose symbol is registered, each in years of its own."""

    def make(symbol: str = "", **options: Any) -> Market:
        made = Market(connection, symbol, era=eras, **options)
        connection.execute("insert into symbols (symbol) values (%s) on conflict do nothing", (made.symbol,))
        return made

    return make
