"""A backup and Kafka give back every tick and every bar; what was cached of the lost time never comes alive."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from barwright import migrations, sql
from barwright.backup import manifest, programs
from barwright.backup.restore import restore
from barwright.backup.take import take
from barwright.errors import BarwrightError
from barwright.settings import Settings
from tests import services
from tests.api.conftest import serving
from tests.api.streams import Follower
from tests.ingest.conftest import World, eventually
from tests.services import Server
from tests.upgrades import load
from tests.upgrades.feed import SYMBOLS, Feed, bars, check, in_api, is_repaired, landed


def barwright(world: World, *words: str | Path) -> str:
    """Run a command; what it says."""
    servers = {
        "DATABASE_URL": world.settings.database_url,
        "KAFKA_BOOTSTRAP_SERVERS": world.settings.kafka_bootstrap_servers,
    }
    command = [sys.executable, "-P", "-m", "barwright", *words]
    done = subprocess.run(command, env={**os.environ, **servers, "COLUMNS": "150"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


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
                assert "positions in Kafka" in barwright(world, "backup", folder)
                backup = manifest.read(folder)
                held = sum(position.next_offset for position in backup.positions)
                # On it goes: pages of what will be lost are cached under their revisions.
                eventually(lambda: landed(world) > held + 200, True)
                future = bars(api)
                eventually(lambda: world.one("select rev from meta") > backup.rev, True)
                epoch = world.one("select epoch from meta")
        finally:
            count = feed.end()
        for role in roles:
            role.kill()
            role.wait()
    # The database is gone. A new one is what the old one was, and its API knows nothing of what came after.
    with services.new_database(postgres.url) as database:
        use(world, database)
        said = barwright(world, "restore", folder)
        assert "epoch is renewed" in said
        told = [[cell.strip() for cell in line.split("│")[3:6]] for line in said.splitlines() if "│" in line]
        assert sum(int(reads_on.replace(",", "")) for reads_on, _, _ in told) == held
        assert sum(int(to_come.replace(",", "")) for _, to_come, _ in told) == count - held
        assert {lost for _, _, lost in told} == {"0"}
        assert landed(world) == held
        assert world.one("select epoch from meta") != epoch
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


def test_a_manifest_cut_short_or_of_a_newer_schema_is_refused(
    folder: Path, empty_database: str, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    file = copy / "manifest.json"
    whole = file.read_text()
    file.write_text(whole[: len(whole) // 2])
    assert "not a manifest of this Barwright" in refused(empty_database, copy)
    file.write_text(whole.replace(f'"revision": "{manifest.read(folder).revision}"', '"revision": "9999"'))
    assert "revision 9999, which this Barwright does not know" in refused(empty_database, copy)
    with sql.connect(empty_database, "test") as connection:
        assert connection.execute("select to_regnamespace('barwright')").fetchone() == (None,)


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
