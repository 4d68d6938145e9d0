"""The servers and roles of one `barwright run`: brought up in order, tended, taken down in order."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg

from barwright import environment, instance, logins, simulated, sql
from barwright.embedded import packages
from barwright.embedded.kafka import Kafka
from barwright.embedded.ports import LOOPBACK, free_port
from barwright.embedded.postgres import Postgres
from barwright.embedded.service import Service
from barwright.embedded.valkey import Valkey
from barwright.errors import BarwrightError
from barwright.instance import Instance
from barwright.roles import NAMES, SIMULATOR, Role
from barwright.settings import Settings
from barwright.sql.roles import LOGINS

# Outside the range the kernel gives to clients, and none of the servers' own default ports, which are often taken.
_PORTS = {"postgres": 15432, "kafka": 19092, "valkey": 16379, "simulator": 8100}
_METRICS = {"feed": 9101, "ingest": 9102, "maintain": 9103, "serve": 9104}
_SETTING_OF = {"postgres": "database_url", "kafka": "kafka_bootstrap_servers", "valkey": "redis_url"}

Say = Callable[[str], None]


class Stack:
    """What runs. `say` takes a line for the user."""

    def __init__(self, settings: Settings, say: Say) -> None:
        self.home = settings.home.resolve()
        self.say = say
        self.named = instance.named(settings)
        self.services = [service for service in _services(settings, self.home) if self._is_ours(service)]
        self.settings = settings
        self.roles: list[Role] = []
        self.urls: dict[str, str] = {}  # each process' own DSN
        self.engine = ""

    def up(self) -> Instance:
        """Start the servers, migrate, start the roles.

        Raises BarwrightError when something is missing or does not come up.
        """
        packages.demand([program for service in self.services for program in service.missing()])
        self._reach_named()
        self._start_services()
        self._migrate()
        for service in self.services:
            if not isinstance(service, Postgres):  # which the migration needed before
                self._wait_for(service)
        running = self._instance()
        instance.write(self.home, running)
        if "simulator_url" not in self.named:
            simulated.register(self.settings)
        self._start_roles(running)
        return running

    def tend(self) -> None:
        """Start again what has died."""
        for service in self.services:
            if service.pid is None:
                self.say(f"{service.name} has ended ({service.child.status}); starting it again")
                service.start()
        for role in self.roles:
            if role.tend():
                self.say(
                    f"{role.name} has ended ({role.child.status}), see {role.child.log}: {role.child.tail(1)[:200]}"
                )

    def down(self) -> None:
        """Stop everything in order; ingest lands what it has read, and a server stops after all its clients."""
        for role in sorted(self.roles, key=lambda role: role.name == SIMULATOR):
            self.say(f"stopping {role.name}")
            role.child.stop()
        for service in self.services:
            if service.pid:
                self.say(f"stopping {service.name}")
            service.stop()

    def _is_ours(self, service: Service) -> bool:
        return _SETTING_OF[service.name] not in self.named

    def _start_services(self) -> None:
        for service in self.services:
            wanted = service.port
            if isinstance(service, Kafka) and not service.jars.exists():
                self.say("fetching Kafka with Maven, once")
            service.launch()
            if wanted not in (0, service.port):
                self.say(f"port {wanted} is taken: {service.name} is on {service.port}")
            if isinstance(service, Postgres):
                self._wait_for(service)
            updates = {_SETTING_OF[service.name]: service.url}
            self.settings = self.settings.model_copy(update=updates)

    def _wait_for(self, service: Service) -> None:
        service.wait()
        self.say(f"{service.name} is up on {service.address}")

    def _reach_named(self) -> None:
        """The database is reached by the migration, and Redis is not needed; only Kafka would be waited for in vain."""
        if "kafka_bootstrap_servers" not in self.named:
            return
        brokers = self.settings.kafka_bootstrap_servers.split(",")
        if not any(_accepts(broker.strip()) for broker in brokers):
            raise BarwrightError(
                f"No Kafka broker answers at {self.settings.kafka_bootstrap_servers}.",
                "Start it, or unset KAFKA_BOOTSTRAP_SERVERS to have one started.",
            )

    def _migrate(self) -> None:
        """In a process of its own: what migrating needs in memory would stay in this one."""
        theirs = logins.existing(self.settings) if "database_url" in self.named else set()
        command = [sys.executable, "-P", "-m", "barwright", "migrate"]
        done = subprocess.run(command, env=self._environment(), capture_output=True, text=True)
        if done.returncode:
            hint = "Unset DATABASE_URL and PG* to have a server started." if "database_url" in self.named else ""
            raise BarwrightError(f"The database could not be migrated:\n{(done.stderr or done.stdout).strip()}", hint)
        with sql.connect(self.settings.database_url, "run") as connection:
            self.engine = _engine(connection)
        self.say(f"engine: {self.engine}")
        self._log_in(set(LOGINS) - theirs)

    def _log_in(self, ours: set[str]) -> None:
        """Have each process work as its own database role, where the server allows it."""
        self.urls, reasons = logins.logins(self.settings, self.home, ours)
        if reasons:
            why = "; ".join(dict.fromkeys(reasons.values()))
            self.say(f"{', '.join(reasons)} work as the given database user, not as roles of their own: {why}")

    def _instance(self) -> Instance:
        # Who takes any port for the API has several instances; none of them is to be in another's way.
        metrics = {
            role: f"{LOOPBACK}:{free_port(preferred if self.settings.port else 0)}"
            for role, preferred in _METRICS.items()
        }
        port = free_port(self.settings.port)
        if self.settings.port not in (0, port):
            self.say(f"port {self.settings.port} is taken: the API is on {port}")
        self.settings = self.settings.model_copy(update={"port": port, "simulator_url": self._simulator_url()})
        servers = {name: getattr(self.settings, name) for name in (*_SETTING_OF.values(), "simulator_url")}
        return Instance(pid=os.getpid(), engine=self.engine, port=port, metrics=metrics, **servers)

    def _simulator_url(self) -> str:
        """Where the simulated exchange is, or shall be."""
        if "simulator_url" in self.named:
            return self.settings.simulator_url
        wanted = _PORTS["simulator"] if self.settings.port else 0
        port = free_port(wanted)
        if wanted not in (0, port):
            self.say(f"port {_PORTS['simulator']} is taken: the simulated exchange is on {port}")
        return f"http://{LOOPBACK}:{port}"

    def _start_roles(self, running: Instance) -> None:
        shared = self._environment(**running.exports())
        for kind in LOGINS:  # of the roles, whose own DSN has what each needs
            shared.pop(f"BARWRIGHT_{kind.upper()}_PASSWORD", None)
            shared.pop(f"BARWRIGHT_{kind.upper()}_PASSWORD_FILE", None)
        elsewhere = {SIMULATOR} if "simulator_url" in self.named else set()
        self.roles = [
            Role(name, self.home, {**shared, **self._own(name, running)}) for name in NAMES if name not in elsewhere
        ]
        for role in self.roles:
            role.child.stop_orphans()
            role.start()

    def _own(self, name: str, running: Instance) -> dict[str, str]:
        """What is one role's alone: where it listens, and its login."""
        login = {"DATABASE_URL": self.urls[name]} if name in self.urls else {}
        return {"BARWRIGHT_METRICS": running.metrics.get(name, ""), **login}

    def _environment(self, **more: str) -> dict[str, str]:
        """The children's environment: ours, the servers, paths that hold in another working directory, and more."""
        servers = {name.upper(): getattr(self.settings, name) for name in _SETTING_OF.values()}
        given = {name: value for name, value in servers.items() if value}
        return environment.with_values({**given, "BARWRIGHT_HOME": str(self.home), **more})


def _services(settings: Settings, home: Path) -> list[Service]:
    """In the order in which they stop; Kafka takes longest to start and is first. With port 0 all take free ones."""
    ports = {name: port if settings.port else 0 for name, port in _PORTS.items()}
    return [
        Kafka(home, settings.jars, ports["kafka"]),
        Valkey(home, ports["valkey"]),
        Postgres(home, ports["postgres"]),
    ]


def _engine(connection: psycopg.Connection[tuple[str, ...]]) -> str:
    """The engine and what it runs on, for people."""
    row = connection.execute(sql.queries("run")["engine"]).fetchone()
    assert row is not None
    return row[0]


def _accepts(broker: str) -> bool:
    host, _, port = broker.rpartition(":")
    try:
        socket.create_connection((host or LOOPBACK, int(port)), timeout=5).close()
    except (OSError, ValueError):
        return False
    return True
