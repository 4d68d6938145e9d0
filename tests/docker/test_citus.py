"""docker/compose.citus.yml: its schema, and that what it says fits compose.yml and itself."""

import re
import subprocess
import sys
from typing import Any

import yaml

from tests.docker.composed import COMPOSE, FOLDER, SERVICES

FILE = FOLDER / "compose.citus.yml"
CITUS: dict[str, Any] = yaml.safe_load(FILE.read_text())
WORKERS = {name: service for name, service in CITUS["services"].items() if name.startswith("worker_")}


def test_the_file_fits_its_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_coordinator_stands_where_timescaledb_stood() -> None:
    coordinator = CITUS["services"]["timescaledb"]
    assert coordinator.keys() <= SERVICES["timescaledb"].keys()
    # A mount takes the place of the one at the same path.
    assert [mount.split(":")[1] for mount in coordinator["volumes"]] == ["/var/lib/postgresql"]
    assert set(coordinator["networks"]) == {*SERVICES["timescaledb"]["networks"], "nodes"}
    images = {service["image"] for name, service in CITUS["services"].items() if name != "migrate"}
    assert len(images) == 1
    assert re.fullmatch(r"citusdata/citus:\d+\.\d+\.\d+", images.pop())


def test_every_worker_is_added_before_anything_is_migrated_and_can_be_reached_by_the_coordinator_only() -> None:
    script = CITUS["services"]["cluster"]["command"][0]
    assert re.findall(r"citus_add_node\('(\w+)', 5432\)", script) == list(WORKERS)
    assert CITUS["services"]["migrate"]["depends_on"] == {"cluster": {"condition": "service_completed_successfully"}}
    assert CITUS["services"]["cluster"]["depends_on"].keys() == {"timescaledb", *WORKERS}
    assert CITUS["services"]["cluster"]["networks"] == ["inside"]
    assert CITUS["networks"]["nodes"]["internal"] is True
    for name, worker in WORKERS.items():
        assert worker["networks"] == ["nodes"]
        assert "ports" not in worker
        assert worker["volumes"] == [f"{name}:/var/lib/postgresql"]
        assert worker["environment"]["POSTGRES_DB"] == SERVICES["timescaledb"]["environment"]["POSTGRES_DB"]
        assert worker["read_only"] is True
        assert worker["cap_drop"] == ["ALL"]
    assert CITUS["volumes"].keys() == {"coordinator", *WORKERS}
    assert "nodes" not in COMPOSE["networks"]
