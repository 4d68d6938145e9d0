"""The running `barwright run` of a BARWRIGHT_HOME, as other commands find it."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from barwright.errors import BarwrightError
from barwright.settings import Settings

# libpq's own way to name a server; any of them means the user has one.
_LIBPQ = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGSERVICE")
_SERVERS = ("database_url", "kafka_bootstrap_servers", "redis_url", "simulator_url")


@dataclass(frozen=True)
class Instance:
    """A running instance: its process and where its servers are. An empty database_url means libpq's PG* variables,
    an empty simulator_url that it was started before there was one. `metrics`: each role's listener, host:port."""

    pid: int
    engine: str
    database_url: str
    kafka_bootstrap_servers: str
    redis_url: str
    port: int
    simulator_url: str = ""
    metrics: dict[str, str] = field(default_factory=dict)

    def exports(self) -> dict[str, str]:
        """The environment that attaches a program to it."""
        named = {name.upper(): getattr(self, name) for name in _SERVERS if getattr(self, name)}
        return {**named, "BARWRIGHT_PORT": str(self.port)}


def named(settings: Settings) -> set[str]:
    """Which of the servers the environment names, as settings' names."""
    found = {name for name in _SERVERS if name in settings.model_fields_set and getattr(settings, name)}
    return found | ({"database_url"} if any(os.environ.get(name) for name in _LIBPQ) else set())


def attach(settings: Settings) -> Settings:
    """The settings, with the servers of the instance that runs in their home where the environment names none."""
    running = read(settings.home)
    if running is None:
        return settings
    given = named(settings) | (set() if running.simulator_url else {"simulator_url"})
    return settings.model_copy(update={name: getattr(running, name) for name in _SERVERS if name not in given})


def read(home: Path) -> Instance | None:
    """The instance that runs in a home, None where none does."""
    file = home / "instance.json"
    if not file.exists() or not _is_held(home):
        return None
    return Instance(**json.loads(file.read_text()))


def write(home: Path, instance: Instance) -> None:
    """Tell other commands about this instance."""
    draft = home / "instance.json.new"
    draft.touch(0o600)  # the DSN holds a password
    draft.write_text(json.dumps(asdict(instance), indent=1) + "\n")
    draft.replace(home / "instance.json")


@contextmanager
def hold(home: Path) -> Iterator[None]:
    """Be the one instance of a home. The lock is the system's: it is gone with the process, however that ends.

    Raises BarwrightError when another process holds it.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        # A moment's patience, since _is_held takes the lock for an instant.
        if not _try_for(lock.fileno(), seconds=0.5):
            running = read(home)
            where = f" (process {running.pid}, API on port {running.port})" if running else ""
            raise BarwrightError(
                f"Barwright already runs in {home}{where}.",
                "Stop it, or set BARWRIGHT_HOME to another folder for a second one.",
            )
        (home / "instance.json").unlink(missing_ok=True)
        try:
            yield
        finally:
            (home / "instance.json").unlink(missing_ok=True)


def _is_held(home: Path) -> bool:
    with (home / "lock").open("a") as lock:
        return not _try(lock.fileno())


def _try_for(descriptor: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (held := _try(descriptor)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return held


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
