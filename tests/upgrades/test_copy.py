"""From one engine to the other: every tick, every bar, coverage, tasks, keys and positions."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from barwright import migrations, sql
from barwright.backup.copying import copy
from barwright.errors import BarwrightError
from barwright.settings import Settings
from barwright.sql.engine import engine_of, levels
from tests import services
from tests.services import Server
from tests.upgrades import load

# Coarse days before the ticks, a task, coverage and a key: what came with later revisions than the first.
LATER = """
update symbols set source = 'simulator', market = 'BTC/USD', history_source = 'simulator', history_start = '2026-09-01Z'
where symbol = 'BTCUSD';
insert into coarse_bars (symbol, "interval", bucket, open, high, low, close, volume, quote_volume, trades)
select 'BTCUSD', '1h', '2026-09-02Z'::timestamptz + n * interval '1 hour', 10 + n, 20 + n, 5, 11 + n, n, null, n
from generate_series(0, 23) as n;
insert into coarse_bars (symbol, "interval", bucket, open, high, low, close, volume, quote_volume, trades)
values ('BTCUSD', '1d', '2026-09-01Z', 1, 3, 0.5, 2, 7, 14, 3);
insert into imported_span (symbol, "interval", source, span)
values ('BTCUSD', '1h', 'simulator', '[2026-09-02Z,2026-09-03Z)');
insert into backfill_task (symbol, source, market, "interval", span, reason, status)
select 'BTCUSD', 'simulator', 'BTC/USD', '1m', tstzrange('2026-10-01Z', '2026-10-02Z'), 'gap', 'landed'
from generate_series(1, 7);
insert into api_key (kind, name, prefix, sha256, scopes) values ('key', 'me', 'bw_1', sha256('1'), '{read}');
select coarse_changed('BTCUSD', tstzrange('2026-09-01Z', '2026-09-03Z'));
"""
HELD = {
    "spans": 'select symbol, "interval", source, span from imported_span order by 1, 4',
    "tasks": "select id, symbol, span, status, filed_at from backfill_task order by id",
    "keys": "select id, name, sha256, scopes from api_key",
    "audit": "select buckets, findings from audit",
}


def pairs(url: str) -> list[tuple[str, str]]:
    """Which engines are copied into which: the WASM build has no COPY, so TimescaleDB takes part where it is real."""
    if services.timescaledb_version(url):
        return [("postgres", "timescaledb"), ("timescaledb", "postgres")]
    return [("postgres", "postgres")]


@contextmanager
def migrated(server: str, engine: str) -> Iterator[str]:
    """A database of an engine."""
    with services.new_database(server) as url:
        migrations.upgrade(Settings(database_url=url, engine=engine))
        yield url


@contextmanager
def filled(server: str, engine: str) -> Iterator[str]:
    """A database with the first landed schema's data, all of it repaired, on the newest schema."""
    with services.new_database(server) as url:
        with sql.connect(url, "test", autocommit=True) as connection:
            if engine == "timescaledb":
                connection.execute("create extension if not exists timescaledb schema public")
            load.first(connection, engine)
        migrations.upgrade(Settings(database_url=url, engine=engine))
        with sql.connect(url, "test", autocommit=True) as connection:
            connection.execute(LATER)
            load.patiently(engine_of(connection).repair)
        yield url


def test_everything_is_copied_and_goes_on(postgres: Server) -> None:
    for engine, other in pairs(postgres.url):
        with filled(postgres.url, engine) as origin, migrated(postgres.url, other) as goal:
            command = [sys.executable, "-P", "-m", "barwright", "copy", origin]
            done = subprocess.run(command, env={**os.environ, "DATABASE_URL": goal}, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            assert "every bar is the same" in done.stdout
            with sql.connect(origin, "test") as before, sql.connect(goal, "test", autocommit=True) as after:
                theirs, ours = load.state(before), load.state(after)
                for name in ("ticks", *load.INTERVALS, "offsets", "letters", "symbols", "late"):
                    assert ours[name] == theirs[name], name
                assert [row[4] for row in ours["levels"]] == [row[4] for row in theirs["levels"]]
                assert ours["meta"][0][:2] != theirs["meta"][0][:2]  # another epoch
                assert len(ours["1d"]) > len({bar[1] for bar in ours["1d"]}) > 8
                for query in HELD.values():
                    assert after.execute(query).fetchall() == before.execute(query).fetchall(), query
                # It goes on: the next of each number is free, and what was open is closed.
                after.execute("insert into backfill_task (symbol, source, market, \"interval\", span, reason) "
                              "values ('A', 's', 'm', '1m', '[2026-01-01Z,2026-01-02Z)', 'gap')")  # fmt: skip
                after.execute("select move_seal('2026-11-20Z')")
                for level in levels(after):
                    load.patiently(engine_of(after).advance, level.name)
                assert load.state(after)["1m"] == load.truth(after, "1m")
            with pytest.raises(BarwrightError, match="has ticks or symbols already"):
                copy(origin, Settings(database_url=goal), lambda _: None)


def test_bars_whose_ticks_were_dropped_are_copied_as_they_are(postgres: Server) -> None:
    for engine, other in pairs(postgres.url):
        with filled(postgres.url, engine) as origin, migrated(postgres.url, other) as goal:
            with sql.connect(origin, "test", autocommit=True) as connection:
                before = load.state(connection)
                keep = "update policy set keep = now() - '2026-11-02 07:00Z'::timestamptz where name = 'ticks'"
                connection.execute(keep)
                assert connection.execute("select drop_ticks()").fetchone() != (0,)
                since = connection.execute("select since from policy where name = 'ticks'").fetchone()
            copy(origin, Settings(database_url=goal), lambda _: None)
            with sql.connect(goal, "test", autocommit=True) as connection:
                after = load.state(connection)
                assert since == connection.execute("select since from policy where name = 'ticks'").fetchone()
                assert min(tick[1] for tick in after["ticks"]) >= datetime(2026, 11, 2, tzinfo=UTC)
                assert {name: after[name] for name in load.INTERVALS} == {name: before[name] for name in load.INTERVALS}


def test_what_does_not_fit_is_refused(postgres: Server, empty_database: str) -> None:
    engine, other = pairs(postgres.url)[0]
    with filled(postgres.url, engine) as origin:
        goal = Settings(database_url=empty_database, engine=other)
        with pytest.raises(BarwrightError, match="not migrated"):
            copy(origin, goal, lambda _: None)
        migrations.upgrade(goal, "0003")
        with sql.connect(origin, "test", autocommit=True) as connection:
            connection.execute("insert into late_range (symbol, span) values ('A', '[2026-01-01Z,2026-01-02Z)')")
        with pytest.raises(BarwrightError, match=r"schemas differ|1 late ranges"):
            copy(origin, goal, lambda _: None)
