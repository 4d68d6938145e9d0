"""`barwright key` on a database of its own."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result

from barwright import cli, sql
from barwright.api.access.token import KEY, digest

Run = Callable[..., Result]
FIND = sql.queries("keys")["find"]


@pytest.fixture
def run(database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The command line, attached to the test's database."""
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("BARWRIGHT_HOME", str(tmp_path))
    return lambda *arguments: CliRunner().invoke(cli.cli, ["key", *arguments])


def good(result: Result) -> str:
    """What a command that must succeed prints."""
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def test_a_key_is_shown_once_and_only_its_hash_is_kept(run: Run, database: str) -> None:
    assert "no keys" in good(run("list"))
    key = good(run("create", "desk", "--scope", "write")).strip()
    assert KEY.fullmatch(key)
    with sql.connect(database) as connection:
        everything = str(connection.execute("select * from api_key").fetchall())
        assert key[12:] not in everything
        [(_, name, scopes, until)] = connection.execute(FIND, {"hash": digest(key)}).fetchall()
        assert (name, scopes, until) == ("desk", ["read", "write"], None)
    listed = good(run("list"))
    assert key[:11] in listed
    assert key not in listed
    [row] = map(json.loads, good(run("list", "--json")).splitlines())
    assert (row["prefix"], row["kind"], row["state"], row["scopes"]) == (key[:11], "key", "live", ["read", "write"])


def test_a_key_is_rotated(run: Run, database: str) -> None:
    old = json.loads(good(run("create", "bot", "--json")))["key"]
    new = json.loads(good(run("create", "bot", "--json", "--days", "1")))["key"]
    assert "is revoked" in good(run("revoke", old[:11]))
    assert "was revoked already" in good(run("revoke", old))
    [row] = map(json.loads, good(run("list", "--json")).splitlines())
    assert row["prefix"] == new[:11]
    assert row["expires_at"]
    assert good(run("list", "--all")).count(" bot ") == 2
    with sql.connect(database) as connection:
        assert connection.execute(FIND, {"hash": digest(old)}).fetchone() is None
        assert connection.execute(FIND, {"hash": digest(new)}).fetchone()


def test_a_link(run: Run, database: str) -> None:
    said = good(run("link", "--url", "https://bars.example.com/", "--scope", "admin"))
    assert "https://bars.example.com/login/bw_" in said
    link = said.rpartition("/")[2].strip()
    redeem = sql.queries("keys")["redeem"]
    session = {"link": digest(link), "prefix": "bw_session1", "hash": digest("s"), "lasts": "1 day"}
    with sql.connect(database, autocommit=True) as connection:
        assert connection.execute(FIND, {"hash": digest(link)}).fetchone() is None
        assert connection.execute(redeem, session).fetchone()
        assert connection.execute(redeem, session).fetchone() is None
        [(_, _, scopes, until)] = connection.execute(FIND, {"hash": digest("s")}).fetchall()
        assert scopes == ["read", "write", "admin"]
        assert 86_000 < until - time.time() < 87_000
    assert "used" in good(run("list", "--all"))


def test_what_ended_a_day_ago_goes_but_keys_stay(run: Run, database: str) -> None:
    key = good(run("create", "old")).strip()
    good(run("link"))
    good(run("revoke", key))
    with sql.connect(database, autocommit=True) as connection:
        connection.execute("update api_key set expires_at = now() - interval '2 days', revoked_at = expires_at")
        good(run("create", "new"))
        kinds = connection.execute("select kind, name from api_key order by id").fetchall()
    assert kinds == [("key", "old"), ("key", "new")]


@pytest.mark.parametrize("arguments", [("create", ""), ("create", "x" * 65), ("create", "a\nb"),
                                       ("revoke", "bw_nothing"), ("create", "a", "--days", "0"),
                                       ("create", "a", "--scope", "all")])  # fmt: skip
def test_what_is_wrong_is_said(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code != 0
    assert not isinstance(result.exception, psycopg.Error)
    assert result.output or str(result.exception)


def test_a_database_without_keys_is_explained(empty_database: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database)
    assert "not migrated" in str(run("list").exception)
