"""The present: a connection for each source of which the database wants symbols followed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import structlog

from barwright.errors import BarwrightError
from barwright.ingest.feed.connection import Connection, end
from barwright.ingest.feed.database import AWAY, Database, patterns
from barwright.ingest.feed.source import Market, Source
from barwright.settings import Settings

log = structlog.get_logger()
# Seconds between two looks at what is to be followed.
LOOK: Final = 1.0


class Follower:
    """Keeps a connection for each source of which symbols are to be followed."""

    def __init__(self, settings: Settings, database: Database, source_of: Callable[[str], Source]) -> None:
        self.settings, self.database, self.source_of = settings, database, source_of
        self.running: dict[str, tuple[Connection, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Follow until cancelled. While the database is away the symbols stay as they were."""
        sources, reachable = patterns(self.settings.feed_sources), True
        try:
            while True:
                try:
                    rows = await self.database.rows("followed", sources=sources)
                except AWAY as error:
                    if reachable:
                        log.warning("no database; the symbols stay as they are", error=str(error).strip())
                    reachable = False
                else:
                    reachable = True
                    self._follow(rows)
                await asyncio.sleep(LOOK * random.uniform(0.9, 1.1))
        finally:
            await end([task for _, task in self.running.values()])

    def _follow(self, rows: list[tuple[Any, ...]]) -> None:
        wanted: dict[str, dict[str, tuple[Market, datetime]]] = {}
        for symbol, source, market, registered_at in rows:
            wanted.setdefault(source, {})[symbol] = (Market(symbol, market), registered_at)
        # What other programs send to Kafka is followed by nobody here.
        wanted.pop("kafka", None)
        for name, symbols in wanted.items():
            if name not in self.running:
                self._start(name)
            if name in self.running:
                self.running[name][0].follow(symbols)
        for name in self.running.keys() - wanted.keys():
            connection, task = self.running.pop(name)
            connection.follow({})
            task.cancel()

    def _start(self, name: str) -> None:
        try:
            connection = Connection(self.settings, self.source_of(name))
        except BarwrightError as error:
            log.error("no such source", source=name, error=str(error))
            return
        self.running[name] = connection, asyncio.create_task(connection.run())
