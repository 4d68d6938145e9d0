"""What can be known of the containers without an engine: schema, linter, and what must hold of every service."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from barwright import __version__
from barwright.configuration import variable
from barwright.settings import Settings
from tests.docker.composed import COMPOSE, DOCKERFILE, FOLDER, ONCE, OURS, SERVICES, environment, files, instruction
from tests.services import ROOT

every_service = pytest.mark.parametrize("name", SERVICES)


def run(*command: str | Path, **options: Any) -> str:
    """What a program prints; it must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_compose_file_fits_its_schema() -> None:
    run(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", FOLDER / "compose.yml")


def test_the_dockerfile_is_linted() -> None:
    run(Path(sys.executable).with_name("hadolint"), "--failure-threshold", "style", FOLDER / "Dockerfile")


def test_bases_and_images_are_pinned_by_version_and_digest() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    foreign = [service["image"] for name, service in SERVICES.items() if name not in OURS]
    for image in [base for base in bases if base != "base"] + foreign:
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+[\w.-]*@sha256:[0-9a-f]{64}", image), image
    assert {service["image"] for service in OURS.values()} == {f"barwright:{__version__}"}


def test_what_is_there() -> None:
    assert {"timescaledb", "kafka", "valkey", "migrate", "feed", "ingest", "maintain", "serve", "simulator",
            "prometheus", "grafana"} <= SERVICES.keys()  # fmt: skip
    assert SERVICES["ingest"]["deploy"]["replicas"] == 2
    assert SERVICES["timescaledb"]["environment"]["TIMESCALEDB_TELEMETRY"] == "off"
    assert {name: service["command"][0] for name, service in OURS.items()} == {
        **{name: name for name in OURS}, "register": "symbol",
    }  # fmt: skip


def test_only_the_api_and_grafana_are_published_and_only_to_this_machine() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {"serve": ["127.0.0.1:8000:8000"], "grafana": ["127.0.0.1:3000:3000"]}
    # A container port could be reached by the host's other networks where its network is no internal one.
    inside = {name for name, service in SERVICES.items() if service["networks"] == ["inside"]}
    assert SERVICES.keys() - inside == {"feed", "serve", "grafana"}
    assert COMPOSE["networks"]["inside"]["internal"] is True


@every_service
def test_a_container_has_no_right_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "cap_add" not in service
    assert service.get("user") not in ("root", "0")
    limits = service["deploy"]["resources"]["limits"]
    assert limits.keys() == {"cpus", "memory", "pids"}
    assert all(str(mount).startswith(("./", *COMPOSE["volumes"])) for mount in service.get("volumes", []))
    assert all(str(mount).endswith(":ro") for mount in service.get("volumes", []) if str(mount).startswith("./"))


def test_the_image_runs_as_nobody_in_particular_and_stops_when_told() -> None:
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", instruction("USER"))
    assert instruction("STOPSIGNAL") == "SIGTERM"
    assert json.loads(instruction("ENTRYPOINT")) == ["barwright"]


@every_service
def test_every_service_that_stays_is_asked_for_its_health(name: str) -> None:
    service = SERVICES[name]
    if name in ONCE:
        assert service["healthcheck"] == {"disable": True}
    elif name in OURS and name != "simulator":
        assert "healthcheck" not in service
        assert json.loads(instruction("HEALTHCHECK").partition(" CMD ")[2]) == ["barwright", "health"]
    else:
        assert service["healthcheck"]["test"][0] == "CMD"


@every_service
def test_a_service_starts_after_what_it_needs(name: str) -> None:
    needs = SERVICES[name].get("depends_on", {})
    for other, how in needs.items():
        wanted = "service_completed_successfully" if other in ONCE else "service_healthy"
        assert how["condition"] == wanted, other
    if "DATABASE_URL" in environment(name):
        assert needs.keys() & {"migrate", "timescaledb"}
    if name in {"feed", "ingest"}:
        assert "kafka" in needs


def test_what_runs_once_is_waited_for() -> None:
    # `up --wait` takes the end of a container that nobody waits for as a failure.
    waited = {other for service in SERVICES.values() for other in service.get("depends_on", {})}
    assert waited >= ONCE


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting(name: str) -> None:
    known = {variable(setting) for setting in Settings.model_fields}
    given = {each.removesuffix("_FILE") for each in environment(name)}
    assert given - known - {"PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"} == set()


@every_service
def test_secrets_are_in_files_each_given_to_those_who_need_it(name: str) -> None:
    for each, value in environment(name).items():
        if re.search(r"PASSWORD|SECRET|TOKEN|KEY\b", each):
            assert value.startswith("/run/secrets/"), each
        assert not re.search(r"://[^/]*:[^/]*@", value), each
    used = set(files(name).values()) | ({"migrate_password"} if name == "timescaledb" else set())
    used |= {"read_password"} if name == "grafana" else set()  # of its data source
    assert used == set(SERVICES[name].get("secrets", []))
    assert used <= COMPOSE["secrets"].keys()


def test_each_role_logs_in_as_itself() -> None:
    users = {"migrate": "migrate", "register": "api", "serve": "api"}
    for name in OURS.keys() - {"simulator"}:
        user = users.get(name, name)
        assert environment(name)["DATABASE_URL"] == f"postgresql://barwright_{user}@timescaledb:5432/barwright"
        assert files(name)["DATABASE_PASSWORD_FILE"] == f"{user}_password"
    given = {each.removeprefix("BARWRIGHT_"): secret for each, secret in files("migrate").items()}
    assert {each: secret for each, secret in given.items() if each != "DATABASE_PASSWORD_FILE"} == {
        f"{kind.upper()}_PASSWORD_FILE": f"{kind}_password" for kind in ("feed", "ingest", "maintain", "api", "read")
    }


def test_secrets_are_made_once(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "docker", ignore=shutil.ignore_patterns("secrets"))
    run("chmod", "-R", "go=", tmp_path / "docker")  # as a checkout under umask 077
    run("make", "-f", ROOT / "Makefile", "secrets", cwd=tmp_path, umask=0o077)
    made = {file.name: file.read_text() for file in (tmp_path / "docker" / "secrets").iterdir()}
    assert made.keys() == COMPOSE["secrets"].keys()
    assert len(set(made.values())) == len(made)
    assert all(re.fullmatch(r"[0-9a-f]{48}", value) for value in made.values())
    # Containers read them as their own users; others on this machine do not come in.
    assert {stat.S_IMODE(os.stat(tmp_path / "docker/secrets" / name).st_mode) for name in made} == {0o644}
    assert stat.S_IMODE(os.stat(tmp_path / "docker" / "secrets").st_mode) == 0o700
    mounted = [tmp_path / "docker" / each.split(":")[0] for each in mounts()]
    assert mounted
    for path in [*mounted, *(below for folder in mounted for below in folder.rglob("*"))]:
        wanted = 0o555 if path.is_dir() else 0o444
        assert stat.S_IMODE(path.stat().st_mode) & wanted == wanted, path
    (tmp_path / "docker" / "secrets" / "api_password").write_text("mine")
    run("make", "-f", ROOT / "Makefile", "secrets", cwd=tmp_path)
    kept = {file.name: file.read_text() for file in (tmp_path / "docker" / "secrets").iterdir()}
    assert kept == {**made, "api_password": "mine"}
    assert "docker/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def mounts() -> list[str]:
    """What of this folder containers see."""
    return [str(each) for service in SERVICES.values() for each in service.get("volumes", []) if str(each)[0] == "."]


def test_what_is_mounted_is_there_and_a_script_is_run_not_read_in() -> None:
    """PostgreSQL's entrypoint reads a script in that is no program: `set -eu` would then be its own."""
    for mount in mounts():
        assert (FOLDER / mount.split(":")[0]).exists(), mount
    assert os.access(FOLDER / "timescaledb" / "100_migrate.sh", os.X_OK)


def test_kafka_logs_nothing_into_memory() -> None:
    """Its image begins six logs each hour and deletes none, and writes ten of 100 MB on garbage collection: on a tmpfs,
    which counts as memory of the container, they would end it."""
    logging = yaml.safe_load((FOLDER / "kafka" / "log4j2.yaml").read_text())["Configuration"]
    assert [*logging["Appenders"]] == ["Console"]
    kafka = SERVICES["kafka"]
    assert "./kafka:/mnt/shared/config:ro" in kafka["volumes"]
    assert "file=" not in kafka["environment"]["KAFKA_GC_LOG_OPTS"]
    [logs] = [each for each in kafka["tmpfs"] if each.startswith("/opt/kafka/logs:")]
    assert "size=" in logs


def test_grafana_takes_the_plugins_of_its_image() -> None:
    """Fetching newer ones fails on a read-only root and without the Internet; those of the image are pinned with it."""
    assert SERVICES["grafana"]["environment"]["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"
    assert not SERVICES["grafana"]["image"].split("@")[0].endswith("slim")


def test_without_the_simulated_exchange_the_file_is_whole() -> None:
    """What only simulates is nobody's need."""
    for name, service in SERVICES.items():
        for other in {"simulator", "register"} & service.get("depends_on", {}).keys() - {name}:
            assert service["depends_on"][other]["required"] is False


def test_every_extra_can_be_built_in() -> None:
    extras = {path.stem.partition("-")[2] for path in ROOT.glob("requirements-*.lock")} - {"dev"}
    stage = DOCKERFILE.partition(" AS builder\n")[2].partition("\nFROM ")[0]
    assert "ARG EXTRAS=\n" in stage
    for extra in extras:
        assert f"requirements-{extra}.lock" in stage
        assert f"!requirements-{extra}.lock" in (ROOT / ".dockerignore").read_text().splitlines()
    assert all(service["build"]["args"] == {"EXTRAS": ""} for service in OURS.values())


def test_the_context_holds_nothing_but_what_is_named() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert all((ROOT / line[1:]).exists() for line in lines if line.startswith("!"))
