"""`alembic upgrade head` on an empty database, twice, at once, from a wheel; and the servers it refuses."""

import os
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from barwright import sql
from barwright.errors import BarwrightError
from barwright.migrations import downgrade, upgrade
from barwright.migrations.server import Server, choose
from barwright.settings import Settings
from barwright.sql.engine import engine_of
from tests.services import ROOT
from tests.upgrades.load import patiently

OBJECTS = """
select n.nspname, c.relname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where n.nspname not in ('pg_toast', '_timescaledb_catalog', '_timescaledb_internal') and n.nspname !~ '^pg_temp'
union all select nspname, null from pg_namespace where nspname !~ '^pg_(toast_)?temp'
union all select 'setting', array_to_string(setconfig, ',') from pg_db_role_setting as s
join pg_database as d on d.oid = s.setdatabase where d.datname = current_database()
order by 1, 2
"""


def objects(dsn: str) -> list[tuple[Any, ...]]:
    """Everything a database holds, by schema and name, and its settings."""
    with psycopg.connect(dsn) as connection:
        return connection.execute(OBJECTS).fetchall()


def extension(dsn: str) -> None:
    """The TimescaleDB extension, where the server has it: it is the server's and stays."""
    with psycopg.connect(dsn) as connection:
        preloaded = connection.execute("select current_setting('shared_preload_libraries')").fetchone()
        if preloaded and "timescaledb" in preloaded[0]:
            connection.execute("create extension if not exists timescaledb")


def test_upgrade_twice_then_downgrade_leaves_nothing(empty_database: str) -> None:
    extension(empty_database)
    before = objects(empty_database)
    settings = Settings(database_url=empty_database)
    upgrade(settings)
    made = objects(empty_database)
    upgrade(settings)
    assert objects(empty_database) == made
    assert ("barwright", "ohlcv_1mo") in made
    downgrade(settings)
    assert objects(empty_database) == before


DEFINITIONS = """
select oid::regprocedure::text, pg_get_functiondef(oid) from pg_proc
where pronamespace = 'barwright'::regnamespace and prokind = 'f'
union all
select oid::regclass::text, pg_get_viewdef(oid) from pg_class
where relnamespace = 'barwright'::regnamespace and relkind = 'v' and relname !~ '^(ohlcv|live)_'
order by 1, 2
"""


def test_a_downgrade_brings_back_what_the_newest_revision_replaced(empty_database: str) -> None:
    settings = Settings(database_url=empty_database)
    upgrade(settings, "0006")
    with psycopg.connect(empty_database, autocommit=True) as connection:
        before = connection.execute(DEFINITIONS).fetchall()
        upgrade(settings)
        assert connection.execute(DEFINITIONS).fetchall() != before
        downgrade(settings, "0006")
        assert connection.execute(DEFINITIONS).fetchall() == before


def test_two_at_once_are_safe(empty_database: str) -> None:
    settings = Settings(database_url=empty_database)
    with ThreadPoolExecutor(4) as threads:
        command = [sys.executable, "-m", "alembic", "upgrade", "head"]
        env = {**os.environ, "DATABASE_URL": empty_database}
        runs = list(threads.map(lambda _: subprocess.run(command, cwd=ROOT, env=env, capture_output=True), range(4)))
    assert [run.returncode for run in runs] == [0] * 4, [run.stderr for run in runs]
    downgrade(settings)


def test_an_installed_wheel_migrates_outside_the_checkout(empty_database: str, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT]
    subprocess.run(build, check=True)
    zipfile.ZipFile(next(tmp_path.glob("*.whl"))).extractall(tmp_path / "site")
    assert (tmp_path / "site/barwright/api/web/dist/index.html").exists()  # of `make pages`
    env = {**os.environ, "DATABASE_URL": empty_database, "PYTHONPATH": str(tmp_path / "site")}
    where = "import barwright.migrations as m; print(m.__file__)"
    found = subprocess.run([sys.executable, "-c", where], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert found.stdout.startswith(str(tmp_path)), found
    asked = subprocess.run(
        [sys.executable, "-m", "barwright", "migrate", "--ini"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    ini = asked.stdout.strip()
    assert ini.startswith(str(tmp_path))
    subprocess.run([sys.executable, "-m", "alembic", "-c", ini, "upgrade", "head"], cwd=tmp_path, env=env, check=True)
    assert ("barwright", "ohlcv_1m") in objects(empty_database)


def test_a_psql_user_finds_the_bars_without_a_schema_name(database: str) -> None:
    with psycopg.connect(database) as connection:
        assert connection.execute("select count(*) from ohlcv_1m").fetchone() == (0,)


def test_every_view_and_table_says_what_it_is(database: str) -> None:
    with psycopg.connect(database) as connection:
        silent = connection.execute(
            "select relname from pg_class where relnamespace = 'barwright'::regnamespace and not relispartition "
            "and relkind in ('r', 'p', 'v') and relname !~ '^(live|rollup)_|^alembic' and obj_description(oid) is null"
        )
        assert silent.fetchall() == []


def test_real_time_aggregation_is_stated(database: str) -> None:
    with psycopg.connect(database) as connection:
        engine = connection.execute("select engine from meta").fetchone()
        if engine != ("timescaledb",):
            pytest.skip("the postgres engine has no continuous aggregates; name a TimescaleDB server by DATABASE_URL")
        rows = connection.execute("select materialized_only from timescaledb_information.continuous_aggregates")
        assert rows.fetchall() == [(False,)] * 7


@pytest.mark.parametrize(
    ("server", "wanted", "says"),
    [
        (Server(150004, None, None), "auto", "PostgreSQL 15 is too old"),
        (Server(180006, None, None), "timescaledb", "no TimescaleDB"),
        (Server(180006, "2.29.2", "apache"), "auto", "Apache edition"),
        (Server(180006, "2.23.0", "timescale"), "auto", "can lose data"),
        (Server(180006, "2.28.3-dev", "timescale"), "timescaledb", "can lose data"),
    ],
)
def test_servers_that_would_lose_data_are_refused(server: Server, wanted: str, says: str) -> None:
    with pytest.raises(BarwrightError, match=says) as caught:
        choose(server, wanted, "2.29.2")
    assert caught.value.hint


def test_the_engine_is_chosen_by_what_the_server_offers() -> None:
    assert choose(Server(160000, None, None), "auto", "2.29.2") == "postgres"
    assert choose(Server(180006, "2.29.2", "timescale"), "auto", "2.29.2") == "timescaledb"
    assert choose(Server(180006, "2.30.0-dev", "timescale"), "timescaledb", "2.29.2") == "timescaledb"
    assert choose(Server(180006, "2.29.2", "apache"), "postgres", "2.29.2") == "postgres"


def test_a_database_with_bars_takes_history_on_and_off_again(empty_database: str) -> None:
    """From the first revision with ticks landed and rolled up, to the newest and back: the bars stay what they are."""
    extension(empty_database)
    settings = Settings(database_url=empty_database)
    upgrade(settings, "0001")
    fill = """
        insert into ticks (symbol, ts, seq, price, size)
        select 'A', date_trunc('day', now()) - interval '3 days' + n * interval '1 minute', n, 100 + n % 7, 1
        from generate_series(0, 3000) as n
    """
    totals = """
        select (select sum(volume) from ohlcv_1h), (select sum(volume) from ohlcv_1mo), (select max(high) from ohlcv_1d)
    """
    with sql.connect(empty_database, "test", autocommit=True) as connection:
        connection.execute("insert into symbols (symbol, seq_rule) values ('A', 'id')")
        connection.execute("select prepare_ticks(array[now(), now() - interval '7 days'])")
        connection.execute(fill)
        connection.execute(
            "insert into late_range (symbol, span) values ('A', tstzrange(now() - interval '4 days', now()))"
        )
    for step in ("head", "0001", "head"):
        downgrade(settings, step) if step == "0001" else upgrade(settings, step)
        with sql.connect(empty_database, "test", autocommit=True) as connection:
            if step == "head":
                patiently(engine_of(connection).repair)
            assert connection.execute(totals).fetchone() == (3001, 3001, 106)
