"""The database roles (common/roles.sql): their names, their passwords, and what is known of them."""

from dataclasses import dataclass
from typing import Any

from psycopg import Connection
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier, Literal

from barwright.sql import queries

Q = queries("roles")
OWNER = "owner"
# Those that log in, and so have passwords.
LOGINS = ("feed", "ingest", "maintain", "api", "read")


@dataclass(frozen=True)
class Role:
    """A role of the server: connections now and at most (-1: any number), its own settings (`name=value`), whether it
    has been granted anything in this database; `password` is None where who asks may not know."""

    name: str
    login: bool
    password: bool | None
    connections: int
    limit: int
    granted: bool
    settings: tuple[str, ...]


def name_of(prefix: str, kind: str) -> str:
    """The name of a role: `barwright_feed`."""
    return f"{prefix}_{kind}"


def roles(connection: Connection[Any], prefix: str) -> list[Role]:
    """The roles that are there, the owner first."""
    names = {"names": [name_of(prefix, kind) for kind in (OWNER, *LOGINS)]}
    sees = connection.execute(Q["sees_passwords"]).fetchone()
    having = {name for (name,) in connection.execute(Q["passwords"], names)} if sees and sees[0] else None
    return [
        Role(name, login, None if having is None else name in having, now, limit, granted, tuple(settings or ()))
        for name, login, now, limit, granted, settings in connection.execute(Q["roles"], names)
    ]


def set_password(connection: Connection[Any], name: str, password: str) -> None:
    """Give a role a password. It is made a SCRAM verifier here: the server's log and pg_stat_activity never see it.

    Raises psycopg's UndefinedObject where there is no such role, InsufficientPrivilege where that is not allowed.
    """
    verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    connection.execute(SQL("alter role {} password {}").format(Identifier(name), Literal(verifier)))


def url_of(url: str, name: str, password: str) -> str:
    """A DSN with another user and password."""
    return make_conninfo(url, user=name, password=password)
