"""The streams of one process: who follows which series, and what makes it look at the database."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

from barwright.api.bars import Bars
from barwright.api.database import Change, Database, Look
from barwright.api.follower import Follower
from barwright.api.intervals import Interval
from barwright.api.stream.lane import Lane, Series
from barwright.api.stream.log import Log
from barwright.api.stream.news import News
from barwright.settings import Settings

READERS = 2  # rounds of different intervals at the same time: the rest of the pool is for requests
PERIOD, ALONE = 1.0, 0.25  # seconds between two looks at every series: with Redis's hints, and without


class Hub:
    """One for each process. `stopping` is set when the server is told to stop."""

    def __init__(self, settings: Settings, database: Database, follower: Follower, bars: Bars) -> None:
        # Seconds a client may be ahead of our standby, having come from another process.
        self.patience = settings.replica_lag if settings.database_read_url else 0.0
        self.database = database
        self.follower = follower
        self.bars = bars
        self.log = Log()
        self.news = News(settings, self.told)
        self.reading = asyncio.Semaphore(READERS)
        self.lanes: dict[str, Lane] = {}
        self.stopping = asyncio.Event()
        self.clients = 0

    def changed(self, changes: list[Change] | None) -> None:
        """The follower has heard of revisions: those of `Follower.changed`."""
        self.log.heard(changes)
        self.told(None if changes is None else {symbol for _, symbol, _, _ in changes})

    def looked(self, look: Look) -> None:
        """The follower has looked."""
        self.log.looked(look)
        for lane in self.lanes.values():
            lane.looked(look)

    def told(self, symbols: Iterable[str] | None) -> None:
        """Something may be new of these symbols; None: of any."""
        for lane in self.lanes.values():
            lane.look_at(symbols)

    @asynccontextmanager
    async def following(self, symbol: str, interval: Interval) -> AsyncIterator[Series]:
        """The series, kept up to date for as long as this lasts."""
        lane = self.lanes.get(interval.key) or self.lanes.setdefault(interval.key, Lane(self, interval))
        series = lane.series.get(symbol) or lane.series.setdefault(symbol, Series(lane, symbol))
        series.followers += 1
        try:
            yield series
        finally:
            series.followers -= 1
            if not series.followers:
                del lane.series[symbol]
                if not lane.series:
                    del self.lanes[interval.key]
                    lane.task.cancel()

    async def run(self) -> None:
        """Listen, and look at everything now and then, for ever."""
        listening = asyncio.create_task(self.news.run(), name="news")
        try:
            looked = time.monotonic()
            while True:
                await asyncio.sleep(ALONE)
                if not self.news.connected or time.monotonic() - looked >= PERIOD:
                    looked = time.monotonic()
                    self.told(None)
        finally:
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening

    async def close(self) -> None:
        """End the lanes."""
        tasks = [lane.task for lane in self.lanes.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
