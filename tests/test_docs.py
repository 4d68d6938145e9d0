"""What the pages tell people to type is there: every command line is parsed by the command itself, every statement is
run, every setting is known and takes the value it is given, every link leads somewhere.

The quick start, the README's requests and the API's are followed word for word by test_run.py, the cookbook by
test_cookbook.py, upgrades by tests/upgrades; the containers' commands by tests/docker.
"""

import ast
import inspect
import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import alembic.config
import click
import psycopg
import pytest
import yaml

import barwright.client
from barwright.cli import cli
from barwright.commands.metrics import page as metrics
from barwright.configuration import variable
from barwright.ingest.decode import native
from barwright.ingest.ticks import Bar, Trade
from barwright.settings import Settings
from tests import pages, services
from tests.pages import PAGES
from tests.services import ROOT

LINES = [said for page in PAGES for said in pages.lines(page)]
STATEMENTS = [said for page in PAGES for said in pages.statements(page)]
TARGETS = re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
# Read by programs that are no role: the Python client, and what `make` starts, tests too.
FOREIGN = {"BARWRIGHT_URL", "BARWRIGHT_KEY", "BARWRIGHT_JARS", "BARWRIGHT_TEST_PG_BIN"}
# What a server says of another kind of server's things; not that it does not understand.
ELSEWHERE = (
    psycopg.errors.UndefinedObject, psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName,
    psycopg.errors.ObjectNotInPrerequisiteState,
)  # fmt: skip
INTERPOLATED = set(re.findall(r"\$\{(\w+)", (ROOT / "docker" / "compose.yml").read_text()))
SETTINGS = {variable(name) for name in Settings.model_fields}
each_page = pytest.mark.parametrize("page", PAGES, ids=pages.name)


def parsed(command: click.Command, words: list[str], named: bool) -> None:
    """Take a command line as the program would, without doing it: click's UsageError where it would not. In a sentence
    it may be `named` only."""
    try:
        context = command.make_context("barwright", words)
        while isinstance(command, click.Group):
            _, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            assert found is not None
            command, context = found, found.make_context(found.name, rest, parent=context)
    except (click.MissingParameter, click.exceptions.NoArgsIsHelpError):
        if not named:
            raise
    except click.BadParameter as error:
        if not isinstance(error.param and error.param.type, click.Path | click.File):  # files are the reader's
            raise
    except click.exceptions.Exit:  # --help, --version
        return


def composed(words: list[str]) -> None:
    """`docker compose -f FILE … COMMAND [SERVICE [its command]]`: files that are there, services that they have."""
    files = [words[n + 1] for n, word in enumerate(words) if word == "-f"]
    services = {name for file in files for name in yaml.safe_load((ROOT / file).read_text())["services"]}
    assert files
    command, *rest = words[2 + 2 * len(files) :]
    assert command in {"up", "exec", "logs", "run"}, command
    while rest and rest[0] in ("--build", "--follow", "--rm", "-T"):
        rest.pop(0)
    assert command == "up" or rest[0] in services, rest
    if command == "exec":
        assert rest[1] == "barwright"
    if command in ("exec", "run"):
        parsed(cli, rest[2:] if command == "exec" else rest[1:], named=False)


def asked(words: list[str]) -> None:
    """`curl`: an address of the API that the reader has started, and JSON where it sends some."""
    [address] = [word for word in words if re.match(r"(http://)?127\.0\.0\.1:8000/", word)]
    assert re.search(r":8000/(v1|udf|health|metrics|schema)\b", address)
    for n, word in enumerate(words):
        if word == "-d":
            json.loads(words[n + 1])


def installed(words: list[str]) -> None:
    """`pip install`: what is locked."""
    assert words[1:4] == ["install", "--require-hashes", "-r"]
    assert (ROOT / words[4]).exists()


def made(words: list[str]) -> None:
    """`make TARGET [NAME=VALUE]`."""
    [target] = [word for word in words[1:] if "=" not in word]
    assert target in TARGETS, target


def measured(words: list[str]) -> None:
    """`python -m bench --only PART`, or one of its modules by itself: `python -m bench.looks`."""
    assert words[1] == "-m"
    package, _, module = words[2].partition(".")
    assert package == "bench"
    if not module:
        assert words[3] == "--only"
    assert (ROOT / "bench" / f"{module or words[4]}.py").exists()


def queried(words: list[str]) -> None:
    """`psql`: of a database, something; the statement is run below."""
    assert "-c" in words or "$DATABASE_URL" in words


CHECKS: dict[str, Callable[[list[str]], Any]] = {
    "make": made, "curl": asked, "pip": installed, "docker": composed, "psql": queried,
    "alembic": lambda words: alembic.config.CommandLine().parser.parse_args(words[1:]),
    "python": measured,
    "createdb": lambda words: None, "eval": lambda words: None, ".": lambda words: None,
}  # fmt: skip


@each_page
def test_every_command_line_is_one_that_the_program_takes(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for said in pages.lines(page):
        words = shlex.split(said.text)
        while words and (words[0] == "export" or re.fullmatch(r"[A-Z_]+=.*", words[0], re.DOTALL)):
            if (word := words.pop(0)) != "export":
                takes(word, monkeypatch)
        if words[:1] == ["barwright"]:
            parsed(cli, words[1:], named=not said.shown)
        elif words:
            CHECKS[words[0]](words)


def takes(assignment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting takes the value; the content of files is the reader's."""
    name, _, value = assignment.partition("=")
    if name in INTERPOLATED and name not in SETTINGS:
        return
    assert name.removesuffix("_FILE") in SETTINGS, name
    if not name.endswith("_FILE"):
        monkeypatch.setenv(name, value)
        Settings()


@each_page
def test_every_variable_is_a_setting(page: Path) -> None:
    assert {name.removesuffix("_FILE") for name in pages.settings(page)} - SETTINGS - FOREIGN == set()


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in pages.links(page):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in pages.anchors(target), link


@each_page
def test_every_path_and_metric_that_is_named_is_there(page: Path) -> None:
    known = set(re.findall(r"`(barwright_\w+)`", metrics()))
    for span in pages.spans(page):
        if (
            re.fullmatch(r"(api|barwright|bench|docker|docs|ingest|migrations|simulator|sql|tests)/[\w./]*\w", span)
            and "secrets" not in span
        ):
            assert (ROOT / span).exists(), span
        if re.fullmatch(r"barwright_\w+_(seconds|total|bytes|messages)", span):
            assert span in known, span


@pytest.fixture(scope="module")
def owner(postgres: Any, template: str | None) -> Iterator[psycopg.Connection[Any]]:
    """A connection to a migrated database, as its owner."""
    with services.new_database(postgres.url, template) as url, psycopg.connect(url) as connection:
        yield connection


@each_page
def test_every_statement_is_run(page: Path, owner: psycopg.Connection[Any], role_prefix: str) -> None:
    """And nothing of it kept. What only another server has, this one understands, and has not."""
    for said in pages.statements(page):
        text = re.sub(r"\bbarwright_(?=(owner|feed|ingest|maintain|api|read)\b)", f"{role_prefix}_", said.text)
        text = text.replace("alter role … ", f"alter role {role_prefix}_read ")
        try:
            owner.execute(text.encode())
        except ELSEWHERE:
            if not re.search("timescaledb|citus_tables|pg_wal_replay_resume", text):
                raise
        finally:
            owner.rollback()


@each_page
def test_python_calls_what_there_is_as_it_can_be_called(page: Path) -> None:
    for block in pages.blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "barwright.client":
                assert {each.name for each in node.names} <= {*barwright.client.__all__}
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id != "print":
                called = getattr(barwright.client, node.func.id)
                inspect.signature(called).bind(*node.args, **{each.arg or "": each.value for each in node.keywords})
    for span in pages.spans(page):
        if re.fullmatch(r"[A-Z]\w+Error", span) and page.name == "api.md":
            assert hasattr(barwright.client, span), span


def test_messages_of_the_readme_are_understood() -> None:
    [block] = pages.blocks(ROOT / "README.md", "json")
    trade, bar = (native(line.encode()) for line in block.splitlines())
    assert [type(item) for item in (*trade, *bar)] == [Trade, Bar]


def test_all_kinds_are_found() -> None:
    """Were a page written otherwise, nothing of it would be checked."""
    shown = {said.text.split()[0] for said in LINES if said.shown}
    assert {"make", "barwright", "curl", "psql", "createdb", "eval"} <= shown
    assert len(LINES) > 100
    assert len(STATEMENTS) >= 7
