"""What the handlers share: connections, caches and the task that keeps them true."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar

from barwright.api.access.keys import Keys
from barwright.api.access.limits import Limiter
from barwright.api.access.login import offer
from barwright.api.access.policy import required
from barwright.api.bars import Bars
from barwright.api.cover import Cover
from barwright.api.coverages import Coverages
from barwright.api.database import Change, Database
from barwright.api.follower import Follower
from barwright.api.replica import Replica
from barwright.api.shared import Shared
from barwright.api.store import Store
from barwright.api.stream.hub import Hub
from barwright.api.waiting import Waiting
from barwright.api.warming import warm
from barwright.api.writer import Writer
from barwright.metrics.health import Health
from barwright.settings import Settings

TURN = 0.5  # seconds


class Services:
    """One set for each process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._events: asyncio.AbstractEventLoop | None = None
        self.health = Health(settings, "serve")
        self.address = ""  # where we are reached, once we listen
        self.database = Database(settings)
        self.replica = Replica(settings, self.database)
        self.writer = Writer(settings, self.database.wrote if settings.database_read_url else None)
        self.store = Store(settings.page_cache_bars)
        self.shared = Shared(settings)
        self.follower = Follower(self.database, self._changed)
        keys = required(settings)
        self.limiter = Limiter(settings.rate_limit, keys, self.shared, self._epoch)
        self.access = Keys(keys, self.database, self.limiter)
        self.coverages = Coverages(self.database, self.follower)
        cover = Cover(self.database, self.follower, self.store, self.shared)
        self.bars = Bars(self.database, self.follower, cover, self.coverages)
        self.waiting = Waiting(self.bars, self.coverages, self.writer)
        self.hub = Hub(settings, self.database, self.follower, self.bars)
        self.follower.looked = self.hub.looked
        self._loop = self.health.loop("serve")
        self.health.check("redis", self._redis, needed=False)

    def _redis(self) -> bool:
        """Whether Redis answers; from another thread."""
        if self._events is None:
            return False
        return asyncio.run_coroutine_threadsafe(self.shared.ping(), self._events).result(2)

    async def _turn(self) -> None:
        """Show that the event loop turns."""
        while True:
            self._loop.turn()
            await asyncio.sleep(TURN)

    def _epoch(self) -> str | None:
        return self.follower.look.epoch if self.follower.look else None

    def _changed(self, changes: list[Change] | None) -> None:
        self.coverages.changed(changes)
        self.store.changed(changes)
        self.hub.changed(changes)

    @asynccontextmanager
    async def lifespan(self, _: Litestar) -> AsyncIterator[None]:
        """Connect, follow, and let go of everything at the end; starts also while the database is away."""
        self._events = asyncio.get_running_loop()
        await self.database.open()
        await self.writer.open()
        tasks = [asyncio.create_task(self.follower.run(), name="follower"), asyncio.create_task(self.limiter.run()),
                 asyncio.create_task(self.hub.run(), name="hub")]  # fmt: skip
        tasks.append(asyncio.create_task(self._turn(), name="turning"))
        tasks.append(asyncio.create_task(self.replica.run(), name="replica"))
        tasks.append(asyncio.create_task(self.access.run(), name="keys"))
        tasks.append(asyncio.create_task(warm(self.bars), name="warm-up"))
        if self.access.on and self.address:
            tasks.append(asyncio.create_task(offer(self.writer, self.address), name="login link"))
        try:
            yield
        finally:
            self._events = None
            self._loop.rest()
            await _end(tasks)
            await self.hub.close()
            await self.waiting.close()
            await self.writer.close()
            await self.database.close()
            await self.shared.close()


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended: a driver may take the first for its own time limit's (redis-py in 1 of 60
    stops amid an exchange), and the task goes on."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.2)
