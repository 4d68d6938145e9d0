"""What the commands share: a connection, times as users write them, JSON lines."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import click
import msgspec
import psycopg
from rich.console import Console

from barwright import sql
from barwright.api.coverage import text
from barwright.api.intervals import moment
from barwright.api.params import symbol as checked
from barwright.api.times import seconds
from barwright.errors import BarwrightError
from barwright.links.database import pooled
from barwright.settings import Settings

Q = sql.queries("history")
Connection = psycopg.Connection[tuple[Any, ...]]


@contextmanager
def connected(settings: Settings, role: str) -> Iterator[Connection]:
    """A connection in autocommit; BarwrightError when the database is away or not migrated."""
    with answered(), sql.connect(settings.database_url, role, pooled(settings), autocommit=True) as connection:
        yield connection


@contextmanager
def answered() -> Iterator[None]:
    """BarwrightError when the database is away or not migrated."""
    try:
        yield
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction, psycopg.errors.UndefinedColumn) as error:
        raise BarwrightError("The database is not migrated.", "Run `barwright migrate`.") from error
    except psycopg.Error as error:
        hint = "Is it running? `barwright run` starts one, DATABASE_URL names another."
        raise BarwrightError(f"The database: {str(error).strip()}", hint) from error


def named(connection: Connection, name: str) -> str:
    """A symbol that is there; BarwrightError where it is malformed or unknown."""
    name = checked(name)
    if not one(connection, "exists", symbol=name)[0]:
        raise BarwrightError(f"There is no symbol {name}.", "`barwright symbol list` lists them.")
    return name


def one(connection: Connection, query: str, **args: Any) -> tuple[Any, ...]:
    """The one row of a query."""
    row = connection.execute(Q[query], args).fetchone()
    assert row is not None
    return row


def time_of(name: str, value: str | None) -> datetime | None:
    """A time as the API takes it."""
    return None if value is None else moment(seconds(name, value))


def put_json(value: Any) -> None:
    """One JSON object on a line of its own; times in UTC."""
    click.echo(msgspec.json.encode(value, enc_hook=str))


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose times are text."""
    return {name: text(value) if isinstance(value, datetime) else value for name, value in row.items()}


def console() -> Console:
    """Where tables go; what is data is no markup, and a pipe is no narrow screen."""
    wide = Console(markup=False, highlight=False)
    return wide if wide.is_terminal else Console(markup=False, highlight=False, width=200)
