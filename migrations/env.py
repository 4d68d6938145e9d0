"""Alembic's entry point: one transaction, one migration at a time, everything in schema barwright."""

from collections.abc import Callable
from typing import Any

import psycopg
from alembic import context
from sqlalchemy import create_engine, pool, text

from barwright import sql
from barwright.settings import Settings


def connector(url: str) -> Callable[[], Any]:
    """Connect as every other part of Barwright does. prepare_threshold=None: migrations must pass any pooler."""
    return lambda: psycopg.connect(url, prepare_threshold=None, **sql.connection_options("migrate"))


def migrate() -> None:
    """Run the migrations asked for; after `downgrade base` the schema itself goes too."""
    settings = context.config.attributes.get("settings") or Settings()
    engine = create_engine("postgresql+psycopg://", creator=connector(settings.database_url), poolclass=pool.NullPool)
    with engine.begin() as connection:
        # Before the version is read, so that a second migration waits here and then finds nothing to do.
        connection.execute(text("select pg_advisory_xact_lock(hashtextextended('barwright.migrate', 0))"))
        connection.execute(text("create schema if not exists barwright"))
        context.configure(connection=connection, version_table_schema=sql.SCHEMA)
        context.config.attributes["settings"] = settings
        context.run_migrations()
        if not context.get_context().get_current_heads():
            connection.execute(text("drop schema barwright cascade"))


migrate()
