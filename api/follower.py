"""What this process knows of the database: epoch, revision and watermarks, followed so that caches can be trusted.

Every snapshot the API takes begins with a look, and a task looks at least every half second. Redis and notifications
could only make it sooner; the log itself is the truth.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from barwright.api.database import Change, Database, Look, Q, look
from barwright.api.errors import ApiError

PERIOD = 0.25  # seconds between looks; a repaired bar is served at most this much after its revision
STALE = 1.0  # seconds since the last look after which caches are bypassed
RECENT = 10_000  # revisions kept to judge what a slower snapshot has read
log = structlog.get_logger()


class Follower:
    """The newest look, and who wants to hear what changed: `changed(changes)`, with None for everything."""

    def __init__(self, database: Database, changed: Callable[[list[Change] | None], None]) -> None:
        self.database = database
        self.changed = changed
        self.looked: Callable[[Look], None] = lambda _: None  # hears of every look that is taken in
        self.look: Look | None = None
        self.looked_at = float("-inf")
        self.offset = 0.0
        self.failing = False

    @property
    def rev(self) -> int:
        """The last revision heard of; what a look asks the news since."""
        return self.look.rev if self.look else 2**62  # the first look wants no news, there is nothing cached

    @property
    def fresh(self) -> bool:
        """Whether the last look is recent enough to serve from caches."""
        return time.monotonic() - self.looked_at < STALE

    def clock(self) -> float:
        """The database's clock, in seconds: `now` everywhere."""
        return time.time() + self.offset

    def hear(self, news: Look, asked: float) -> None:
        """Take in a look that was asked for at monotonic time `asked`; what changed leaves the caches."""
        old = self.look
        if old is None or news.epoch != old.epoch:
            self.changed(None)
        elif news.rev < old.rev:
            if asked <= self.looked_at:
                return  # an older snapshot that took longer
            self.changed(None)  # the database went back in time without a new epoch
        elif news.rev > old.rev:
            fresh = [change for change in news.changes if change[0] > old.rev]
            # A hole means the log was swept before we read it: anything may have changed.
            self.changed(fresh if len(fresh) == news.rev - old.rev else None)
        if asked > self.looked_at or old is None:
            self.looked_at = asked
            self.offset = news.clock - time.time()
            self.look = news
        elif news.rev > old.rev:
            self.look = news
        if self.look is not None:
            self.looked(self.look)

    async def ask(self) -> Look:
        """Look now; ApiError 503 when the database is away."""
        asked = time.monotonic()
        [row] = await self.database.fetch(Q["look"], {"seen": self.rev})
        news = look(row)
        self.hear(news, asked)
        return news

    async def run(self) -> None:
        """Look for ever, through outages."""
        while True:
            try:
                await self.ask()
                if self.failing:
                    log.info("database is back")
                self.failing = False
            except ApiError as error:
                if not self.failing:
                    log.warning("database is away", reason=error.message)
                self.failing = True
            except Exception:
                log.exception("look failed")
            await asyncio.sleep(PERIOD)
