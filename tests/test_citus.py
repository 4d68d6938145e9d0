"""The engine postgres on Citus: rows on the workers by symbol, one node for one symbol, and nothing computed too early.

Run where DATABASE_URL names the coordinator of a cluster; every other test of the engine runs there too.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from psycopg.conninfo import make_conninfo

from barwright import cli, migrations, sql
from barwright.settings import Settings
from barwright.sql.engine import Citus, engine_of
from tests import citus, services
from tests.services import Server
from tests.sql.market import Market

# Without the partitions of the ticks.
DISTRIBUTED = "select count(*) from citus_tables where table_name::text !~ 'ticks_'"


@pytest.fixture
def cluster(postgres: Server) -> list[citus.Node]:
    """The nodes, the coordinator first."""
    found = citus.nodes(postgres.url)
    if len(found) < 2:
        pytest.skip("DATABASE_URL names no Citus cluster with workers")
    return found


@contextmanager
def worker(database: str, cluster: list[citus.Node]) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the first worker's part of a database."""
    host, port = cluster[1]
    with psycopg.connect(make_conninfo(database, host=host, port=port), autocommit=True) as connection:
        yield connection


def plan(connection: psycopg.Connection[Any], query: str) -> str:
    """How Citus would run a query."""
    return "\n".join(line for (line,) in connection.execute(f"explain (costs off) {query}"))


def test_rows_lie_on_the_workers_and_one_symbol_on_one_of_them(cluster: list[citus.Node], database: str) -> None:
    with sql.connect(database, "test", autocommit=True) as connection:
        market = Market(connection)
        kinds = dict(connection.execute("select table_name::text, citus_table_type from citus_tables").fetchall())
        assert kinds.pop("level") == "reference"
        assert set(kinds) == {"ticks", *(f"rollup_{level}" for level in ("1m", "5m", "15m", "30m", "1h", "4h", "1d"))}
        assert set(kinds.values()) == {"distributed"}
        market.insert(*(market.trade(f"01-01 00:0{n}:01", "1", symbol=f"S{n}") for n in range(8)))
        market.seal("01-02 00:00")
        market.check()
        one = plan(connection, "select * from ohlcv_1mo where symbol = 'S1' and bucket > now() - interval '1 year'")
        assert "Task Count: 1\n" in one
        rolled = plan(connection, "insert into rollup_5m select symbol, bucket, open, high, low, close, volume, "
                                  "quote_volume, trades, buy_volume, imported from rollup_1m")  # fmt: skip
        assert "pulled to coordinator" not in rolled
        said = connection.execute(sql.queries("run")["engine"]).fetchone()
        assert said
        assert f"on Citus {citus.version(database)} with {len(cluster) - 1} workers" in said[0]


def test_a_filled_database_is_distributed_when_it_gets_workers(cluster: list[citus.Node], postgres: Server) -> None:
    """Workers are added long after the installation: the rows move, every bar stays, and it goes on."""
    with services.new_database(postgres.url) as url, sql.connect(url, "test", autocommit=True) as connection:
        for host, port in cluster[1:]:
            connection.execute("select citus_remove_node(%s, %s)", (host, port))
        migrations.upgrade(Settings(database_url=url))
        assert connection.execute(DISTRIBUTED).fetchone() == (0,)
        market = Market(connection)
        market.insert(*(market.trade(f"03-0{day} 00:07:01", str(day), symbol=f"S{day}") for day in range(1, 9)))
        market.seal("03-05 00:00")
        for host, port in cluster[1:]:
            connection.execute("select citus_add_node(%s, %s)", (host, port))
        migrations.upgrade(Settings(database_url=url))
        assert connection.execute(DISTRIBUTED).fetchone() == (9,)
        assert connection.execute("select pg_relation_size('rollup_1m')").fetchone() == (0,)
        market.check()
        market.insert(market.trade("03-01 00:07:02", "9", symbol="S1"), market.trade("04-01 00:00:01", "4"))
        assert market.repair() == 1
        market.seal("04-02 00:00")
        market.check()


def test_storage_tells_what_all_nodes_take(
    cluster: list[citus.Node], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    with sql.connect(database, "test", autocommit=True) as connection:
        market = Market(connection)
        market.insert(*(market.trade(f"01-01 00:00:{n % 60:02}", "1", symbol=f"S{n % 20}") for n in range(600)))
        market.seal("01-02 00:00")
        citus.analyze(connection)
        # What Citus itself says of its workers, and the empty tables of the coordinator.
        sizes = "select sum(citus_total_relation_size({0})), sum(pg_total_relation_size({0})) from {1}"
        partition = "pg_partition_tree('ticks') where isleaf"
        [ticks] = connection.execute(sizes.format("relid", partition)).fetchall()  # type: ignore[arg-type]
        [minutes] = connection.execute(sizes.format("'rollup_1m'", "meta")).fetchall()  # type: ignore[arg-type]
    done = CliRunner().invoke(cli.cli, ["storage", "--json"])
    assert done.exit_code == 0, done.output
    rows = {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert (rows["ticks"]["rows"], rows["1m"]["rows"], rows["1d"]["rows"]) == (600, 20, 20)
    for name, (workers, coordinator) in (("ticks", ticks), ("1m", minutes)):
        assert rows[name]["bytes"] == workers + coordinator
        assert workers > 3 * coordinator
        assert workers > rows[name]["index_bytes"] > coordinator
    # Less than all is not told as all.
    with sql.connect(database, "test", autocommit=True) as connection:
        connection.execute("update pg_dist_node set nodeport = 1 where nodeport = %s", (cluster[1][1],))
    done = CliRunner().invoke(cli.cli, ["storage"])
    assert "a worker is away" in str(done.exception)
    with sql.connect(database, "test", autocommit=True) as connection:
        connection.execute("update pg_dist_node set nodeport = %s where nodeport = 1", (cluster[1][1],))


def test_doctor_finds_nothing_wrong_with_the_rights_there(cluster: list[citus.Node], database: str) -> None:
    with sql.connect(database, "test") as connection:
        prefix = {"prefix": Settings().role_prefix}
        assert connection.execute(sql.queries("doctor")["privileges"], prefix).fetchall() == []


def test_nothing_is_rolled_up_or_told_while_a_worker_has_not_finished_a_commit(
    cluster: list[citus.Node], database: str
) -> None:
    """What a dead worker left undecided is in no rollup yet, so the watermark must not pass it."""
    with sql.connect(database, "test", autocommit=True) as connection, worker(database, cluster) as node:
        market = Market(connection)
        assert isinstance(engine_of(connection), Citus)
        market.insert(market.trade("01-01 00:00:01", "1"))
        for statement in ("begin", "select pg_current_xact_id()", "prepare transaction 'undecided'"):
            node.execute(statement)
        late = threading.Timer(0.5, lambda: node.execute("rollback prepared 'undecided'"))
        late.start()
        began = time.monotonic()
        market.seal("01-01 01:00")
        assert time.monotonic() - began >= 0.5
        market.check()
        late.join()
        market.insert(market.trade("01-01 00:00:02", "3"))
        before = connection.execute("select rev from meta").fetchone()
        ids = connection.execute("select begin_repair()").fetchone()
        # The bars are right before anyone is told that they changed.
        market.check()
        assert connection.execute("select rev, (select count(*) from late_range) from meta").fetchone() == (
            *(before or ()),
            1,
        )
        connection.execute("select finish_repair(%s)", ids)
        assert connection.execute("select count(*) from late_range").fetchone() == (0,)
