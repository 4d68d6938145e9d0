"""What the API writes: registrations and requests for history, on a small pool of its own. Reads are snapshots that
could not see what others have just done; these are READ COMMITTED and take the locks of the functions they call."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from barwright import sql
from barwright.api.database import WAIT, Row, translated
from barwright.api.database import Q as READS
from barwright.settings import Settings

Q = sql.queries("history")
# A purge deletes all of a symbol's ticks; who registers one waits for an import of it that is just landing.
_SETTINGS = {"statement_timeout": "60s", "lock_timeout": "5s", "jit": "off"}
MOST = 4  # connections, made when they are needed


class Writer:
    """A pool of connections that write. Every failure to reach the server is an ApiError 503 with Retry-After.

    `wrote(position)` hears how far the log was written with what others are to find.
    """

    def __init__(self, settings: Settings, wrote: Callable[[int], None] | None = None) -> None:
        self.wrote = wrote
        pooled = settings.pooler == "transaction"
        options = sql.connection_options("serve-writes", pooled, **_SETTINGS)
        self.first = f"select {sql.local_settings(**_SETTINGS)}" if pooled else None
        self.pool = AsyncConnectionPool[AsyncConnection[Row]](
            settings.database_url, kwargs={**options, "connect_timeout": 2}, min_size=0, max_size=MOST, timeout=WAIT,
            max_waiting=100, max_idle=60, reconnect_timeout=5, name="serve-writes", open=False,
        )  # fmt: skip

    async def open(self) -> None:
        """Be ready; connections are made when they are needed."""
        await self.pool.open(wait=False)

    async def close(self) -> None:
        """End every connection."""
        await self.pool.close(timeout=2)

    @asynccontextmanager
    async def transaction(self, told: bool = True) -> AsyncIterator[AsyncConnection[Row]]:
        """One transaction, committed at the end; ApiError 503 when the server is away, or goes away. Reads that follow
        find what it wrote, unless it is not `told`."""
        try:
            async with self.pool.connection() as connection:
                if self.first:
                    await connection.execute(self.first)
                yield connection
                if told and self.wrote:
                    await connection.commit()
                    [row] = await (await connection.execute(READS["position"])).fetchall()
                    self.wrote(row[2])
        except psycopg.Error as error:
            raise translated(error) from error
