"""The containers of docker/compose.yml: what is known of them without an engine, and the database where one answers."""

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml
from testcontainers.community.postgres import PostgresContainer

from barwright.migrations import upgrade
from barwright.settings import Settings
from tests.services import ROOT
from tests.sql.market import Market

SERVICES = yaml.safe_load((ROOT / "docker" / "compose.yml").read_text())["services"]


@pytest.fixture(scope="module")
def timescaledb() -> Iterator[str]:
    """The DSN of the TimescaleDB that compose names."""
    # Looked for first: the client leaves a socket open when there is nothing to connect to.
    if not os.environ.get("DOCKER_HOST") and not Path("/var/run/docker.sock").exists():
        pytest.skip("no Docker engine: neither DOCKER_HOST nor /var/run/docker.sock is there")
    image = SERVICES["timescaledb"]["image"]
    with PostgresContainer(image, "postgres", "test", "barwright", driver=None) as container:
        yield container.get_connection_url()


def test_images_are_pinned_and_ports_are_on_loopback() -> None:
    for name, service in SERVICES.items():
        assert service["image"].rpartition(":")[2] not in ("", "latest"), name
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name


def test_bars_in_the_timescaledb_container(timescaledb: str) -> None:
    upgrade(Settings(database_url=timescaledb))
    with psycopg.connect(timescaledb, autocommit=True) as connection:
        market = Market(connection)
        assert market.engine.name == "timescaledb"
        market.insert(market.trade("03-01 00:00:01", "1"), market.trade("03-02 00:00:01", "2"))
        market.seal("03-03 00:00")
        market.check()
