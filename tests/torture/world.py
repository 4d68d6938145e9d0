"""Everything that runs, each server behind a proxy, the database's files in a file system that can be made full."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from barwright.embedded.kafka import Kafka
from barwright.embedded.ports import LOOPBACK, free_port
from barwright.ingest import kafka
from barwright.settings import Settings
from tests import services
from tests.chaos.system import Role, System
from tests.proxy import Proxy

TOPIC = "torture-ticks"
PARTITIONS = 4
MARKET = ("simulator", "feed")  # what a symbol with a history needs besides
ROLES = ("ingest", "ingest", "maintain", "maintain", "serve")
KEPT = 60  # days of ticks: what is older is refused
ROOMY = "12g"
# Processes of ingest come in turns by each client that is there.
CLIENTS = ("kafka-python", "confluent") if find_spec("confluent_kafka") else ("kafka-python",)


class ProxiedKafka(Kafka):
    """A broker that sends its clients to a proxy, and has a second listener for those who may reach it."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, services.JARS)
        self.proxy = Proxy(lambda: self.port)
        self.direct = free_port()

    def _configure(self) -> None:
        super()._configure()
        file = self.directory / "server.properties"
        told = dict(line.split("=", 1) for line in file.read_text().splitlines())
        direct = f"DIRECT://{LOOPBACK}:{self.direct}"
        told["listeners"] += f",{direct}"
        told["advertised.listeners"] = f"PLAINTEXT://{LOOPBACK}:{self.proxy.port},{direct}"
        told["inter.broker.listener.name"] = "DIRECT"
        told["listener.security.protocol.map"] += ",DIRECT:PLAINTEXT"
        file.write_text("".join(f"{name}={value}\n" for name, value in told.items()))


class Helper:
    """A process of ours that is told something, a JSON object a line, and answers the same way."""

    def __init__(self, log: Path, module: str, *words: str) -> None:
        command = [sys.executable, "-m", module, *words]
        with log.open("ab") as errors:
            self.process = subprocess.Popen(command, cwd=services.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=errors, text=True)  # fmt: skip
        self._one = threading.Lock()

    def tell(self, **command: Any) -> None:
        """Say something."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def ask(self, **command: Any) -> Any:
        """Say something and wait for the answer."""
        assert self.process.stdout
        with self._one:
            self.tell(**command)
            answer = self.process.stdout.readline()
            assert answer, f"{self.process.args!r} has ended: {self.process.wait()}"
            return json.loads(answer)

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()


class Disk:
    """A tmpfs of its own for the database, made full by taking away what is free: no file has to fill it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOMY}", "tmpfs", folder], capture_output=True,
                              text=True)  # fmt: skip
        self.obstacle = done.stderr.strip()

    def fill(self) -> bool:
        """Leave no byte free."""
        used = os.statvfs(self.folder)
        return self._sized(str((used.f_blocks - used.f_bfree) * used.f_frsize))

    def relieve(self) -> bool:
        """Give the room back."""
        return self._sized(ROOMY)

    def _sized(self, size: str) -> bool:
        return not subprocess.run(["mount", "-o", f"remount,size={size}", self.folder], capture_output=True).returncode

    def close(self) -> None:
        """Take it away."""
        if not self.obstacle:
            subprocess.run(["umount", "-l", self.folder], check=True)


class World(System):
    """See above. `load` is the producer of many messages, by way of the proxy; `sender` that of single ones."""

    def __init__(self, home: Path, seed: int, market: bool) -> None:
        super().__init__(home, seed, (*MARKET, *ROLES) if market else ROLES)
        self.kept = KEPT
        self.kafka = ProxiedKafka(home)
        self.services["kafka"] = self.kafka
        self.proxies = {"kafka": self.kafka.proxy, "valkey": Proxy(lambda: self.services["valkey"].port)}
        self.disk = None
        if self.external:
            self.proxies["postgres"] = Proxy(lambda: int(conninfo_to_dict(self.database_url).get("port") or 5432))
        else:
            self.disk = Disk(home / "disk")
            self.services["postgres"] = services.postgres(home / "disk")
            self.proxies["postgres"] = Proxy(lambda: self.services["postgres"].port)

    def __enter__(self) -> Self:
        super().__enter__()
        direct = f"{LOOPBACK}:{self.kafka.direct}"
        kafka.ensure_topic(Settings(kafka_bootstrap_servers=direct), TOPIC, PARTITIONS)
        logs, proxied = self.home / "roles", f"{LOOPBACK}:{self.kafka.proxy.port}"
        self.load = Helper(logs / "load.log", "tests.torture.load", proxied, TOPIC)
        self.sender = Helper(logs / "sender.log", "tests.torture.sender", direct, TOPIC)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for helper in (self.load, self.sender):
            helper.close()
        self.calm()
        super().__exit__(kind, error, trace)
        for proxy in self.proxies.values():
            proxy.close()
        if self.disk:
            self.disk.close()

    def way(self, server: str, url: str) -> str:
        """Through its proxy."""
        port = self.proxies[server].port
        if server == "kafka":
            return f"{LOOPBACK}:{port}"
        if server == "valkey":
            return f"redis://{LOOPBACK}:{port}/0"
        return make_conninfo(url, host=LOOPBACK, port=port)

    def environment(self) -> dict[str, str]:
        """See System."""
        return super().environment() | {
            "BARWRIGHT_TICK_PATTERN": f"^{TOPIC}$",
            "BARWRIGHT_RAW_RETENTION_DAYS": str(self.kept),
            # Chaos' 18 s and 10 s leave a machine with a load of 25 no moment in which nothing is under way.
            "BARWRIGHT_CORRECTION_HOURS": "0.02",
            "BARWRIGHT_TOPIC_QUIET": "40",
        }

    def own(self, name: str) -> dict[str, str]:
        """See System."""
        return {"KAFKA_CLIENT": CLIENTS[self._made % len(CLIENTS)]} if name == "ingest" else {}

    def of(self, name: str) -> list[Role]:
        """The processes of a role."""
        return [role for role in self.roles if role.name == name]

    def remove(self, role: Role, signum: signal.Signals) -> None:
        """One process less of a role."""
        self.roles.remove(role)
        role.retire()
        role.send(signum)
        assert role.process
        with suppress(subprocess.TimeoutExpired):
            role.process.wait(20)
        role.end()

    def keep(self, days: int) -> None:
        """Ticks are kept for so many days from now on; whoever has to know is started again."""
        self.kept = days
        for role in self.roles:
            role.environment["BARWRIGHT_RAW_RETENTION_DAYS"] = str(days)
            role.send(signal.SIGKILL)

    def calm(self) -> None:
        """Nothing breaks any more; what was away comes back."""
        if self.disk and not self.disk.obstacle:
            assert self.disk.relieve()
        for proxy in self.proxies.values():
            proxy.heal()
        for role in self.roles:
            role.send(signal.SIGCONT)
        for service in self.services.values():
            if service.pid is None:
                service.start()
