"""Old code and new code beside each other while an upgrade is rolled out; and code that is too new for its database."""

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from barwright import migrations, schema, sql
from barwright.errors import BarwrightError
from barwright.settings import Settings
from tests import services
from tests.api.conftest import Api, serving
from tests.ingest.conftest import World, eventually
from tests.services import ROOT, Server
from tests.upgrades.feed import Feed, bars, check, in_api, is_repaired, landed

# The newest release before a database in production was upgraded for the first time: revision 0003.
OLD = "4efc132128c619bc6adccf36c856d1ce3c1d157f"


def run(dsn: str, *words: str, code: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A command of some code, as an operator calls it."""
    command = [sys.executable, "-P", "-m", "barwright", *words]
    environment = {**os.environ, "DATABASE_URL": dsn, "PYTHONPATH": str(code)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_code_that_is_newer_than_the_schema_does_not_start(empty_database: str) -> None:
    settings = Settings(database_url=empty_database)
    with pytest.raises(BarwrightError, match="The database is not migrated"):
        schema.demand(settings)
    schema.demand(settings, empty=True)
    migrations.upgrade(settings, "0001")
    with pytest.raises(BarwrightError, match="at revision 0001, and this Barwright works with"):
        schema.demand(settings, empty=True)
    old = run(empty_database, "ingest")
    assert old.returncode == 1
    assert f"at revision 0001, and this Barwright works with {schema.NEWEST} or a later one." in old.stderr
    assert "barwright migrate" in old.stderr


def test_newest_is_what_migrate_brings(database: str) -> None:
    with sql.connect(database, "test") as connection:
        assert connection.execute("select version_num from alembic_version").fetchone() == (schema.NEWEST,)


@pytest.fixture(scope="module")
def old_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the release before."""
    archive = subprocess.run(["git", "archive", OLD], cwd=ROOT, capture_output=True)
    if archive.returncode:
        pytest.skip(f"the history of this checkout does not reach back to {OLD[:7]}")
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    shutil.copytree(ROOT / "api/web/dist", folder / "api/web/dist")  # which `make pages` makes
    return folder


class Rollout:
    """Processes of both codes on one database, and how long nothing has landed meanwhile."""

    def __init__(self, world: World, old: Path) -> None:
        self.world, self.codes = world, {"old": old, "new": ROOT}
        self.answers: Counter[int] = Counter()
        self.pauses: dict[str, float] = {}
        self.stage, self.over = "", threading.Event()
        self.threads: list[threading.Thread] = []

    def start(self, code: str, role: str) -> subprocess.Popen[bytes]:
        """A role's process."""
        settings = self.world.settings
        environment = os.environ | {
            "PYTHONPATH": str(self.codes[code]), "DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url,
            "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers, "BARWRIGHT_GROUP": settings.group,
            "BARWRIGHT_TICK_TOPIC": settings.tick_topic, "BARWRIGHT_DYNAMIC_PATTERN": settings.dynamic_pattern,
            "BARWRIGHT_MAINTAIN_INTERVAL": "0.2", "BARWRIGHT_LOG_FORMAT": "json",
            "BARWRIGHT_HOME": str(self.world.logs),
        }  # fmt: skip
        with (self.world.logs / f"{code}-{role}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "barwright", role], env=environment, stdout=log, stderr=log
            )
        self.world.processes.append(process)
        return process

    def watch(self, *apis: Api) -> None:
        """From now on ask all the time for bars, and look how long nothing lands."""
        self.threads = [
            threading.Thread(target=self._land),
            *(threading.Thread(target=self._ask, args=(a,)) for a in apis),
        ]
        for thread in self.threads:
            thread.start()

    def _ask(self, api: Api) -> None:
        while not self.over.is_set():
            answer = api.get("/v1/bars", symbol="S1", interval="1h", start="2023-01-01")
            self.answers[answer.status_code] += 1
            time.sleep(0.02)

    def _land(self) -> None:
        moved, before = time.monotonic(), 0
        with sql.connect(self.world.settings.database_url, "watch", autocommit=True) as connection:
            while not self.over.is_set():
                [[now]] = connection.execute("select sum(next_offset) from ingest_offset")
                if now > before:
                    moved, before = time.monotonic(), now
                pause = time.monotonic() - moved
                self.pauses[self.stage] = max(self.pauses.get(self.stage, 0), pause)
                time.sleep(0.02)

    def end(self) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(30)


@pytest.fixture
def rollout(postgres: Server, kafka: Server, valkey: Server, old_code: Path, tmp_path: Path) -> Iterator[Rollout]:
    """A topic, and a database of the old schema."""
    with services.new_database(postgres.url) as database:
        world = World(database, kafka.url, valkey.url, tmp_path)
        world.topic()
        migrated = run(database, "migrate", code=old_code)
        assert migrated.returncode == 0, migrated.stderr
        made = Rollout(world, old_code)
        yield made
        made.end()
        world.close()


@pytest.mark.slow
def test_an_upgrade_is_rolled_out_while_ticks_flow(rollout: Rollout, tmp_path: Path, old_code: Path) -> None:
    world = rollout.world
    database = world.settings.database_url
    old = [rollout.start("old", role) for role in ("ingest", "maintain")]
    feed = Feed(world)
    try:
        eventually(lambda: landed(world) > 500, True, 60)
        with serving(database, world.settings.redis_url, tmp_path / "old.log", PYTHONPATH=str(old_code)) as before:
            rollout.stage = "old alone"
            rollout.watch(before)
            time.sleep(3)
            rollout.stage = "migrating"
            began = time.monotonic()
            migrated = run(database, "migrate")
            took = time.monotonic() - began
            assert migrated.returncode == 0, migrated.stderr
            rollout.stage = "new schema, old code"
            count = landed(world)
            eventually(lambda: landed(world) > count + 300, True, 60)
            rollout.stage = "both"
            new = [rollout.start("new", role) for role in ("ingest", "maintain")]
            with serving(database, world.settings.redis_url, tmp_path / "new.log") as after:
                count = landed(world)
                eventually(lambda: landed(world) > count + 500, True, 60)
                rollout.stage = "old leaves"
                for process in old:
                    process.send_signal(signal.SIGTERM)
                assert [process.wait(40) for process in old] == [0, 0]
                rollout.stage = "new alone"
                count = landed(world)
                eventually(lambda: landed(world) > count + 300, True, 60)
                rollout.end()
                sent = feed.end()
                eventually(lambda: (landed(world), is_repaired(world)), (sent, True), 60)
                check(database, sent)
                eventually(lambda: in_api(after, database) and bars(before) == bars(after), True)
                assert all(process.poll() is None for process in new)
    finally:
        feed.end()
    print(f"\nmigrating took {took:.1f} s; the longest pauses of ingest: {rollout.pauses}; answers: {rollout.answers}")
    assert rollout.pauses["migrating"] < 10
    assert set(rollout.answers) == {200}
