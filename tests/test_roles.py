"""Database roles from the outside: who may migrate, passwords, timeouts, limits, `barwright role`, `barwright run`."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from barwright import logins, sql
from barwright.errors import BarwrightError
from barwright.migrations import downgrade, upgrade
from barwright.settings import Settings
from barwright.sql import roles
from barwright.sql.engine import engine_of, levels
from barwright.sql.roles import LOGINS
from tests import citus, services
from tests.services import Server

PASSWORD = "of-who-migrates"
OWNERS = """
select distinct relowner::regrole::text from pg_class where relnamespace = 'barwright'::regnamespace
union select proowner::regrole::text from pg_proc as p where pronamespace = 'barwright'::regnamespace
and not exists (select from pg_depend where objid = p.oid and deptype = 'e') order by 1
"""
FILL = """
insert into symbols (symbol, seq_rule) values ('A', 'id');
select prepare_ticks(array[now(), now() - interval '7 days']);
insert into ticks (symbol, ts, seq, price, size)
select 'A', date_trunc('day', now()) - interval '3 days' + n * interval '1 minute', n, 100 + n % 7, 1
from generate_series(0, 3000) as n;
insert into late_range (symbol, span) values ('A', tstzrange(now() - interval '4 days', now()));
"""
TOTALS = (
    "select (select sum(volume) from ohlcv_1h), (select sum(volume) from ohlcv_1mo), (select max(high) from ohlcv_1d)"
)


@dataclass(frozen=True)
class Place:
    """A database whose owner is no superuser, the prefix of its roles; `admin` is the server's owner."""

    admin: str
    url: str
    prefix: str
    home: Path

    @property
    def user(self) -> str:
        """Who migrates."""
        return f"{self.prefix}_m"

    def settings(self, **given: Any) -> Settings:
        """To migrate with."""
        return Settings(database_url=self.url, role_prefix=self.prefix, **given)

    def ask(self, query: str, url: str = "") -> list[Any]:
        """The first column of a query's rows, asked as who migrates, or as somebody else."""
        with sql.connect(url or self.url, "test", autocommit=True) as connection:
            return [value for value, *_ in connection.execute(query).fetchall()]  # type: ignore[arg-type]

    def fill(self) -> None:
        """A symbol's ticks, and a late range. Not in one transaction: the first statements run as the owner, and Citus
        lets one transaction change a table's rows as one user only."""
        for statement in FILL.split(";\n"):
            self.script(statement)

    def script(self, text: str, url: str = "") -> None:
        """Run statements as who migrates, or as somebody else."""
        with sql.connect(url or self.url, "test", autocommit=True) as connection:
            connection.execute(text)  # type: ignore[arg-type]

    def url_of(self, kind: str) -> str:
        """The DSN of a role with the password of the test."""
        return roles.url_of(self.url, roles.name_of(self.prefix, kind), f"{kind}-secret")

    def passwords(self) -> dict[str, Any]:
        """Settings that give each role its password."""
        return {f"{kind}_password": f"{kind}-secret" for kind in LOGINS}


@pytest.fixture
def place(postgres: Server, tmp_path: Path) -> Iterator[Place]:
    """As managed servers give it: CREATEROLE, and a database of one's own."""
    prefix = f"test_{uuid4().hex[:8]}"
    user = Identifier(f"{prefix}_m")
    with services.new_database(postgres.url) as url:
        with psycopg.connect(url, autocommit=True) as admin:  # in the database: Citus knows roles by database
            admin.execute(SQL("create role {} login createrole password {}").format(user, PASSWORD))
        hand_over = SQL("alter database {} owner to {}").format(Identifier(str(conninfo_to_dict(url)["dbname"])), user)
        with citus.admins(postgres.url, citus.nodes(postgres.url) or [citus.address(postgres.url)]) as nodes:
            for node in nodes:
                node.execute(hand_over)
        yield Place(url, make_conninfo(url, user=f"{prefix}_m", password=PASSWORD), prefix, tmp_path)
    services.drop_roles(postgres.url, prefix)


def timescaledb(place: Place) -> bool:
    return place.ask("select engine from meta") == ["timescaledb"]


def is_citus(place: Place) -> bool:
    return bool(citus.nodes(place.admin))


def _work(place: Place) -> None:
    """The roles work: ticks are repaired into bars by maintain, and seen by the reader."""
    assert logins.logins(place.settings(**place.passwords()), place.home, ())[1] == {}
    with sql.connect(place.url_of("maintain"), "test", autocommit=True) as connection:
        engine = engine_of(connection)
        for level in levels(connection):
            engine.advance(level.name)
        engine.repair()
    with sql.connect(place.url_of("read"), "test") as connection:
        assert connection.execute(TOTALS).fetchone() == (3001, 3001, 106)


def test_who_is_no_superuser_migrates_an_empty_database(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    upgrade(place.settings(**place.passwords()))
    upgrade(place.settings())
    assert capfd.readouterr().err == ""
    owners = (
        [f"{place.prefix}_owner"] if not timescaledb(place) else [f"{place.prefix}_maintain", f"{place.prefix}_owner"]
    )
    assert place.ask(OWNERS) == owners
    place.fill()
    _work(place)
    downgrade(place.settings(), "0003")
    assert f"{place.prefix}_feed" not in place.ask("select rolname from pg_roles")
    upgrade(place.settings(**place.passwords()))
    _work(place)
    downgrade(place.settings())
    assert place.ask(f"select rolname from pg_roles where starts_with(rolname, '{place.prefix}_')") == [place.user]


def test_who_is_no_superuser_migrates_a_filled_database(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    upgrade(place.settings(), "0003")
    place.fill()
    upgrade(place.settings(**place.passwords()))
    told = capfd.readouterr().err
    if timescaledb(place):
        # Its chunks lie in a schema where only a superuser lets others own something.
        assert "grant create on schema _timescaledb_internal" in told
        obstacles = logins.logins(place.settings(**place.passwords()), place.home, ())[1]
        assert obstacles == {"maintain": "it does not own the continuous aggregates"}
        place.script(
            f"grant create on schema _timescaledb_internal to {place.prefix}_owner, {place.prefix}_maintain",
            place.admin,
        )
        upgrade(place.settings())
        told = capfd.readouterr().err
    assert told == ""
    assert place.user not in place.ask(OWNERS)
    _work(place)
    if timescaledb(place):
        place.script(
            f"revoke create on schema _timescaledb_internal from {place.prefix}_owner, {place.prefix}_maintain",
            place.admin,
        )


def test_who_may_make_no_roles_migrates_and_takes_those_made_for_it(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    place.script(f"alter role {place.user} nocreaterole", place.admin)
    upgrade(place.settings())
    assert f"no database roles: {place.user} may not make roles. " in capfd.readouterr().err.replace(
        "\n", ". "
    ).replace("create", "make")
    place.fill()
    with pytest.raises(BarwrightError, match="BARWRIGHT_FEED_PASSWORD cannot be given"):
        upgrade(place.settings(feed_password="x"))
    # The coordinator of a Citus cluster reaches its workers as the owner.
    attributes = "login" if is_citus(place) else "nologin"
    place.script(f"create role {place.prefix}_owner {attributes}", place.admin)
    for kind in LOGINS:
        place.script(f"create role {place.prefix}_{kind} login password '{kind}-secret'", place.admin)
    capfd.readouterr()
    upgrade(place.settings())
    assert f"{place.user} is no member of role {place.prefix}_owner" in capfd.readouterr().err
    place.script(f"grant {place.prefix}_owner, {place.prefix}_maintain to {place.user}", place.admin)
    upgrade(place.settings())
    if timescaledb(place):
        assert "grant create on schema _timescaledb_internal" in capfd.readouterr().err
        return
    assert capfd.readouterr().err == ""
    assert place.ask(OWNERS) == [f"{place.prefix}_owner"]
    _work(place)


def test_the_reader_is_held_to_its_limits(place: Place) -> None:
    upgrade(place.settings(**place.passwords()))
    reader = place.url_of("read")
    shown = (
        "select current_setting(name) from unnest(array['default_transaction_read_only', 'statement_timeout']) as name"
    )
    assert place.ask(shown, reader) == ["on", "30s"]
    place.script(f"alter role {place.prefix}_read set statement_timeout = '100ms'")
    place.script(f"alter role {place.prefix}_read connection limit 2")
    with sql.connect(reader, "test") as one, sql.connect(reader, "test"):
        with pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
            one.execute("select count(*) from ohlcv_1m right join generate_series(1, 1000000000) on true")
        one.rollback()
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            one.execute("create temporary table t ()")
        with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
            sql.connect(reader, "test")
    # What an administrator has set stays.
    upgrade(place.settings())
    assert place.ask(f"select rolconnlimit from pg_roles where rolname = '{place.prefix}_read'") == [2]


def test_nobody_works_as_the_owner(place: Place) -> None:
    upgrade(place.settings())
    if is_citus(place):
        # The coordinator does, on the workers; nobody else has its password, for it has none.
        passwords = "select rolpassword from pg_authid where rolname = '{}_owner'"
        assert place.ask(passwords.format(place.prefix), place.admin) == [None]
        return
    with pytest.raises(psycopg.OperationalError, match=r"not permitted to log in|authentication failed"):
        sql.connect(place.url_of("owner"), "test")


def test_what_later_revisions_make_falls_under_the_rules(place: Place) -> None:
    upgrade(place.settings(**place.passwords()))
    place.script("""
        create table later (n integer);
        create type kind as enum ('a');
        create function later_work() returns bigint language sql set search_path = barwright, pg_temp
        begin atomic select count(*) from api_key; end;
        create procedure later_steps() language plpgsql set search_path = barwright, pg_temp as $$ begin commit; end $$;
    """)
    upgrade(place.settings())
    assert place.user not in place.ask(OWNERS)
    assert place.ask(
        "select prosecdef from pg_proc where proname in ('later_work', 'later_steps') order by proname"
    ) == [
        False,
        True,
    ]
    assert place.ask("select later_work()", place.url_of("feed")) == [0]
    assert place.ask("select count(*) from later", place.url_of("feed")) == [0]
    for query in ("select later_work()", "select from later"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            place.ask(query, place.url_of("read"))
    # What was granted by hand beyond the lists is taken back.
    place.script("grant select on api_key to " + f"{place.prefix}_read")
    upgrade(place.settings())
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        place.ask("select from api_key", place.url_of("read"))


def _barwright(place: Place, *words: str, given: str = "", **variables: str) -> tuple[int, str, str]:
    env = {**os.environ, "DATABASE_URL": place.url, "BARWRIGHT_ROLE_PREFIX": place.prefix, **variables}
    command = [sys.executable, "-m", "barwright", *words]
    done = subprocess.run(command, env=env, input=given, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_roles_are_listed_and_given_passwords(place: Place, tmp_path: Path) -> None:
    assert _barwright(place, "migrate")[0] == 0
    file = tmp_path / "password"
    file.write_text("of-a-file\n")
    assert _barwright(place, "role", "password", "feed", "--file", str(file))[0] == 0
    assert _barwright(place, "role", "password", f"{place.prefix}_api", given="of-a-pipe\n")[0] == 0
    made = _barwright(place, "role", "password", "read", "--generate")[1].strip()
    assert len(made) >= 32
    for kind, password in (("feed", "of-a-file"), ("api", "of-a-pipe"), ("read", made)):
        url = roles.url_of(place.url, f"{place.prefix}_{kind}", password)
        assert place.ask("select current_user", url) == [f"{place.prefix}_{kind}"]
    _, listed, _ = _barwright(place, "role", "list")
    assert [line.split()[0] for line in listed.splitlines()[1:] if line.split()[0].startswith(place.prefix)] == [
        f"{place.prefix}_{kind}" for kind in ("owner", *LOGINS)
    ]
    assert "statement_timeout=30s" in listed
    assert "unknown" in listed  # whether it has a password: this user may not see that
    status, _, errors = _barwright(place, "role", "password", "owner", given="x\n")
    assert (status, "none of the roles" in errors) == (1, True)
    status, _, errors = _barwright(place, "role", "password", "api", DATABASE_URL=place.url_of("feed"), given="x\n")
    assert status == 1


def test_a_password_is_never_sent(place: Place) -> None:
    upgrade(place.settings())
    with sql.connect(place.url, "test", autocommit=True) as connection:
        roles.set_password(connection, f"{place.prefix}_feed", "of-nobody-else")
        (told,) = place.ask(
            f"select query from pg_stat_activity where pid = {connection.info.backend_pid}", place.admin
        )
    assert "SCRAM-SHA-256$" in told
    assert "of-nobody-else" not in told


def test_a_password_beside_the_dsn_is_used_everywhere(place: Place) -> None:
    parts = {name: value for name, value in conninfo_to_dict(place.url).items() if name != "password"}
    bare = make_conninfo("", **parts)
    status, _, errors = _barwright(place, "migrate", DATABASE_URL=bare, DATABASE_PASSWORD=PASSWORD)
    assert status == 0, errors
    assert conninfo_to_dict(Settings(database_url=bare, database_password="x").database_url)["password"] == "x"
    assert Settings(database_url=place.url, database_password="x").database_url == place.url
    assert "of-who" not in str(Settings(database_password=PASSWORD).database_password)


def test_passwords_of_somebody_else_are_left_alone(place: Place, tmp_path: Path) -> None:
    """`barwright run` on a server that is not its own: roles that are there have the passwords that others know."""
    settings = place.settings()
    assert logins.existing(settings) == set()
    upgrade(settings)
    urls, obstacles = logins.logins(settings, tmp_path, LOGINS)
    assert obstacles == {}
    assert place.ask("select current_user", urls["serve"]) == [f"{place.prefix}_api"]
    assert (tmp_path / "database.passwords").stat().st_mode & 0o777 == 0o600
    assert logins.existing(settings) == set(LOGINS)
    other = tmp_path / "other"
    other.mkdir()
    if os.environ.get("DATABASE_URL"):
        pytest.skip("the named server may trust everybody")
    urls, obstacles = logins.logins(settings, other, ())
    assert (urls, set(obstacles)) == ({}, {"feed", "ingest", "maintain", "serve"})
    assert "authentication failed" in obstacles["feed"]
