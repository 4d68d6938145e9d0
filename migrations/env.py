"""Alembic's entry point: one transaction, one migration at a time, everything in schema barwright."""

import random
import sys
import time
from collections.abc import Callable
from typing import Any

import psycopg
from alembic import context
from psycopg.errors import Diagnostic
from sqlalchemy import create_engine, pool, text
from sqlalchemy.exc import OperationalError

from barwright import sql
from barwright.errors import BarwrightError
from barwright.migrations import files
from barwright.settings import Settings

ROLES_SINCE = "0004"
# What changes a table waits for who reads it, and everybody else waits behind: at most this long, then they pass, and
# the migration is tried again from its beginning, for a minute or two (an export reads for that long).
LOCK_TIMEOUT = "1s"
TRIES = 60
OURS = "BW000"  # the error code of warnings that our own files raise


def connector(settings: Settings) -> Callable[[], Any]:
    """Connect as every other part of Barwright does. prepare_threshold=None: migrations must pass any pooler."""

    def connect() -> Any:
        options = sql.connection_options("migrate", settings.pooler == "transaction")
        connection = psycopg.connect(settings.database_url, **{**options, "prepare_threshold": None})
        connection.add_notice_handler(warn)
        return connection

    return connect


def warn(notice: Diagnostic) -> None:
    """Say what our own files warn of; TimescaleDB has its own ideas of our columns."""
    if notice.sqlstate == OURS:
        hint = f"\n{notice.message_hint}" if notice.message_hint else ""
        print(f"barwright: {notice.message_primary}{hint}", file=sys.stderr)


def migrate() -> None:
    """Run what was asked for; as often as others hold what it needs."""
    settings = context.config.attributes.get("settings") or Settings()
    for left in reversed(range(TRIES)):
        try:
            return _migrate(settings)
        except (psycopg.errors.LockNotAvailable, OperationalError) as error:
            lock = error.orig if isinstance(error, OperationalError) else error
            if not isinstance(lock, psycopg.errors.LockNotAvailable):
                raise
            if not left:
                hint = "End what holds it (select pid, query from pg_stat_activity order by xact_start), and try again."
                raise BarwrightError(f"Others do not let go of what is migrated: {lock}.", hint) from error
            time.sleep(random.uniform(0.5, 1.5))
    return None


def _migrate(settings: Settings) -> None:
    """Run the migrations asked for, then hand over and grant; after `downgrade base` the schema itself goes too."""
    engine = create_engine("postgresql+psycopg://", creator=connector(settings), poolclass=pool.NullPool)
    with engine.begin() as connection:
        connection.execute(text(f"select {sql.local_settings()}"))
        # Before the version is read, so that a second migration waits here and then finds nothing to do.
        connection.execute(text("select pg_advisory_xact_lock(hashtextextended('barwright.migrate', 0))"))
        connection.execute(text(f"set local lock_timeout = '{LOCK_TIMEOUT}'"))
        if not connection.scalar(text("select to_regnamespace('barwright')")):
            connection.execute(text("create schema barwright"))
        name = "select set_config('barwright.role_prefix', :prefix, true)"
        connection.execute(text(name), {"prefix": settings.role_prefix})
        context.configure(connection=connection, version_table_schema=sql.SCHEMA)
        context.config.attributes["settings"] = settings
        if not newest() and goal() >= ROLES_SINCE:
            files.run_on(connection, "common/roles.sql")  # something of the first revision is made by one of them
        context.run_migrations()
        if not newest():
            connection.execute(text("drop schema barwright cascade"))
            files.run_on(connection, "common/roles_drop.sql")  # that still owned something of it
        elif goal() and newest() >= ROLES_SINCE:
            files.run_on(connection, "common/roles.sql", "postgres/distribute.sql", "common/grants.sql")


def newest() -> str:
    """The revision the database is at; "" before the first."""
    return max(context.get_context().get_current_heads(), default="")


def goal() -> str:
    """Where this migration goes; "" for commands that only look, and for base."""
    destination = context.get_context().opts.get("destination_rev")
    return str(context.script.as_revision_number(destination) or "") if destination else ""


migrate()
