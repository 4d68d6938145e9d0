"""A standby of a PostgreSQL of the tests' own: real streaming replication, whose replay can be held up."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

from barwright.embedded import unprivileged
from barwright.embedded.postgres import Postgres
from tests import services


class Standby(services.Database):
    """A copy of a primary that follows it."""

    def __init__(self, home: Path, primary: Postgres, **settings: str) -> None:
        # No patience with queries that stand in the way of the log, and no connections that time out by themselves.
        super().__init__(home, **{"max_standby_streaming_delay": "100ms", **settings})
        self.primary = primary

    def prepare(self) -> None:
        """Copy the primary the first time."""
        self.directory.chmod(0o700)
        if not (self.directory / "PG_VERSION").exists():
            shutil.copy(self.primary.directory.parent / "postgres.password", self.directory.parent)
            unprivileged.give(self.directory)
            program = self.program("pg_basebackup")
            assert program is not None
            command = [*(unprivileged.prefix() or []), program, "-D", self.directory, "-X", "stream", "-c", "fast"]
            source = self.primary.url_of("postgres")
            subprocess.run([*command, "-R", "-d", source], check=True, capture_output=True)
        self._own()
        self._drop_foreign_lock()

    def pause(self) -> None:
        """Hold up the replay: from now on it is behind."""
        self.ask("select pg_wal_replay_pause()")
        while self.ask("select pg_get_wal_replay_pause_state()") != "paused":
            time.sleep(0.01)

    def resume(self) -> None:
        """Go on."""
        self.ask("select pg_wal_replay_resume()")

    def caught_up(self, seconds: float = 10) -> None:
        """Wait until it has all that the primary has."""
        with psycopg.connect(self.primary.url, autocommit=True) as connection:
            (wanted,) = connection.execute("select pg_current_wal_flush_lsn()").fetchone() or ("",)
        deadline = time.monotonic() + seconds
        while not self.ask(f"select pg_last_wal_replay_lsn() >= '{wanted}'"):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def ask(self, query: Any) -> Any:
        """The one value of a query, asked again where it stood in the way of the log."""
        while True:
            with suppress(psycopg.errors.SerializationFailure), psycopg.connect(self.url, autocommit=True) as asking:
                row = asking.execute(query).fetchone()
                return row and row[0]


@contextmanager
def replicated(home: Path) -> Iterator[tuple[Postgres, Standby]]:
    """A primary and its standby."""
    primary = services.postgres(home / "primary")
    standby = Standby(home / "standby", primary)
    services.demand(primary)
    primary.start()
    try:
        standby.start()
        yield primary, standby
    finally:
        standby.stop()
        primary.stop()
