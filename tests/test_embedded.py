"""The embedded servers: they come up, keep port and data, and no trace of a killed run keeps them from starting."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import redis

from barwright.embedded import packages, ports, unprivileged
from barwright.embedded.kafka import Kafka, fetch
from barwright.embedded.postgres import Postgres
from barwright.embedded.process import Child, orphans
from barwright.embedded.service import Service
from barwright.errors import BarwrightError
from tests import services

New = Callable[..., Any]
MAKERS = [services.postgres, services.kafka, services.valkey]


@pytest.fixture
def new(tmp_path: Path) -> Iterator[New]:
    """Makes servers in one home, none of which outlives its test."""
    made: list[Service] = []

    def make(maker: Callable[[Path], Service]) -> Service:
        made.append(maker(tmp_path))
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.mark.parametrize("maker", MAKERS)
def test_a_killed_server_starts_again_on_the_same_port(maker: Callable[[Path], Service], new: New) -> None:
    server = new(maker)
    server.start()
    port = server.port
    server.kill()
    assert server.pid is None
    server.start()
    assert server.port == port
    server.stop()
    assert orphans(server.child.directory, server.child.marker) == []
    assert ports.is_free(port)


@pytest.mark.parametrize("maker", MAKERS)
def test_servers_of_a_killed_run_are_stopped_first(maker: Callable[[Path], Service], new: New) -> None:
    killed, server = new(maker), new(maker)
    killed.start()
    server.port = killed.port
    server.start()
    assert killed.pid is None
    assert server.port == killed.port


def test_kafka_starts_though_its_controllers_port_is_taken_before_it_binds_it(new: New) -> None:
    server = new(services.kafka)
    server.launch()
    with socket.create_server((ports.LOOPBACK, server.controller)) as taker:
        server.wait()
        assert server.controller != taker.getsockname()[1]


def test_postgres_keeps_its_data_over_a_kill(new: New) -> None:
    server = new(services.postgres)
    server.start()
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("create table kept as select 1 as one")
    server.kill()
    server.start()
    with psycopg.connect(server.url) as connection:
        assert connection.execute("select one from kept").fetchone() == (1,)
        assert connection.execute("show timezone").fetchone() == ("UTC",)


def test_postgres_asks_for_its_password(tmp_path: Path, new: New) -> None:
    server = new(services.postgres)
    server.start()
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://barwright:guess@{server.address}/barwright")
    assert (tmp_path / "postgres.password").stat().st_mode & 0o777 == 0o600


def test_postgres_with_the_lock_file_of_a_process_id_that_is_another_program_now(new: New) -> None:
    server = new(services.postgres)
    server.start()
    server.kill()
    lock = server.directory / "postmaster.pid"
    lock.write_text("\n".join([str(os.getppid()), *lock.read_text().splitlines()[1:]]) + "\n")
    server.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another user")
def test_postgres_as_nobody_where_namespaces_are_forbidden(new: New, monkeypatch: pytest.MonkeyPatch) -> None:
    server = new(services.postgres)
    server.start()
    server.stop()
    monkeypatch.setattr(unprivileged, "_PREFIXES", unprivileged._PREFIXES[1:])
    unprivileged.prefix.cache_clear()
    server.start()
    assert psutil.Process(server.pid).username() in ("nobody", "65534")
    server.stop()
    monkeypatch.undo()
    unprivileged.prefix.cache_clear()
    server.start()


def test_valkey_writes_nothing(new: New) -> None:
    server = new(services.valkey)
    server.start()
    with redis.Redis.from_url(server.url) as client:
        client.set("key", "value")
        assert client.get("key") == b"value"
    server.stop()
    assert list(server.directory.iterdir()) == []


def test_a_taken_port_is_replaced() -> None:
    with socket.socket() as taken:
        taken.bind((ports.LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert ports.free_port(port) != port
    assert ports.free_port(port) == port


@pytest.mark.parametrize("maker", MAKERS)
def test_a_port_that_is_taken_at_the_last_moment_is_replaced(
    maker: Callable[[Path], Service], new: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = new(maker)
    with socket.socket() as taken:
        taken.bind((ports.LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with monkeypatch.context() as patch:
            patch.setattr("barwright.embedded.service.free_port", lambda _: port)
            server.launch()
        server.wait()
    assert server.port != port
    assert ports.listens(server.pid, server.port)


def test_a_server_that_cannot_start_says_why(new: New) -> None:
    server = new(lambda home: Postgres(home, settings={"shared_buffers": "nonsense"}))
    with pytest.raises(BarwrightError, match=r"(?s)postgres did not start.*nonsense"):
        server.start()


def test_a_child_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells a child that its parent died")
    code = (
        "import os, sys, psutil; from pathlib import Path; from barwright.embedded.process import Child\n"
        "child = Child(Path(sys.argv[1]), Path(sys.argv[1]) / 'log', 'sleep'); child.start(['sleep', '600'])\n"
        "while psutil.Process(child.pid).name() != 'sleep': pass\n"
        "print(child.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True, timeout=30)
    assert run.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while psutil.pid_exists(int(run.stdout)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(int(run.stdout))


def test_only_the_marked_process_of_a_directory_is_an_orphan(tmp_path: Path) -> None:
    ours, shell = Child(tmp_path, tmp_path / "a.log", "601"), Child(tmp_path, tmp_path / "b.log", "602")
    ours.start(["sleep", "601"])
    shell.start(["sleep", "602"])
    assert ours.stop_orphans() == 1
    assert ours.pid is None
    assert shell.pid
    shell.stop()


def test_what_does_not_stop_is_killed(tmp_path: Path) -> None:
    stubborn = Child(tmp_path, tmp_path / "log", "trap", patience=0.3)
    stubborn.start(["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"])
    while "up" not in stubborn.tail():
        time.sleep(0.01)
    stubborn.stop()
    assert stubborn.status == -signal.SIGKILL


def test_everything_missing_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "in_package", lambda *_: None)
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/apt-get" if name == "apt-get" else None)
    with pytest.raises(BarwrightError, match=r"mvn, java\. Install with: (sudo )?apt-get install -y maven default-jre"):
        packages.demand(Kafka(tmp_path, tmp_path).missing())


def test_a_failed_download_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    maven = tmp_path / "bin" / "mvn"
    maven.write_text("#!/bin/sh\necho '[ERROR] no route to host'; exit 1\n")
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", f"{maven.parent}:{os.environ['PATH']}")
    with pytest.raises(BarwrightError, match="no route to host"):
        fetch(tmp_path / "jars" / "kafka")
    assert list((tmp_path / "jars").iterdir()) == []
