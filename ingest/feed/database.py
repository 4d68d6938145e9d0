"""The feed's connections to the database: a few, made again by themselves when the server comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from barwright import sql
from barwright.links.database import pooled
from barwright.settings import Settings

Q = sql.queries("feed")
Row = tuple[Any, ...]
# What a database that is away, or not migrated yet, raises; whoever meets it tries again after a pause.
AWAY: Final = psycopg.Error
# Connections, and seconds to wait for one: a claim that is not renewed in time must not be for want of these.
MOST: Final = 6
WAIT: Final = 5.0


class Database:
    """Queries of `feed.sql`, by name."""

    def __init__(self, settings: Settings) -> None:
        self.pool = AsyncConnectionPool[AsyncConnection[Row]](
            settings.database_url, kwargs={**sql.connection_options("feed", pooled(settings)), "autocommit": True},
            min_size=1, max_size=MOST, timeout=WAIT, max_lifetime=1800, reconnect_timeout=5, name="feed", open=False,
        )  # fmt: skip

    async def open(self) -> None:
        """Start connecting; does not wait for a database that is away."""
        await self.pool.open(wait=False)

    async def close(self) -> None:
        """End every connection."""
        await self.pool.close(timeout=0.3)

    async def rows(self, name: str, **values: Any) -> list[Row]:
        """The rows of a query, in a transaction of its own. Raises what AWAY lists."""
        async with self.pool.connection() as connection:
            return await (await connection.execute(Q[name], values)).fetchall()

    async def truth(self, name: str, **values: Any) -> bool:
        """The one boolean of a query."""
        ((answer,),) = await self.rows(name, **values)
        return bool(answer)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection[Row]]:
        """A connection in a transaction."""
        async with self.pool.connection() as connection, connection.transaction():
            yield connection


def patterns(sources: str) -> list[str]:
    """The patterns of LIKE for a list of sources with `*` for anything: `simulator,ccxt:*`."""
    names = [name.strip() for name in sources.split(",")]
    return [exactly(name).replace("*", "%") for name in names if name]


def exactly(name: str) -> str:
    """The pattern of LIKE that fits this text only."""
    return name.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
