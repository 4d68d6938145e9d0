"""A backup and Kafka give back every tick and every bar; what was cached of the lost time never comes alive."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from barwright import migrations, sql
from barwright.backup import manifest, programs
from barwright.backup.restore import restore
from barwright.backup.take import take
from barwright.errors import BarwrightError
from barwright.settings import Settings
from tests import services
from tests.api.conftest import Api, serving
from tests.api.streams import Follower
from tests.ingest.conftest import World, eventually
from tests.services import Server
from tests.upgrades import load

SYMBOLS = ("S0", "S1", "S2")
START = datetime(2023, 2, 26, 22, tzinfo=UTC)


class Feed:
    """Trades of three symbols, on and on, one of four earlier than the one before; each is in `sent` once it is
    acknowledged."""

    def __init__(self, world: World) -> None:
        self.world, self.sent, self.over = world, 0, threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not self.over.is_set():
            later = []
            for n in range(self.sent, self.sent + 10):
                ts = START + timedelta(seconds=n * 47 - (86_400 if n % 4 == 0 else 0), microseconds=n % 3)
                trade = {"type": "trade", "symbol": SYMBOLS[n % 3], "ts": ts.isoformat(), "id": str(n + 1),
                         "price": f"{100 + n * 7 % 31}.{n % 97:02}", "size": f"0.{n % 89 + 1}",
                         "side": "buy"}  # fmt: skip
                later.append(self.world.send_later(trade, partition=n % 3))
            for future in later:
                future.get(timeout=30)
            self.sent += len(later)
            time.sleep(0.02)

    def end(self) -> int:
        """Send no more; how many there were."""
        self.over.set()
        self.thread.join(30)
        return self.sent


def barwright(database: str, *words: str | Path) -> str:
    """Run a command; what it says."""
    command = [sys.executable, "-P", "-m", "barwright", *words]
    done = subprocess.run(command, env={**os.environ, "DATABASE_URL": database}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def landed(world: World) -> int:
    return int(world.one("select count(*) from ticks"))


def is_repaired(world: World) -> bool:
    """Whether every late tick is in the bars."""
    return world.one("select not exists (select from late_range)") is True


def bars(api: Api) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Every bar of all symbols, of some levels."""
    ask = {"start": "2023-01-01", "limit": 10_000}
    return {(s, i): api.bars(s, i, **ask) for s in SYMBOLS for i in ("15m", "1h", "1mo")}


def check(database: str, count: int) -> None:
    """Each tick is there once, and every bar is what the oracle makes of them."""
    with sql.connect(database, "test") as connection:
        found = load.state(connection)
        assert [row[2] for row in sorted(found["ticks"], key=lambda row: row[2])] == list(range(1, count + 1))
        for interval in load.INTERVALS:
            assert found[interval] == load.truth(connection, interval), interval


@pytest.fixture
def world(postgres: Server, kafka: Server, valkey: Server, tmp_path: Path) -> Iterator[World]:
    """A topic and processes of this test's own; its databases come and go."""
    made = World("", kafka.url, valkey.url, tmp_path)
    made.topic()
    yield made
    made.close()


def use(world: World, database: str) -> None:
    """The database that processes started from now on work with."""
    world.settings = world.settings.model_copy(update={"database_url": database})


def test_a_backup_and_kafka_give_back_every_tick(
    world: World, postgres: Server, valkey: Server, tmp_path: Path
) -> None:
    folder, quick = tmp_path / "backup", {"BARWRIGHT_MAINTAIN_INTERVAL": "0.2"}
    with services.new_database(postgres.url) as database:
        use(world, database)
        migrations.upgrade(world.settings)
        roles = [world.spawn("ingest"), world.spawn("maintain", **quick)]
        feed = Feed(world)
        try:
            with serving(database, valkey.url, tmp_path / "serve.log") as api:
                eventually(lambda: landed(world) > 300, True)
                apis = [api]
                follower = Follower(apis, "S1", "1h", start="2023-01-01")
                bars(api)
                assert "positions in Kafka" in barwright(database, "backup", folder)
                backup = manifest.read(folder)
                held = sum(position.next_offset for position in backup.positions)
                # On it goes: pages of what will be lost are cached under their revisions.
                eventually(lambda: landed(world) > held + 200, True)
                future = bars(api)
                eventually(lambda: world.one("select rev from meta") > backup.rev, True)
        finally:
            count = feed.end()
        for role in roles:
            role.kill()
            role.wait()
    # The database is gone. A new one is what the old one was, and its API knows nothing of what came after.
    with services.new_database(postgres.url) as database:
        use(world, database)
        assert "epoch is renewed" in barwright(database, "restore", folder)
        assert landed(world) == held
        with serving(database, valkey.url, tmp_path / "serve-2.log") as api:
            apis[0] = api
            old = bars(api)
            assert old != future
            with sql.connect(database, "test") as connection:
                hours = load.state(connection)["1h"]
            assert sum(len(old[symbol, "1h"]) for symbol in SYMBOLS) == len(hours)
            assert sum(bar["trades"] for symbol in SYMBOLS for bar in old[symbol, "1h"]) == sum(
                hour[9] for hour in hours
            )
            world.spawn("ingest")
            world.spawn("maintain", **quick)
            eventually(lambda: (landed(world), is_repaired(world)), (count, True), 60)
            check(database, count)
            eventually(lambda: in_api(api, database), True)
            eventually(lambda: follower.store.live, True)
            follower.check(api)
            follower.end()
            assert follower.store.counts["reset"] >= 1  # ingest, too, sees that the database has gone back


def in_api(api: Api, database: str) -> bool:
    """Whether the API shows every bar that the database does."""
    with sql.connect(database, "test") as connection:
        found = load.state(connection)
    names = ("open", "high", "low", "close", "volume", "quote_volume", "vwap", "trades", "buy_volume", "imported")
    return all(
        [tuple(bar[name] for name in names) for bar in shown]
        == [row[2:] for row in found[interval] if row[0] == symbol]
        for (symbol, interval), shown in bars(api).items()
    )


@pytest.fixture(scope="module")
def folder(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of the first landed schema's data, on the newest."""
    folder = tmp_path_factory.mktemp("backup") / "backup"
    with services.new_database(postgres.url) as database:
        engine = "timescaledb" if services.timescaledb_version(postgres.url) else "postgres"
        with sql.connect(database, "test", autocommit=True) as connection:
            if engine == "timescaledb":
                connection.execute("create extension timescaledb schema public")
            load.first(connection, engine)
        migrations.upgrade(Settings(database_url=database))
        take(Settings(database_url=database), folder, 2, lambda _: None)
    return folder


def refused(database: str, folder: Path) -> str:
    """What a restore says that is refused."""
    with pytest.raises(BarwrightError) as caught:
        restore(Settings(database_url=database), folder, 2, lambda _: None)
    assert caught.value.hint or "failed" not in caught.value.message
    return caught.value.message


def test_a_backup_that_is_not_whole_is_refused(folder: Path, empty_database: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    file = max(manifest.dump_of(copy).iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert "not what was backed up" in refused(empty_database, copy)
    file.unlink()
    assert f"{file.name} missing" in refused(empty_database, copy)
    (copy / "manifest.json").unlink()
    assert "no whole backup" in refused(empty_database, copy)
    restore(Settings(database_url=empty_database), folder, 2, lambda _: None)
    assert "holds a Barwright already" in refused(empty_database, folder)


def test_a_restore_under_running_roles_is_refused(folder: Path, empty_database: str) -> None:
    with sql.connect(empty_database, "serve"):
        assert "barwright serve is connected" in refused(empty_database, folder)


def test_a_backup_is_not_laid_over_another(folder: Path, database: str) -> None:
    before = sorted(folder.rglob("*"))
    with pytest.raises(BarwrightError, match="not empty"):
        take(Settings(database_url=database), folder, 2, lambda _: None)
    assert sorted(folder.rglob("*")) == before


def test_programs_older_than_the_server_are_refused() -> None:
    assert programs.find("pg_dump", 16).major >= 16
    with pytest.raises(BarwrightError, match=r"No pg_dump of PostgreSQL 99 or newer on this machine: .* is \d+"):
        programs.find("pg_dump", 99)
