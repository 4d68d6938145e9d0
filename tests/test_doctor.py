"""`barwright doctor` and `status` beside a real `barwright run`: nothing is wrong, and each planted fault is named."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from psycopg.conninfo import make_conninfo

from barwright import instance, migrations
from barwright.commands import status
from barwright.doctor import database, setup
from barwright.doctor.examination import Examination, examine
from barwright.doctor.finding import Finding
from barwright.doctor.look import Server, look
from barwright.ingest.kafka import producer
from barwright.settings import Settings
from tests import services
from tests.test_cli import SERVERS
from tests.test_run import Running, wait_for, whole

Sql = Callable[[str], Any]
# In two steps: Citus lets no update of a table that is on every node compute a time from its columns.
MOVE = """
do $$
declare
    moved timestamptz := (select watermark + interval 'DAYS days' from level where name = '1d');
begin
    update level set watermark = moved where name = '1d';
end
$$
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A whole Barwright, stopped afterwards."""
    with whole(tmp_path_factory.mktemp("doctor")) as running:
        yield running


@pytest.fixture
def settings(running: Running, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Attached to it, as the commands are."""
    for name in SERVERS:  # for where the environment says otherwise, that holds
        monkeypatch.delenv(name, raising=False)
    return instance.attach(Settings(home=running.home / "state"))


@pytest.fixture
def sql(settings: Settings) -> Iterator[Sql]:
    """Does something to its database, as the server's owner."""
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        connection.execute("set search_path = barwright")
        yield connection.execute


@contextmanager
def planted(sql: Sql, fault: str, cure: str) -> Iterator[None]:
    sql(fault)
    try:
        yield
    finally:
        sql(cure)


def named(found: Examination, what: str, said: str) -> Finding:
    """The one finding about something that says so, and tells what to do."""
    (finding,) = [each for each in found.findings if each.what == what and said in each.said and each.state != "well"]
    assert finding.todo
    return finding


def test_nothing_is_wrong_with_what_runs(running: Running, settings: Settings) -> None:
    prefix = settings.role_prefix
    code, output, errors = running.ask("doctor")
    assert (code, errors) == (0, ""), output
    assert output.endswith("no problem\n")
    code, output, _ = running.ask("status", "--json")
    told = json.loads(output)
    assert (code, told["verdict"], told["findings"]) == (0, "well", [])
    assert all(role["running"] for role in told["roles"].values())
    assert told["roles"]["ingest"]["users"] == [f"{prefix}_ingest"]
    assert told["levels"]["1m"]["watermark_overdue"] < 30
    assert list(told["levels"]) == ["1m", "5m", "15m", "30m", "1h", "4h", "1d"]  # whichever was written last
    code, output, _ = running.ask("status")
    assert code == 0
    for word in (f"engine    {told['engine']}", f"{prefix}_maintain", "4h", "no problem"):
        assert word in output


@pytest.mark.parametrize(
    ("fault", "cure", "what", "said"),
    [
        ("revoke insert on ticks from {prefix}_ingest", "grant insert on ticks to {prefix}_ingest",
         "privileges", "{prefix}_ingest may not insert ticks"),
        ("grant select on ticks to {prefix}_read", "revoke select on ticks from {prefix}_read",
         "privileges", "{prefix}_read may, and must not, select ticks"),
        ("update meta set engine = 'timescaledb'", "update meta set engine = 'postgres'",
         "edition", "built on TimescaleDB, and the server has none"),
        (MOVE.replace("DAYS", "3"), MOVE.replace("DAYS", "-3"), "watermark", "ahead of the clock"),
        ("grant select on dead_letter to {prefix}_read", "revoke select on dead_letter from {prefix}_read",
         "privileges", "{prefix}_read may, and must not, select dead_letter"),
        ("update alembic_version set version_num = '0003'", "update alembic_version set version_num = '{newest}'",
         "schema", "Its revision is 0003"),
        ("update alembic_version set version_num = '9999'", "update alembic_version set version_num = '{newest}'",
         "schema", "newer than this Barwright"),
        ("update ingest_offset set skipped = 7 where partition = 0", "update ingest_offset set skipped = 0",
         "ingest", "records were gone from Kafka"),
        ("insert into dead_letter values (gen_random_uuid(), 0, 0, 0, 't', now(), 'price: none', '')",
         "delete from dead_letter", "dead letters", "1 in the last hour (1 in all), the newest: price: none"),
    ],
)  # fmt: skip
def test_a_fault_in_the_database(sql: Sql, settings: Settings, fault: str, cure: str, what: str, said: str) -> None:
    newest, engine = sql("select version_num, engine from alembic_version, meta").fetchone()
    if what == "edition" and engine == "timescaledb":
        pytest.skip("this server has it")
    if "select ticks" in said and sql("select to_regclass('pg_dist_node') is not null").fetchone() == (True,):
        pytest.skip("Citus' workers know no views: there who reads bars reads ticks")
    fault, cure, said = (text.format(newest=newest, prefix=settings.role_prefix) for text in (fault, cure, said))
    with planted(sql, fault, cure):
        assert named(examine(settings), what, said).state == "problem"


def test_bars_that_differ_from_their_ticks(sql: Sql, settings: Settings) -> None:
    columns = 'symbol, "interval", bucket, expected, found'
    wrong = f"insert into audit_finding ({columns}) values ('X', '1m', now(), '1', '1')"
    # Held, or maintain, which runs, says of it within seconds that it is repaired.
    held = "begin; select from audit_finding for update"
    with planted(sql, wrong, "delete from audit_finding"), planted(sql, held, "commit"):
        assert named(examine(settings), "auditor", "1 bars differ from their ticks").state == "problem"


def test_topics_that_do_not_keep_ticks(settings: Settings) -> None:
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    try:
        for name, value, said in (
            ("retention.ms", "600000", "keeps messages for 0.2 h"), ("cleanup.policy", "compact", "is compacted"),
        ):  # fmt: skip
            topic = ConfigResource(ConfigResourceType.TOPIC, settings.tick_topic, {name: value})
            admin.alter_configs([topic])
            assert named(examine(settings), "kafka", said).state == "problem"
            admin.reset_configs([ConfigResource(ConfigResourceType.TOPIC, settings.tick_topic, {name: None})])
    finally:
        admin.close()


def test_a_clock_that_is_wrong(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    right = time.time
    monkeypatch.setattr(database.time, "time", lambda: right() - 3)
    assert named(examine(settings), "clock", "3.0 s ahead of this machine's").state == "problem"


@pytest.mark.parametrize(
    ("update", "what", "said"),
    [
        ({"database_url": "postgresql://127.0.0.1:1/none"}, "database", "Connection refused"),
        ({"kafka_bootstrap_servers": "127.0.0.1:1"}, "kafka", "No Kafka broker answers at 127.0.0.1:1"),
        ({"redis_url": "redis://127.0.0.1:1"}, "redis", "It does not answer"),
        ({"page_ttl": 8 * 86_400}, "settings", "BARWRIGHT_PAGE_TTL=691200"),
        ({"host": "0.0.0.0", "keys": "off"}, "settings", "0.0.0.0"),
    ],
)
def test_settings_that_are_wrong(settings: Settings, update: dict[str, Any], what: str, said: str) -> None:
    named(examine(settings.model_copy(update=update)), what, said)


def test_a_disk_that_is_full(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup.shutil, "disk_usage", lambda _: (100e9, 99e9, 1e9))
    assert [(finding.state, finding.said[:14]) for finding in setup.disk(settings)] == [("problem", "1.0 of 100.0 G")]


@pytest.mark.parametrize(
    ("server", "what", "said"),
    [
        ({"engine": "timescaledb", "timescaledb": "2.29.2", "edition": "apache"}, "edition", "Apache edition"),
        ({"engine": "timescaledb", "timescaledb": "2.28.1", "edition": "timescale"}, "version", "can lose data"),
        ({"number": 150_004, "postgres": "15.4"}, "database", "15.4 is too old"),
        ({"is_standby": True}, "database", "standby"),
    ],
)
def test_a_server_that_does_not_fit(settings: Settings, server: dict[str, Any], what: str, said: str) -> None:
    fit = Server("postgres", 180_006, "18.6", None, None, "0004", 0.0, False, "me", 1, 100, "C", False)
    assert not [each for each in database.fitness(fit, settings) if each.state != "well"]
    found = Examination([*database.fitness(fit._replace(**server), settings)], None, None)
    named(found, what, said)


@pytest.mark.parametrize(
    ("name", "state"),
    [("C", "well"), ("POSIX", "well"), ("C.UTF-8", "well"), ("C.utf8", "well"), ("en_US.UTF-8", "warning")],
)
def test_a_collation_that_slows_down(name: str, state: str) -> None:
    server = Server("postgres", 180_006, "18.6", None, None, "0004", 0.0, False, "me", 1, 100, name, False)
    (found,) = database.collation(server)
    assert (found.state, found.what) == (state, "collation")


def test_a_collation_that_has_changed(postgres: services.Server) -> None:
    name = f"test_{uuid4().hex[:12]}"
    locale = "template template0 locale_provider builtin builtin_locale 'C.UTF-8' locale 'C'"
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        if admin.info.server_version < 170_000:
            pytest.skip("PostgreSQL before 17 has no collations of its own")
        admin.execute(f"create database {name} {locale}")
        try:
            _told_until_reindexed(make_conninfo(postgres.url, dbname=name), name)
        finally:
            admin.execute(f"drop database {name} with (force)")


def _told_until_reindexed(url: str, name: str) -> None:
    def found() -> Finding:
        return next(database.collation(look(connection).server))

    migrations.upgrade(Settings(database_url=url))
    with psycopg.connect(url, autocommit=True) as connection:
        assert (found().state, found().said) == ("well", "C.UTF-8")
        connection.execute("update pg_database set datcollversion = '0' where datname = current_database()")
        assert found().state == "problem"
        assert "a tick may land twice" in found().said
        # What it says to do.
        connection.execute(f"reindex database {name}")
        connection.execute(f"alter database {name} refresh collation version")
        assert found().state == "well"


def test_what_has_stopped_and_what_piles_up(running: Running, settings: Settings, sql: Sql) -> None:
    supervisor = running.process
    supervisor.send_signal(signal.SIGSTOP)  # it would start them again
    try:
        for process in running.working_in("roles/maintain", "roles/ingest", "valkey"):
            process.kill()
        sql("select register_symbol('OLDUSD', 'none', 'X', 'X', 'Y', now() - interval '1 day', 'none', '1 min', true)")
        sql("update symbols set registered_at = now() - interval '1 hour' where symbol = 'OLDUSD'")
        sender = producer(settings)
        for n in range(30_000):
            trade = {"type": "trade", "symbol": "FULL", "ts": 1_700_000_000_000 + n, "id": n, "price": "1", "size": "1"}
            sender.send(settings.tick_topic, key=b"FULL", value=json.dumps(trade).encode())
        sender.close()
        wait_for(lambda: {"maintain", "ingest"} <= {finding.what for finding in examine(settings).problems}, 10)
        found = examine(settings)
        named(found, "maintain", "bars are not closed")
        named(found, "ingest", "nothing lands in the database")
        named(found, "kafka", "is full of what has not landed (30,")
        named(found, "redis", "It does not answer")
        named(found, "gaps", "the oldest for 60 min")
        assert status.told(found)["verdict"] == "problem"
    finally:
        supervisor.send_signal(signal.SIGCONT)
    sql("select purge_symbol('OLDUSD')")
    wait_for(lambda: sql("select count(*) from ticks where symbol = 'FULL'").fetchone() == (30_000,), 60)
    wait_for(lambda: not examine(settings).problems, 60)
