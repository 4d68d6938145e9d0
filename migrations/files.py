"""How a revision runs a file of sql/."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from alembic import op
from sqlalchemy import Connection, text

from barwright import sql

# What somebody else has made so far may be looked at by the role that makes something of its own.
_ACT_AS = """
do $$
begin
    execute format('grant usage, create on schema barwright to %1$I', '{role}');
    execute format('grant select on all tables in schema barwright to %1$I', '{role}');
    execute format('set local role %I', '{role}');
end
$$
"""
# The role of a kind, where who migrates needs it.
_ROLE = """
select rolname from pg_roles
where rolname = current_setting('barwright.role_prefix', true) || '_' || :kind and pg_has_role(current_user, oid, 'set')
and not (select rolsuper from pg_roles where rolname = current_user)
"""


def run(*paths: str, role: str = "") -> None:
    """Run whole files through the driver itself: without parameters psycopg takes many statements and any `%`.

    With a `role` (`maintain`) what they make is that database role's from the start: on TimescaleDB only a superuser
    can hand a continuous aggregate over later (and in 2.23 only a superuser or a hypertable's owner could make one).
    """
    connection = op.get_bind()
    with _acting_as(connection, role):
        run_on(connection, *paths)


def run_on(connection: Connection, *paths: str) -> None:
    """Run files on a connection."""
    driver = connection.connection.driver_connection
    assert driver is not None
    for path in paths:
        driver.execute(sql.read(path))


@contextmanager
def _acting_as(connection: Connection, kind: str) -> Iterator[None]:
    found = kind and connection.scalar(text(_ROLE), {"kind": kind})
    if not found:
        yield
        return
    connection.execute(text(_ACT_AS.format(role=found)))
    yield
    connection.execute(text("reset role"))


def run_again(path: str, *names: str) -> None:
    """Make functions and views what a file of sql/ says again, after a later revision replaced them."""
    driver = op.get_bind().connection.driver_connection
    assert driver is not None
    for name in names:
        there = rf"^create (?:or replace )?(function {name}\(.*?^(?:end;|\$\$;|\);)$|view {name} as$.*?;$)"
        found = re.search(there, sql.read(path), re.MULTILINE | re.DOTALL)
        assert found is not None, name
        driver.execute(f"create or replace {found[1]}")
