"""The past: workers for every source that gives some symbol its history."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final
from uuid import uuid4

import structlog

from barwright.errors import BarwrightError
from barwright.ingest.feed.connection import end
from barwright.ingest.feed.database import AWAY, Database, patterns
from barwright.ingest.feed.desk import Desk
from barwright.ingest.feed.history import Publisher
from barwright.ingest.feed.source import Source
from barwright.ingest.feed.topics import Topics
from barwright.settings import Settings

log = structlog.get_logger()
# Seconds between two looks for sources.
LOOK: Final = 1.0


class Backfill:
    """The workers of every source that gives some symbol its history."""

    def __init__(
        self, settings: Settings, database: Database, topics: Topics, source_of: Callable[[str], Source]
    ) -> None:
        self.settings, self.database, self.topics, self.source_of = settings, database, topics, source_of
        self.publisher = Publisher(settings)
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:6]}"
        self.workers: dict[str, list[asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Work until cancelled; a new source gets its workers within a second."""
        try:
            while True:
                with suppress(AWAY):
                    for (name,) in await self.database.rows("givers", sources=patterns(self.settings.feed_sources)):
                        if name not in self.workers:
                            self._employ(name)
                await asyncio.sleep(LOOK)
        finally:
            await end([task for tasks in self.workers.values() for task in tasks])
            await self.publisher.close()

    def _employ(self, name: str) -> None:
        try:
            source = self.source_of(name)
        except BarwrightError as error:
            log.error("no such source", source=name, error=str(error))
            self.workers[name] = []
            return
        desk = Desk(source, self.database, self.topics, self.publisher, self.owner)
        self.workers[name] = [asyncio.create_task(desk.work()) for _ in range(self.settings.backfill_workers)]
