"""Keys for tests, made as the command makes them."""

from datetime import timedelta
from typing import Any

import psycopg

from barwright import sql
from barwright.api.access import Need, scopes_of
from barwright.api.access.token import Kind, minted

Q = sql.queries("keys")
Connection = psycopg.Connection[Any]


def make(connection: Connection, scope: Need = "read", lasts: timedelta | None = None, kind: Kind = "key") -> str:
    """A new key."""
    key, arguments = minted(kind, "test", scopes_of(scope), lasts)
    connection.execute(Q["make"], arguments)
    return key


def revoke(connection: Connection, key: str) -> None:
    """End a key."""
    connection.execute(Q["revoke"], {"prefix": key[:11]})


def bearer(key: str) -> dict[str, str]:
    """The header that carries it."""
    return {"Authorization": f"Bearer {key}"}
