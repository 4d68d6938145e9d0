"""The Producer: the present of the symbols that are followed, and their past where it is missing, from their sources
to Kafka. Any number of feeds share the work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog
import uvloop

from barwright.ingest import kafka
from barwright.ingest.feed.backfill import Backfill
from barwright.ingest.feed.database import Database
from barwright.ingest.feed.live import Follower
from barwright.ingest.feed.metrics import Following
from barwright.ingest.feed.source import Source
from barwright.ingest.feed.topics import Topics
from barwright.links.kafka import options
from barwright.metrics.health import Health
from barwright.metrics.listener import listening
from barwright.reporting import reporter
from barwright.settings import Settings

log = structlog.get_logger()
# Seconds between two looks at the end, and what may be spent on ending.
LOOK: Final = 0.1
ENDING: Final = 1.5
SourceOf = Callable[[str, Settings], Source]


def run(settings: Settings, stop: threading.Event, make: SourceOf | None = None) -> None:
    """Feed until `stop` is set; `make` gives a source by its name. Raises what is no outage."""
    options(settings)  # said at once where they make no sense
    health = Health(settings, "feed")
    health.check("kafka", lambda: kafka.answers(settings))
    told = reporter(settings, "feed", health)
    told.start()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_feed(settings, stop, make, health))
    finally:
        told.close(0.5)


async def _feed(settings: Settings, stop: threading.Event, make: SourceOf | None, health: Health) -> None:
    database, sources, loop = Database(settings), Sources(settings, make), health.loop("feed")
    topics, follower = Topics(settings, database), Follower(settings, database, sources)
    parts: list[Coroutine[Any, Any, None]] = [
        follower.run(),
        Backfill(settings, database, topics, sources).run(),
        topics.run(),
    ]
    await database.open()
    tasks = [asyncio.create_task(part) for part in parts]
    log.info("feeding", sources=settings.feed_sources, topic=settings.tick_topic)
    try:
        with listening(settings, health, Following(follower)):
            while not stop.is_set():
                await asyncio.wait(tasks, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED)
                loop.turn()
                for task in tasks:
                    if task.done():
                        task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=ENDING)
        await sources.close()
        await database.close()
        log.info("stopped")


class Sources:
    """Each source once: its live connection and its history share its rate limit and its breaker."""

    def __init__(self, settings: Settings, make: SourceOf | None) -> None:
        self.settings, self._make = settings, make
        self._made: dict[str, Source] = {}

    def __call__(self, name: str) -> Source:
        """The source of a name. Raises BarwrightError where there is none."""
        if name not in self._made:
            if self._make is None:
                from barwright.ingest.feed.sources import source_of

                self._make = source_of
            self._made[name] = self._make(name, self.settings)
        return self._made[name]

    async def close(self) -> None:
        """Give up all connections."""
        await asyncio.gather(*(source.close() for source in self._made.values()), return_exceptions=True)
