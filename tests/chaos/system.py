"""Everything that runs: servers of our own, the simulated exchange, two of most roles, started again when they die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from types import TracebackType
from typing import IO, Any, Self
from uuid import uuid4

import httpx
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from barwright import logins, migrations, sql
from barwright.embedded.ports import free_port
from barwright.embedded.service import Service
from barwright.settings import Settings
from barwright.sql.roles import LOGINS
from tests import services

ROLES = ("simulator", "feed", "feed", "ingest", "ingest", "maintain", "maintain", "serve")
# What makes hours of a real life fit into minutes: minutes reach two days back, corrections come every 18 seconds.
SCALE = {
    "BARWRIGHT_SIMULATOR_MINUTE_DAYS": "2",
    "BARWRIGHT_SIMULATOR_MARKET_RATE": "2",
    "BARWRIGHT_SIMULATOR_HEARTBEAT": "2",
    "BARWRIGHT_HEARTBEAT": "2",
    "BARWRIGHT_CORRECTION_HOURS": "0.005",
    "BARWRIGHT_TOPIC_QUIET": "10",
    "BARWRIGHT_LOG_FORMAT": "json",
}


class Role:
    """One role's process, started again at once when it ends."""

    def __init__(self, name: str, number: int, environment: dict[str, str], log: Path) -> None:
        self.name, self.environment = name, environment
        self.log: IO[bytes] = log.joinpath(f"{name}-{number}.log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None
        self._one = threading.Lock()
        self._over = False

    def start(self) -> None:
        """Start it."""
        command = [sys.executable, "-P", "-m", "barwright", self.name]
        self.process = subprocess.Popen(command, env=self.environment, stdout=self.log, stderr=self.log)

    def tend(self) -> bool:
        """Start it again where it has ended; true then."""
        with self._one:
            if not self._over and self.process and self.process.poll() is not None:
                self.start()
                return True
        return False

    def send(self, signum: int) -> None:
        """A signal to the process, if there is one."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signum)

    def retire(self) -> None:
        """Start it no more when it ends."""
        with self._one:
            self._over = True

    def end(self) -> None:
        """Kill it for good."""
        self.retire()
        if self.process:
            self.send(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
        self.log.close()


class System:
    """The servers and roles of one run, in a directory of its own."""

    def __init__(self, home: Path, seed: int, names: Sequence[str] = ROLES) -> None:
        self.home, self.seed, self.names = home, seed, names
        self.services: dict[str, Service] = {"kafka": services.kafka(home), "valkey": services.valkey(home)}
        self.external = os.environ.get("DATABASE_URL")
        if not self.external:
            self.services["postgres"] = services.postgres(home)
        self.roles: list[Role] = []
        self.deaths = self._made = 0
        self._urls: dict[str, str] = {}
        self._over = threading.Event()
        self._tender = threading.Thread(target=self._tend, name="tender", daemon=True)

    def __enter__(self) -> Self:
        for service in self.services.values():
            services.demand(service)
            service.start()
        self.database_url = self._new_database(self.external or self.services["postgres"].url)
        self.ports = {name: free_port(0) for name in ("simulator", "serve")}
        self.prefix = str(conninfo_to_dict(self.database_url)["dbname"])
        settings = Settings(database_url=self.database_url, role_prefix=self.prefix)
        migrations.upgrade(settings)
        self._urls, obstacles = logins.logins(settings, self.home, LOGINS)
        assert not obstacles, obstacles
        (self.home / "roles").mkdir()
        for name in self.names:
            self.add(name)
        self._tender.start()
        return self

    def add(self, name: str) -> Role:
        """One process more of a role."""
        url = self._urls.get(name)
        environment = self.environment() | self.own(name)
        environment["DATABASE_URL"] = self.way("postgres", url) if url else ""
        self._made += 1
        role = Role(name, self._made, environment, self.home / "roles")
        role.start()
        self.roles.append(role)
        return role

    def own(self, name: str) -> dict[str, str]:
        """What the next process of a role has in its environment besides."""
        return {}

    def way(self, server: str, url: str) -> str:
        """The address by which roles reach a server."""
        return url

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._tender.join()
        for role in self.roles:
            role.end()
        if self.external:
            with psycopg.connect(self.external, autocommit=True) as admin:
                admin.execute(SQL("drop database {} with (force)").format(Identifier(self.prefix)))
            services.drop_roles(self.external, self.prefix)
        for service in self.services.values():
            service.stop()

    def _new_database(self, url: str) -> str:
        """A database of the run's own; no connection stays open that a fault could cut."""
        name = f"chaos_{uuid4().hex[:12]}"
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(SQL("create database {} template template0").format(Identifier(name)))
        return make_conninfo(url, dbname=name)

    def environment(self) -> dict[str, str]:
        """The roles' environment."""
        return {
            **os.environ,
            **SCALE,
            "DATABASE_URL": self.way("postgres", self.database_url),
            "KAFKA_BOOTSTRAP_SERVERS": self.way("kafka", self.services["kafka"].url),
            "REDIS_URL": self.way("valkey", self.services["valkey"].url),
            "SIMULATOR_URL": self.simulator,
            "CRYPTOCOMPARE_REST_URL": self.simulator,
            "CRYPTOCOMPARE_WS_URL": f"{self.simulator.replace('http', 'ws')}/v2",
            # How the exchange answers where its minutes do not reach.
            "BARWRIGHT_SIMULATOR_BEYOND": Random(self.seed).choice(("zero", "error", "short")),
            "BARWRIGHT_PORT": str(self.ports["serve"]),
            "BARWRIGHT_HOME": str(self.home),
            "BARWRIGHT_SIMULATOR_SEED": str(self.seed),
        }

    @property
    def simulator(self) -> str:
        """The exchange's address."""
        return f"http://127.0.0.1:{self.ports['simulator']}"

    @property
    def api(self) -> str:
        """The API's address."""
        return f"http://127.0.0.1:{self.ports['serve']}"

    def connect(self) -> Any:
        """A connection to the database, in autocommit."""
        return sql.connect(self.database_url, "chaos", autocommit=True)

    def fault(self, **fault: Any) -> None:
        """Ask the exchange for a fault; one that is just being started again gets none."""
        with suppress(httpx.TransportError):
            httpx.post(f"{self.simulator}/admin/faults", json=fault, timeout=5, trust_env=False).raise_for_status()

    def clear(self) -> None:
        """The exchange does nothing wrong any more."""
        httpx.delete(f"{self.simulator}/admin/faults", timeout=10, trust_env=False).raise_for_status()

    def _tend(self) -> None:
        while not self._over.wait(0.2):
            self.deaths += sum(role.tend() for role in tuple(self.roles))
