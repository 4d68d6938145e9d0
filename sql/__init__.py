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
_OPTIONS = f"-c search_path={SCHEMA},public -c timezone=UTC -c idle_in_transaction_session_timeout=30s"


def read(path: str) -> LiteralString:
    """The text of a file below sql/, for instance `common/tables.sql`."""
    return (HERE / path).read_text()


@cache
def queries(name: str) -> Mapping[str, LiteralString]:
    """The named queries of `queries/<name>.sql`. They are literal strings: we answer for the files."""
    found = _BLOCK.findall(read(f"queries/{name}.sql"))
    return {key: cast("LiteralString", body.strip().removesuffix(";")) for key, body in found}  # one may hold another


def connect(url: str, role: str = "barwright", **options: Any) -> Connection[tuple[Any, ...]]:
    """Open a connection with our search path, UTC and keepalives; an empty url means libpq's PG* variables."""
    return psycopg.connect(url, **connection_options(role), **options)


def connection_options(role: str) -> dict[str, Any]:
    """The libpq parameters of every connection we open, named in pg_stat_activity after its role."""
    return {**_CONNECT, "application_name": f"barwright {role}", "options": _OPTIONS}
