"""The database itself: .sql files, their loader, and how to connect. Imports nothing of ours.

`common/`, `timescaledb/` and `postgres/` build the schema (run by migrations); `queries/` holds the named queries that
Python calls. A queries file is a sequence of blocks: a line `-- name: what it does`, then one statement.
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, LiteralString, cast

import psycopg
from psycopg import Connection

HERE = Path(__file__).parent
SCHEMA = "barwright"
_BLOCK = re.compile(r"^-- (\w+): .*\n((?:(?!^-- \w+: ).*\n?)*)", re.MULTILINE)

# Keepalives find a dead server in about 25 s; the idle timeout frees a dead client's locks (facts: a frozen client
# with an open transaction stalls the seal, and so all ingest, for as long as it lives).
_CONNECT: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
_SETTINGS = {"search_path": f"{SCHEMA},public", "timezone": "UTC", "idle_in_transaction_session_timeout": "30s"}


def read(path: str) -> LiteralString:
    """The text of a file below sql/, for instance `common/tables.sql`."""
    return (HERE / path).read_text()


@cache
def queries(name: str) -> Mapping[str, LiteralString]:
    """The named queries of `queries/<name>.sql`. They are literal strings: we answer for the files."""
    found = _BLOCK.findall(read(f"queries/{name}.sql"))
    return {key: cast("LiteralString", body.strip().removesuffix(";")) for key, body in found}  # one may hold another


def connect(url: str, role: str = "barwright", pooled: bool = False, **options: Any) -> Connection[tuple[Any, ...]]:
    """Open a connection with our search path, UTC and keepalives; an empty url means libpq's PG* variables."""
    return psycopg.connect(url, **{**connection_options(role, pooled), **options})


def connection_options(role: str, pooled: bool = False, **settings: str) -> dict[str, Any]:
    """What psycopg opens our connections with, named in pg_stat_activity after their role, with further settings.

    `pooled`: by a pooler that gives out a server for one transaction. It takes no settings at the start (the role's
    own hold, and `local_settings` in a transaction) and knows no prepared statements.
    """
    named = {**_CONNECT, "application_name": f"barwright {role}"}
    if pooled:
        return {**named, "prepare_threshold": None}
    return {**named, "options": " ".join(f"-c {name}={value}" for name, value in (_SETTINGS | settings).items())}


def local_settings(**settings: str) -> LiteralString:
    """A select list that sets for one transaction what a pooled connection could not be opened with."""
    each = (f"set_config('{name}', '{value}', true)" for name, value in (_SETTINGS | settings).items())
    return ", ".join(each)  # names and values are written in our modules
