"""The database as the API uses it: short read-only snapshots on a pool, and outages that become 503."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import AsyncConnection, IsolationLevel, errors
from psycopg.sql import Composed
from psycopg_pool import AsyncConnectionPool

from barwright import sql
from barwright.api.errors import unavailable
from barwright.settings import Settings

Q = sql.queries("api")
Row = tuple[Any, ...]
Change = tuple[int, str, int, int]  # a revision: rev, symbol, and the seconds [from, to) whose closed bars changed

# Views nested over many partitions take 15-30 ms to plan and 0.3-3 ms to run; parallel workers cost 15 ms to start for
# a page of 500 bars. So plans are generic and made once for each connection and query, without workers or JIT.
# Disk pages count for little: by PostgreSQL's own costs it takes the index of all symbols' buckets to read fewer,
# and 500 bars of one symbol among 20 take 4 ms, not 0.9.
_OPTIONS = (
    " -c plan_cache_mode=force_generic_plan -c max_parallel_workers_per_gather=0 -c jit=off"
    " -c seq_page_cost=0.05 -c random_page_cost=0.05"
    " -c statement_timeout=5s -c lock_timeout=2s"
)
WAIT = 2.0  # seconds a request waits for a connection before it is told to come again


@dataclass(frozen=True, slots=True)
class Look:
    """What one snapshot says of the database: clock in seconds, watermarks by level, revisions since the last look."""

    epoch: str
    rev: int
    clock: float
    watermarks: dict[str, int]
    changes: list[Change]


class Snapshot:
    """One REPEATABLE READ transaction; queries given together cost one round trip."""

    def __init__(self, connection: AsyncConnection[Row]) -> None:
        self.connection = connection

    async def fetch(self, query: LiteralString | Composed, args: Mapping[str, Any]) -> list[Row]:
        """The rows of one query."""
        return await (await self.connection.execute(query, args)).fetchall()

    async def fetch_all(
        self, *queries: tuple[LiteralString | Composed, Mapping[str, Any]], last: bool = False
    ) -> list[list[Row]]:
        """The rows of several queries in one round trip; `last` ends the transaction with them."""
        async with self.connection.pipeline():
            cursors = [await self.connection.execute(query, args) for query, args in queries]
            if last:
                await self.connection.commit()
        return [await cursor.fetchall() for cursor in cursors]


class Database:
    """A pool of connections. Every failure to reach the server is an ApiError 503 with Retry-After."""

    def __init__(self, settings: Settings) -> None:
        options = sql.connection_options("serve")
        options["options"] += _OPTIONS
        self.pool = AsyncConnectionPool[AsyncConnection[Row]](
            settings.database_url, kwargs={**options, "prepare_threshold": 0, "connect_timeout": 2},
            configure=_configure, min_size=1, max_size=settings.database_pool, timeout=WAIT, max_waiting=1000,
            max_lifetime=1800, reconnect_timeout=5, name="serve", open=False,
        )  # fmt: skip

    async def open(self) -> None:
        """Start connecting; does not wait, so that the API starts while the database is away."""
        await self.pool.open(wait=False)

    async def close(self) -> None:
        """End every connection."""
        await self.pool.close(timeout=2)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """A read-only snapshot; ApiError 503 when the server is away, or goes away."""
        try:
            async with self.pool.connection() as connection:
                yield Snapshot(connection)
        except psycopg.Error as error:
            raise translated(error) from error

    async def fetch(self, query: LiteralString | Composed, args: Mapping[str, Any] | None = None) -> list[Row]:
        """The rows of one query in a snapshot of its own."""
        async with self.snapshot() as snapshot:
            return (await snapshot.fetch_all((query, args or {}), last=True))[0]


async def _configure(connection: AsyncConnection[Row]) -> None:
    await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
    await connection.set_read_only(True)


def look(row: Row) -> Look:
    """The row of query `look`."""
    epoch, rev, clock, watermarks, changes = row
    return Look(epoch, rev, clock, watermarks, [(r, s, lo, hi) for r, s, lo, hi in changes or ()])


def translated(error: psycopg.Error) -> Exception:
    """The ApiError of a driver's error that is no fault of ours; others as they are."""
    match error:
        case errors.QueryCanceled():
            return unavailable("The database took too long.", "database_slow", "Ask for a shorter span, or try again.")
        case errors.LockNotAvailable():
            return unavailable("The symbol is being worked on.", "busy")
        case errors.ReadOnlySqlTransaction():
            return unavailable("The database takes no writes.", "database_read_only", "Is it a standby?")
        case (
            errors.UndefinedTable() | errors.UndefinedColumn() | errors.UndefinedFunction() | errors.InvalidSchemaName()
        ):
            return unavailable("The database is not migrated.", "database_not_migrated", "Run `barwright migrate`.")
        case errors.FeatureNotSupported() if "cached plan" in str(error):
            return unavailable("The database was just migrated.")
        case psycopg.OperationalError() | psycopg.InterfaceError():
            return unavailable("The database cannot be reached.")
    return error
