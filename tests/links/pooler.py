"""PgBouncer, Debian's, in transaction mode before an embedded PostgreSQL."""

from pathlib import Path

import pytest

from barwright.embedded import unprivileged
from barwright.embedded.ports import LOOPBACK, free_port
from barwright.embedded.process import Child
from barwright.embedded.service import Service
from tests import services


class PgBouncer(Service):
    """A pooler of few connections. It knows users by a file; `settings` go to its own section."""

    name = "pgbouncer"

    def __init__(self, home: Path, server: str, users: dict[str, str], **settings: str) -> None:
        super().__init__(home, free_port())
        self.server, self.users, self.settings = server, users, settings
        self.child = Child(self.directory, self.log, "pgbouncer")
        if not services.found("pgbouncer"):
            pytest.skip("no program pgbouncer: apt-get install pgbouncer")

    def missing(self) -> list[str]:
        """See Service."""
        return [] if services.found("pgbouncer") else ["pgbouncer"]

    @property
    def url(self) -> str:
        """The address."""
        return self.address

    def prepare(self) -> None:
        """Write its configuration."""
        host, port = self.server.rsplit(":", 1)
        settings = {
            "listen_addr": LOOPBACK, "listen_port": str(self.port), "unix_socket_dir": "", "auth_type": "scram-sha-256",
            "auth_file": str(self.directory / "users.txt"), "pool_mode": "transaction", "default_pool_size": "4",
            "max_client_conn": "500", **self.settings,
        }  # fmt: skip
        section = "".join(f"{name} = {value}\n" for name, value in settings.items())
        (self.directory / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={host} port={port}\n\n[pgbouncer]\n{section}"
        )
        users = "".join(f'"{name}" "{password}"\n' for name, password in self.users.items())
        (self.directory / "users.txt").write_text(users)
        unprivileged.give(self.directory)

    def command(self) -> list[str | Path]:
        """See Service."""
        program = services.found("pgbouncer")
        assert program is not None
        return [*(unprivileged.prefix() or []), program, "pgbouncer.ini"]
