"""What the handlers share: connections, caches and the task that keeps them true."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from litestar import Litestar

from barwright.api.bars import Bars
from barwright.api.cover import Cover
from barwright.api.database import Database
from barwright.api.follower import Follower
from barwright.api.shared import Shared
from barwright.api.store import Store
from barwright.settings import Settings


class Services:
    """One set for each process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings)
        self.store = Store(settings.page_cache_bars)
        self.shared = Shared(settings)
        self.follower = Follower(self.database, self.store.changed)
        self.bars = Bars(self.database, self.follower, Cover(self.database, self.follower, self.store, self.shared))

    @asynccontextmanager
    async def lifespan(self, _: Litestar) -> AsyncIterator[None]:
        """Connect, follow, and let go of everything at the end; starts also while the database is away."""
        await self.database.open()
        following = asyncio.create_task(self.follower.run(), name="follower")
        try:
            yield
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
            await self.database.close()
            await self.shared.close()
