"""The containers of docker/compose.yml where a Docker engine answers; elsewhere these tests skip with the reason."""

import os
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest
from testcontainers.community.postgres import PostgresContainer
from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from barwright import __version__
from barwright.migrations import upgrade
from barwright.settings import Settings
from tests.docker.composed import FOLDER, SERVICES
from tests.services import ROOT
from tests.sql.market import Market


@pytest.fixture(scope="module", autouse=True)
def engine() -> None:
    """Skip where there is none. Looked for first: the client leaves a socket open when there is nothing to reach."""
    address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    parts = urlsplit(address)
    try:
        if parts.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as there:
                there.connect(parts.path)
        else:
            socket.create_connection((parts.hostname or "", parts.port or 2375), timeout=5).close()
    except OSError as error:
        pytest.skip(f"no Docker engine at {address}: {error.strerror}")


@pytest.fixture(scope="module")
def timescaledb() -> Iterator[str]:
    """The DSN of the TimescaleDB that compose names."""
    image = SERVICES["timescaledb"]["image"]
    with PostgresContainer(image, "postgres", "test", "barwright", driver=None) as container:
        yield container.get_connection_url()


def test_bars_in_the_timescaledb_container(timescaledb: str) -> None:
    upgrade(Settings(database_url=timescaledb))
    with psycopg.connect(timescaledb, autocommit=True) as connection:
        market = Market(connection)
        assert market.engine.name == "timescaledb"
        market.insert(market.trade("03-01 00:00:01", "1"), market.trade("03-02 00:00:01", "2"))
        market.seal("03-03 00:00")
        market.check()


def test_the_kafka_container_keeps_its_log_in_its_volume() -> None:
    kafka = SERVICES["kafka"]
    tmpfs = {folder: options for folder, _, options in (each.partition(":") for each in kafka["tmpfs"])}
    container = DockerContainer(kafka["image"]).with_kwargs(read_only=True, cap_drop=["ALL"], tmpfs=tmpfs)
    container = container.with_volume_mapping(FOLDER / "kafka", "/mnt/shared/config", "ro")
    for name, value in kafka["environment"].items():
        container = container.with_env(name, value)
    with container.waiting_for(LogMessageWaitStrategy("Kafka Server started").with_startup_timeout(90)):
        assert container.exec(["bash", "-c", "ls /var/lib/kafka/data/meta.properties"]).exit_code == 0
        assert container.exec(kafka["healthcheck"]["test"][1:]).exit_code == 0


@pytest.mark.slow
def test_the_image_is_built_and_runs_as_nobody_on_a_read_only_root() -> None:
    with DockerImage(ROOT, tag="barwright:test", dockerfile_path="docker/Dockerfile") as image:
        options = {"read_only": True, "cap_drop": ["ALL"], "tmpfs": dict.fromkeys(SERVICES["serve"]["tmpfs"], "")}
        container = DockerContainer(str(image)).with_kwargs(entrypoint=["sleep", "60"], **options)
        with container:
            assert container.exec(["id", "-u"]).output.strip() == b"10001"
            assert __version__.encode() in container.exec(["barwright", "--version"]).output
            assert container.exec(["sh", "-c", "touch /opt/barwright/x"]).exit_code != 0
