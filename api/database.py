"""The database as the API uses it: short read-only snapshots on a pool, and outages that become 503."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, LiteralString, ParamSpec, TypeVar

import psycopg
import structlog
from psycopg import AsyncConnection, IsolationLevel, errors
from psycopg.sql import Composed
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from barwright import sql
from barwright.api.errors import CutError, unavailable
from barwright.settings import Settings

log = structlog.get_logger()
Q = sql.queries("api")
Row = tuple[Any, ...]
Change = tuple[int, str, int, int]  # a revision: rev, symbol, and the seconds [from, to) whose closed bars changed

# Views nested over many partitions take 15-30 ms to plan and 0.3-3 ms to run; parallel workers cost 15 ms to start for
# a page of 500 bars. So plans are generic and made once for each connection and query, without workers or JIT.
# Disk pages count for little: by PostgreSQL's own costs it takes the index of all symbols' buckets to read fewer,
# and 500 bars of one symbol among 20 take 4 ms, not 0.9.
_SETTINGS = {
    "plan_cache_mode": "force_generic_plan", "max_parallel_workers_per_gather": "0", "jit": "off",
    "seq_page_cost": "0.05", "random_page_cost": "0.05", "statement_timeout": "5s", "lock_timeout": "2s",
}  # fmt: skip
WAIT = 2.0  # seconds a request waits for a connection before it is told to come again
TRIES = (0.02, 0.2)  # seconds before a read that was cut off is made again
Given = ParamSpec("Given")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Look:
    """What one snapshot says of the database: clock in seconds, watermarks by level, revisions since the last look."""

    epoch: str
    rev: int
    clock: float
    watermarks: dict[str, int]
    changes: list[Change]


def retried(read: Callable[Given, Awaitable[Result]]) -> Callable[Given, Coroutine[Any, Any, Result]]:
    """Read again what was cut off, twice; then the CutError is told, a 503."""

    @wraps(read)
    async def again(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        for pause in TRIES:
            try:
                return await read(*args, **kwargs)
            except CutError:
                await asyncio.sleep(pause)
        return await read(*args, **kwargs)

    return again


class Snapshot:
    """One REPEATABLE READ transaction; queries given together cost one round trip. `first` is asked before all else, in
    the same round trip, and `heard` takes the answer; CutError where it does not want this server's."""

    def __init__(
        self, connection: AsyncConnection[Row], first: LiteralString | None, heard: Callable[[Row], None]
    ) -> None:
        self.connection = connection
        self.first = first
        self.heard = heard

    async def fetch(self, query: LiteralString | Composed, args: Mapping[str, Any]) -> list[Row]:
        """The rows of one query."""
        return (await self.fetch_all((query, args)))[0]

    async def fetch_all(
        self, *queries: tuple[LiteralString | Composed, Mapping[str, Any]], last: bool = False
    ) -> list[list[Row]]:
        """The rows of several queries in one round trip; `last` ends the transaction with them."""
        first, self.first = self.first, None
        async with self.connection.pipeline():
            begun = await self.connection.execute(first) if first else None
            cursors = [await self.connection.execute(query, args) for query, args in queries]
            if last:
                await self.connection.commit()
        if begun is not None:
            [row] = await begun.fetchall()
            try:
                self.heard(row)
            except CutError:
                await self.connection.close()
                raise
        return [await cursor.fetchall() for cursor in cursors]


class Server:
    """A pool of connections to one server. `start` is when that began, once it is known: it tells servers apart."""

    def __init__(self, settings: Settings, url: str, name: str) -> None:
        self.name = name
        self.url = url
        self.options = sql.connection_options("serve", settings.pooler == "transaction", **_SETTINGS)
        self.pooled = settings.pooler == "transaction"
        self.start: float | None = None
        self.pool = AsyncConnectionPool[AsyncConnection[Row]](
            url, kwargs={"prepare_threshold": 0, **self.options, "connect_timeout": 2}, configure=self._configure,
            min_size=1, max_size=settings.database_pool, timeout=WAIT, max_waiting=1000,
            max_lifetime=1800, reconnect_timeout=5, name=name, open=False,
        )  # fmt: skip

    async def _configure(self, connection: AsyncConnection[Row]) -> None:
        if not self.pooled:
            await connection.set_autocommit(True)
            await connection.execute(Q["plan_each"])
            await connection.set_autocommit(False)
        await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        await connection.set_read_only(True)
        if self.start is not None and not self.pooled:
            [row] = await (await connection.execute(Q["position"])).fetchall()
            await connection.commit()
            if row[0] != self.start:
                raise psycopg.OperationalError("this is another server than the one that is read from")


class Database:
    """Where the API reads: the server of DATABASE_URL, or its standby while `Replica` finds that good enough.

    One process reads from one server at a time, and goes to another only if that is not behind what it has read
    (`seen`, a position in the log): so nothing it serves goes back, and its caches need not know of it. Every failure
    to reach the server is an ApiError 503 with Retry-After, a CutError where reading again may help.
    """

    def __init__(self, settings: Settings) -> None:
        self.primary = Server(settings, settings.database_url, "serve")
        self.replica = Server(settings, url, "serve-replica") if (url := settings.database_read_url) else None
        self.current = self.primary
        self.seen = 0
        self.free = asyncio.Event()  # cleared while nobody may begin to read
        self.free.set()
        local = sql.local_settings(**_SETTINGS) if settings.pooler == "transaction" else ""
        self.first = f"select {local}" if local else None
        if self.replica:
            self.first = f"select position.* {local and ', ' + local} from ({Q['position']}) as position"

    @property
    def pool(self) -> AsyncConnectionPool[AsyncConnection[Row]]:
        """The connections that are read by now."""
        return self.current.pool

    async def open(self) -> None:
        """Start connecting; does not wait, so that the API starts while the database is away."""
        for server in self._servers():
            await server.pool.open(wait=False)

    async def close(self) -> None:
        """End every connection."""
        for server in self._servers():
            await server.pool.close(timeout=2)

    def use(self, server: Server, why: str) -> None:
        """Read from a server from now on. What was begun elsewhere and has not come yet is cut off."""
        if server is not self.current:
            log.info("reads", source=server.name, reason=why)
            self.current = server

    def wrote(self, position: int) -> None:
        """This process has written: who reads after it is to find that."""
        self.seen = max(self.seen, position)
        if self.current is self.replica:
            self.use(self.primary, "something was written")

    @asynccontextmanager
    async def snapshot(self, newest: bool = False) -> AsyncIterator[Snapshot]:
        """A read-only snapshot; `newest`: of the primary. ApiError 503 when the server is away, or goes away."""
        if not newest:
            await self.free.wait()
        server = self.primary if newest else self.current
        try:
            async with server.pool.connection() as connection:
                yield Snapshot(connection, self.first, self._hears(server, newest))
        except psycopg.Error as error:
            raise self._failed(server, error) from error

    @retried
    async def fetch(
        self, query: LiteralString | Composed, args: Mapping[str, Any] | None = None, newest: bool = False
    ) -> list[Row]:
        """The rows of one query in a snapshot of its own."""
        async with self.snapshot(newest) as snapshot:
            return (await snapshot.fetch_all((query, args or {}), last=True))[0]

    @retried
    async def fetch_all(self, *queries: tuple[LiteralString | Composed, Mapping[str, Any]]) -> list[list[Row]]:
        """The rows of several queries in a snapshot of their own."""
        async with self.snapshot() as snapshot:
            return await snapshot.fetch_all(*queries, last=True)

    def _servers(self) -> list[Server]:
        return [self.primary, *([self.replica] if self.replica else [])]

    def _hears(self, server: Server, newest: bool) -> Callable[[Row], None]:
        def heard(row: Row) -> None:
            if self.replica is None or newest:
                return
            start, standby, position = row[:3]
            if server is not self.current:
                raise CutError("Another server is read from.")
            if server is self.replica and start != server.start:
                raise CutError("The standby is another server.")  # one of several behind its name
            if server is self.replica and not standby and start != self.primary.start:
                self.use(self.primary, "the standby is none any more")
                raise CutError("The standby is none any more.")
            self.seen = max(self.seen, position)

        return heard

    def _failed(self, server: Server, error: psycopg.Error) -> Exception:
        """What to say of an error; a standby that has gone is left at once."""
        if isinstance(error, errors.SerializationFailure | errors.DeadlockDetected):
            return CutError("The database was busy with something else.")  # a standby has to go on with its log
        gone = isinstance(error, psycopg.OperationalError) and (error.sqlstate or "08").startswith(("08", "57P"))
        busy = isinstance(error, PoolTimeout | TooManyRequests)
        if server is self.replica and gone and not busy:
            self.use(self.primary, "the standby is away")
        if server is self.replica and gone and server is not self.current:
            return CutError("The standby is away.")  # also for who was waiting for one of its connections
        return translated(error)


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
