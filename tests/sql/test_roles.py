"""What each database role may and may not do, tried as that role, on both engines."""

import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from barwright import sql
from barwright.ingest import policies
from barwright.settings import Settings
from barwright.sql import roles
from barwright.sql.engine import engine_of, levels
from barwright.sql.roles import LOGINS
from tests import citus
from tests.sql.market import INSERT, Market

Connection = psycopg.Connection[Any]
Login = Callable[[str], AbstractContextManager[Connection]]

BARS = [f"ohlcv_{interval}" for interval in ("1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w", "1mo")]
# On TimescaleDB, of maintain: it alone may refresh them.
AGGREGATES = {"ohlcv_1m", "ohlcv_5m", "ohlcv_15m", "ohlcv_30m", "cagg_1h", "cagg_4h", "cagg_1d"}
SEEN = ["policy", "meta", "alembic_version", "level", "symbols", "ingest_offset", "backfill_task", "coverage", "gaps"]

# What each role may do to tables and views: s(elect), i(nsert), u(pdate), d(elete), of any column at all.
TABLES: dict[str, dict[str, str]] = {
    "feed": {**dict.fromkeys(SEEN, "s"), "ingest_offset": "sd", "actor": "siud"},
    "ingest": {
        **dict.fromkeys([*SEEN, "imported_span", "uncovered"], "s"),
        "ticks": "siu",
        "symbols": "siu",
        "ingest_offset": "siu",
        "dead_letter": "siu",
        "late_range": "si",
        "live_session": "su",
        "actor": "siud",
    },
    "maintain": {
        **dict.fromkeys([*SEEN, *BARS, "imported_span", "uncovered", "ticks", "coarse_bars", "settled_day"], "s"),
        "audit": "s",
        "audit_finding": "s",
        "level": "su",
        "late_range": "si",
        "revision": "sd",
        "purged": "sd",
        "live_session": "sid",
        "backfill_task": "sd",
        "actor": "siud",
    },
    "api": {
        **dict.fromkeys([*SEEN, *BARS, "imported_span", "uncovered", "ticks", "late_range", "revision"], "s"),
        "live_session": "s",
        "audit": "s",
        "audit_finding": "s",
        "api_key": "su",
        "actor": "siud",
    },
    "read": dict.fromkeys([*BARS, "level", "symbols", "coverage", "gaps"], "s"),
}

_ALL = {"vwap", "watermark", "missing", "history_bound", "whole_minutes"}
_PROCESS = _ALL | {"computable_from", "storage", "workers", "newest_tick", "newest_minute", "newest_bar",
                   "newest_ticks", "newest_minutes", "newest_bars"}  # fmt: skip
# What each role may call.
FUNCTIONS: dict[str, set[str]] = {
    "feed": _PROCESS | {"hold_symbol", "claim_task", "renew_task", "advance_task", "fail_task", "coarsen"},
    "ingest": _PROCESS | {
        "hold_seal", "late_below", "prepare_ticks", "renew_epoch", "land_session", "cut", "kept_live", "has_bars",
        "lock_tasks", "land_import", "land_coarse",
    },
    "maintain": _PROCESS | {
        "late_below", "move_seal", "materialized_until", "advance", "repair_history", "finish_history", "file_tasks",
        "file_corrections",
        "begin_repair", "finish_repair", "settle", "finish_tasks", "finish_findings",
        "audit_bucket", "audit_sample", "day_floor",
        "apply_policies", "set_refresh_floor", "compressible", "compress_ticks", "compress_bars", "drop_ticks",
        "drop_bars", "droppable_chunks", "droppable_until", "note_dropped", "forget_purged", "aggregate_of",
        "hypertable_of", "chunks_of", "extension_schema",
    },
    "api": _PROCESS | {
        "late_below", "covered_live", "hold_symbol", "register_symbol", "stop_symbol", "purge_symbol", "file_tasks",
        "request_tasks", "make_key", "redeem_link",
    },
    "read": _ALL,
}  # fmt: skip

# On Citus, whose workers know no views, and where land_import runs as ingest.
ROLLUPS = ("1m", "5m", "15m", "30m", "1h", "4h", "1d")
CITUS_BARS = dict.fromkeys(["ticks", "level", *(f"rollup_{level}" for level in ROLLUPS)], "s")
CITUS_TABLES: dict[str, dict[str, str]] = {
    **dict.fromkeys(("maintain", "api", "read"), CITUS_BARS),
    "ingest": {"ticks": "d", "backfill_task": "u", "coarse_bars": "s", "settled_day": "si"},
}
CITUS_FUNCTIONS = {"ingest": {"prove", "covered", "day_floor", "day_ceil"}}

# What no role may: {other} is another role, {me} the one that tries.
FORBIDDEN = [
    "create table t ()",
    "create table public.t ()",
    "create view v as select 1",
    "create function f() returns integer language sql return 1",
    "create schema mine",
    "create extension pg_trgm",
    "create role mine",
    "create trigger t before insert on ticks for each row execute function suppress_redundant_updates_trigger()",
    "create index on ticks (price)",
    "create policy p on symbols",
    "create publication p for table ticks",
    "drop schema barwright cascade",
    "alter schema barwright rename to mine",
    "drop function vwap",
    "alter function vwap strict",
    "create or replace function hold_seal() returns void language sql begin atomic end",
    "comment on table ticks is ''",
    # A grant that is not one's to make may be no more than a warning.
    "grant select on ticks to public; "
    "do 'begin if (select relacl::text !~ ''[{{,]='' from pg_class where oid = ''ticks''::regclass) "
    "then raise insufficient_privilege; end if; end'",
    "grant {other} to {me}",
    "grant {owner} to {me}",
    "set local role {other}",
    "set local role {owner}",
    "set local session authorization {other}",
    "alter role {me} superuser",
    "alter role {me} createrole",
    "alter role {me} connection limit -1",
    "alter role {other} password 'mine'",
    "alter role {owner} login",
    "alter database {database} set search_path = public",
    "set local session_replication_role = replica",
    "lock table api_key in exclusive mode",
    "lock table meta in exclusive mode",
    "copy (select 1) to program 'true'",
    "copy (select 1) to '/tmp/barwright-roles'",
    "create temp table t (line text); copy t from '/etc/passwd'",
    "select pg_read_file('/etc/passwd')",
    "select pg_ls_dir('/')",
    "select * from pg_authid",
    "select pg_terminate_backend(pid) from pg_stat_activity where usename <> current_user and usename is not null",
    "select lo_import('/etc/passwd')",
    "select pg_reload_conf()",
    "select prepare_ticks('{{infinity}}') from pg_class where false",
    "delete from ticks",
    "truncate revision",
]
# There, too: what the extension offers to everybody, on what is not one's own.
FORBIDDEN_TIMESCALEDB = [
    "select drop_chunks('ticks', older_than => now())",
    "select add_retention_policy('ticks', interval '1 day')",
    "select remove_continuous_aggregate_policy('cagg_1d')",
    "select delete_job((select min(job_id) from timescaledb_information.jobs where hypertable_name is not null))",
    "alter table ticks set (timescaledb.compress)",
]

# Nothing to try in the WASM build: its one session is the superuser's, alone, and has no such extension.
NOT_IN_WASM = ("session authorization", "pg_terminate_backend", "pg_trgm")

# Tries each statement, undoes it, and tells whether it was denied for want of a privilege (else it worked, or failed).
ATTEMPT = """
create or replace function public.denied(statements text[]) returns boolean[] language plpgsql as $$
declare
    result boolean[] := '{}';
    statement text;
begin
    foreach statement in array statements loop
        begin
            execute statement;
            raise exception 'undo';
        exception
            when insufficient_privilege or invalid_role_specification then
                result := result || true;
            when read_only_sql_transaction then
                -- Of a worker: the reader's session is read-only there whatever it is told here.
                if to_regclass('pg_dist_node') is null then
                    raise;
                end if;
                result := result || true;
            when others then
                result := result || false;
        end;
    end loop;
    return result;
end
$$
"""


@pytest.fixture(scope="module")
def login(engine_dsn: str, role_prefix: str) -> Login:
    """Logs in as a role of a kind; as the server's owner for ''. The WASM build has one user, who becomes the role."""
    password = secrets.token_hex(8)
    wasm = "sslmode=disable" in engine_dsn
    with sql.connect(engine_dsn, "test", autocommit=True, prepare_threshold=None) as owner:
        owner.execute(ATTEMPT)
        for kind in LOGINS:
            roles.set_password(owner, roles.name_of(role_prefix, kind), password)

    @contextmanager
    def enter(kind: str) -> Iterator[Connection]:
        name = roles.name_of(role_prefix, kind)
        url = roles.url_of(engine_dsn, name, password) if kind and not wasm else engine_dsn
        with sql.connect(url, "test", autocommit=True, prepare_threshold=None) as connection:
            if kind and wasm:
                connection.execute(SQL("set session authorization {}").format(Identifier(name)))
            if kind == "read":
                # Whoever is logged in may do that: it is a seat belt, no boundary.
                connection.execute("set default_transaction_read_only = off")
            try:
                yield connection
            finally:
                if wasm:  # which goes on in one session
                    connection.execute("set session authorization postgres")
                    connection.execute("reset default_transaction_read_only")

    return enter


def test_each_role_reaches_these_tables_and_views_and_no_others(login: Login) -> None:
    relations = """
        select relname, relkind = 'v', array_agg(quote_ident(attname)), pg_relation_is_updatable(c.oid, false)
        from pg_class as c join pg_attribute on attrelid = c.oid
        where relnamespace = 'barwright'::regnamespace and relkind in ('r', 'p', 'v')
        and attnum > 0 and not attisdropped
        group by c.oid, 1, 2 order by 1
    """
    with login("") as connection:
        found = connection.execute(relations).fetchall()
        timescaledb = connection.execute("select engine from meta").fetchone() == ("timescaledb",)
        by_symbol = _by_symbol(connection)
    owned = AGGREGATES if timescaledb else set()
    there = {name for name, *_ in found}
    assert owned <= there
    attempts = []
    for name, is_view, columns, updatable in found:
        attempts.append((name, "s", f"select from {name} where false"))
        if not is_view:
            attempts += [(name, "d", f"delete from {name} where false"), (name, "!", f"truncate {name}")]
            attempts += [(name, "i", f"insert into {name} ({column}) values (default)") for column in columns]
            attempts += [
                (name, "u", f"update {name} set {column} = default where false")
                for column in columns
                if column != "symbol" or name not in by_symbol
            ]
        assert not is_view or not updatable, name
        kind = "materialized view" if name in owned else "view" if is_view else "table"
        attempts += [(name, "!", f"drop {kind} {name} cascade"), (name, "!", f"alter {kind} {name} rename to mine")]
    for kind in LOGINS:
        with login(kind) as connection:
            denied = _denied(connection, [statement for *_, statement in attempts])
        able: dict[str, str] = {}
        for (name, letter, _), no in zip(attempts, denied, strict=True):
            if not no and letter not in able.get(name, "") and not (kind == "maintain" and name in owned):
                able[name] = able.get(name, "") + letter
        more = CITUS_TABLES.get(kind, {}) if by_symbol else {}
        expected = {
            name: "".join({*TABLES[kind].get(name, ""), *more.get(name, "")})
            for name in TABLES[kind] | more
            if name in there and not (kind == "maintain" and name in owned)
        }
        assert {name: "".join(sorted(may)) for name, may in able.items()} == {
            name: "".join(sorted(may)) for name, may in expected.items()
        }, kind


def _by_symbol(connection: Connection) -> set[str]:
    """The tables that Citus distributes: it refuses to change their symbol before it looks at rights."""
    if not citus.coordinates(connection):
        return set()
    rows = connection.execute("select table_name::text from citus_tables where citus_table_type = 'distributed'")
    return {name for (name,) in rows}


def test_each_role_may_call_these_functions_and_no_others(login: Login) -> None:
    functions = """
        select proname, format('select %I(%s)', proname, array_to_string(array(
            select format('null::%s', format_type(type, null)) from unnest(proargtypes) as type
        ), ', '))
        from pg_proc as p where pronamespace = 'barwright'::regnamespace
        and not exists (select from pg_depend where objid = p.oid and deptype = 'e')
    """
    with login("") as connection:
        found = connection.execute(functions).fetchall()
        more = CITUS_FUNCTIONS if citus.coordinates(connection) else {}
    there = {name for name, _ in found}
    assert len(there) > 45
    for kind in LOGINS:
        with login(kind) as connection:
            denied = _denied(connection, [statement for _, statement in found])
        able = {name for (name, _), no in zip(found, denied, strict=True) if not no}
        assert able == (FUNCTIONS[kind] | more.get(kind, set())) & there, kind


@pytest.mark.parametrize("kind", LOGINS)
def test_what_no_role_may_do_is_denied(login: Login, engine_dsn: str, role_prefix: str, kind: str) -> None:
    with login("") as connection:
        row = connection.execute("select current_database(), engine = 'timescaledb' from meta").fetchone()
        is_citus = citus.coordinates(connection)
    assert row is not None
    statements = [
        statement.format(
            me=roles.name_of(role_prefix, kind),
            other=roles.name_of(role_prefix, "feed" if kind == "api" else "api"),
            owner=roles.name_of(role_prefix, "owner"),
            database=row[0],
        )
        for statement in [*FORBIDDEN, *(FORBIDDEN_TIMESCALEDB if row[1] and kind != "maintain" else [])]
        if "sslmode=disable" not in engine_dsn or not any(name in statement for name in NOT_IN_WASM)
    ]
    with login(kind) as connection:
        denied = _denied(connection, statements)
    done = [statement for statement, no in zip(statements, denied, strict=True) if not no]
    with login(kind) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("alter system set work_mem = '1GB'")
    # Whose function it is to make partitions may call it; and see CITUS_TABLES.
    may = ("prepare_ticks", "delete from ticks") if is_citus else ("prepare_ticks",)
    assert done == [text for text in statements if kind == "ingest" and any(part in text for part in may)]


def _denied(connection: Connection, statements: list[str]) -> list[bool]:
    row = connection.execute("select public.denied(%s)", (statements,)).fetchone()
    assert row is not None
    return list(row[0])


# Whose process, or whose command line, runs which queries.
QUERIES = {
    "feed": ("feed", "machines"),
    "ingest": ("ingest", "machines"),
    "maintain": ("maintain", "machines", "metrics", "policies"),
    "api": ("api", "stream", "udf", "keys", "history", "machines", "metrics"),
}
# Of `barwright audit`, which is asked as maintain, or as who migrated.
ELSEWHERE = [("api", "audit_window")]
# Parameters whose type the server cannot tell by itself.
TYPES = {
    **dict.fromkeys(("age", "every", "grace", "lag", "lasts", "lease", "pause", "quiet", "width"), "interval"),
    **dict.fromkeys(("upto",), "bigint"),
}
ONE_ENGINES = {
    "postgres": {"advance", "repair"},
    "timescaledb": {"overtaken", "finish_repair", "forget_purged", "compress_ticks", "compress_bars"},
    "citus": {"settle", "begin_repair", "finish_repaired"},
}


@pytest.mark.parametrize("kind", QUERIES)
def test_each_role_may_run_every_query_of_its_process(login: Login, kind: str) -> None:
    with login("") as connection:
        engine = connection.execute("select engine from meta").fetchone()
    assert engine is not None
    others = set().union(*(names for other, names in ONE_ENGINES.items() if other != engine[0]))
    denied, tried = [], 0
    with login(kind) as connection:
        for file in QUERIES[kind]:
            for name, query in sql.queries(file).items():
                if name in ("columns", "run") or (file in ("maintain", "policies") and name in others):
                    continue
                tried += 1
                try:
                    _plan(connection, query, sql.queries("api")["columns"])
                except psycopg.errors.InsufficientPrivilege as error:
                    denied.append((kind, name) if (kind, name) in ELSEWHERE else (kind, name, str(error)))
        elsewhere = [pair for pair in ELSEWHERE if pair[0] == kind]
        if citus.coordinates(connection):  # it looks at rights to call functions when it runs them only
            denied = denied or elsewhere
    assert denied == elsewhere
    assert tried > 5


def _plan(connection: Connection, query: str, columns: str) -> None:
    """Have the server look at a query's rights without running it: it does so when it begins on a plan."""
    for field, value in {
        "{bars}": f"select {columns} from ohlcv_1h", "{columns}": columns, "{view}": "ohlcv_1h", "{order}": "desc",
        "{which}": "true", "{symbol}": "symbol,", "{since}": "'2023-03-01'", "{run}": sql.queries("stream")["run"],
    }.items():  # fmt: skip
        query = query.replace(field, value)
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", query)))
    for number, name in enumerate(names, 1):
        query = query.replace(f"%({name})s", f"${number}::{TYPES[name]}" if name in TYPES else f"${number}")
    query = re.sub(r"^--.*\n", "", query.replace("%%", "%"), flags=re.MULTILINE)
    word = query.split()[0]
    if word == "copy" and "sslmode=disable" in connection.info.dsn:
        return  # which the WASM build does not survive
    if word == "copy":
        with connection.cursor().copy(query):  # type: ignore[arg-type]
            return
    if word in ("select", "with", "insert", "update", "delete"):
        _explain(connection, query, len(names))
    elif query.startswith("create temp"):
        connection.execute(query)  # type: ignore[arg-type]
    else:
        assert word in ("begin", "commit", "set", "call"), query


def _explain(connection: Connection, query: str, parameters: int) -> None:
    """Citus makes no generic plans; it asks of rights when it plans for values."""
    if not citus.coordinates(connection):
        connection.execute(f"explain (generic_plan) {query}")  # type: ignore[arg-type]
        return
    connection.execute(f"prepare tried as {query}")  # type: ignore[arg-type]
    try:
        nulls = ", ".join(["null"] * parameters)
        connection.execute(f"explain execute tried({nulls})" if nulls else "explain execute tried")  # type: ignore[arg-type]
    finally:
        connection.execute("deallocate tried")


def test_what_each_role_is_for_works_as_it(login: Login, engine_dsn: str) -> None:
    """A symbol's life: registered, asked for, landed, rolled up, audited, read, purged; each step as whose it is."""
    start = datetime(2021, 3, 1, tzinfo=UTC)
    with login("") as connection:
        Market(connection, symbol="R", era=iter([2021]))
    with login("api") as api:
        register = {"symbol": "R", "source": "s", "market": "m", "base": "B", "quote": "Q", "start": start,
                    "history_source": "s", "grace": timedelta(seconds=10), "live": True}  # fmt: skip
        assert api.execute(sql.queries("history")["register"], register).fetchall()
    with login("ingest") as ingest:
        times = [start + timedelta(minutes=n) for n in range(3 * 24 * 60)]
        ingest.execute("select prepare_ticks(%s)", (times,))
        ingest.execute("begin")
        ingest.execute("select hold_seal()")
        ingest.execute("insert into ticks (symbol, ts, seq, price, size) select 'R', ts, n, 10 + n %% 7, 1 "
                       "from unnest(%s::timestamptz[]) with ordinality as t (ts, n)", (times,))  # fmt: skip
        ingest.execute("commit")
        ingest.execute("insert into late_range (symbol, span) values ('R', tstzrange(%s, %s))", (start, times[5]))
    with login("maintain") as maintain:
        engine = engine_of(maintain)
        with maintain.transaction():
            maintain.execute(sql.queries("maintain")["move_seal"].replace("clock_timestamp() - %(lag)s", "%(at)s"),  # type: ignore[arg-type]
                             {"at": start + timedelta(days=10)})  # fmt: skip
        for level in levels(maintain):
            engine.advance(level.name)
        assert engine.repair() >= 1
        audited = maintain.execute("select audit_bucket('R', '1h', %s)", (start,)).fetchone()
        assert audited == (True,)
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="no level"):
            maintain.execute("select audit_bucket('R', '1m, api_key', %s)", (start,))
    with login("read") as read:
        for view in BARS:
            rows = read.execute(f"select sum(volume) from {view} where symbol = 'R'").fetchone()
            assert rows == (3 * 24 * 60,), view
        assert read.execute("select * from gaps where symbol = 'R'").fetchall()
        assert read.execute("select * from coverage").fetchall() == []
        for (name,) in read.execute(
            "select inhrelid::regclass::text from pg_inherits where inhparent = 'ticks'::regclass"
        ).fetchall():
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                read.execute(f"select from {name}")
    if "sslmode=disable" not in engine_dsn:  # the WASM build, 2.23, will not compress as a role
        _compressed_and_dropped(login, times)
    with login("api") as api:
        filed = api.execute("select file_tasks('R')").fetchone()
        assert filed is not None
        assert filed[0] > 0
        newest = api.execute(sql.queries("api")["symbols"], {"symbol": "R"}).fetchall()
        assert len(newest) == 1
    with login("feed") as feed:
        claimed = feed.execute("select (claim_task(array['s'], 'me', interval '1 minute')).*").fetchone()
        assert claimed is not None
        assert feed.execute("select fail_task(%s, 1, 'no', interval '1 hour')", (claimed[0],)).fetchone() == (True,)
    with login("api") as api:
        assert api.execute("select purge_symbol('R')").fetchone() == (True,)


def test_aggregates_of_others_do_not_stop_the_policies(login: Login, engine_dsn: str) -> None:
    """They may lie in a schema that maintain may not use; only its own are looked at."""
    floor = sql.queries("policies")["set_refresh_floor"]
    with login("") as owner:
        if engine_of(owner).name != "timescaledb":
            pytest.skip("the postgres engine has no continuous aggregates")
        owner.execute(floor, {"floor_days": 21.0})
        owner.execute("create schema theirs; create table theirs.t (ts timestamptz not null)")
        owner.execute("select create_hypertable('theirs.t', 'ts')")
        owner.execute("create materialized view theirs.hours with (timescaledb.continuous) as "
                      "select time_bucket('1 hour', ts), count(*) from theirs.t group by 1 with no data")  # fmt: skip
        owner.execute(
            "select add_continuous_aggregate_policy('theirs.hours', interval '1 day', interval '1 hour', '1 hour')"
        )
    try:
        with login("maintain") as maintain:
            maintain.execute(floor, {"floor_days": 21.0})
            if "sslmode=disable" not in engine_dsn:  # the WASM build, 2.23, will not compress as a role
                assert policies.apply(maintain, Settings(compress_after_days=1))
    finally:
        with login("") as owner:
            owner.execute("drop schema theirs cascade")


def _tick(ts: datetime) -> dict[str, Any]:
    nothing = dict.fromkeys(("side", "open", "high", "low", "quote", "trades"))
    return {"symbol": "R", "ts": ts, "seq": 10**6, "size": 1, **nothing}


def _compressed_and_dropped(login: Login, times: list[datetime]) -> None:
    """Settings are applied by maintain: ticks land late in what is compressed, and bars outlive their ticks."""
    later = {**_tick(times[7]), "price": 99}
    with login("maintain") as maintain:
        assert policies.apply(maintain, Settings(compress_after_days=1, raw_retention_days=None))
    with login("ingest") as ingest:  # late, into what is compressed
        ingest.execute(INSERT, later)
        ingest.execute("insert into late_range (symbol, span) values ('R', tstzrange(%s, %s))", (times[7], times[8]))
    with login("maintain") as maintain:
        engine_of(maintain).repair()
        assert policies.apply(maintain, Settings(compress_after_days=1, raw_retention_days=4))
        assert maintain.execute("select count(*) from ticks").fetchone() == (0,)
    with login("read") as read:
        bar = read.execute(
            "select high, trades from ohlcv_1m where symbol = 'R' and bucket = %s", (times[7],)
        ).fetchone()
        assert bar == (99, 2)
