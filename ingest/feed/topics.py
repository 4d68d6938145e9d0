"""Dynamic topics: made on demand, and deleted when they have been quiet."""

from __future__ import annotations

import asyncio
import random
import re
import time
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import structlog

from barwright.ingest import kafka
from barwright.ingest.feed import broker
from barwright.ingest.feed.broker import Admin, in_thread
from barwright.ingest.feed.database import AWAY, Database, Q
from barwright.ingest.kafka import KafkaError, Partition, symbol_of_topic, topic_of_symbol
from barwright.settings import Settings

log = structlog.get_logger()
# Seconds between two looks for quiet topics.
LOOK: Final = 60.0


class Topics:
    """The topics that this feed knows to be there, and the end of those nobody needs."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings, self.database = settings, database
        self._used: dict[str, float] = {}

    async def ensure(self, symbol: str) -> str:
        """The topic of a symbol's history, which is there. Raises KafkaError."""
        topic = topic_of_symbol(symbol)
        # Any feed may delete one that has been quiet; before half of that time none does.
        known_since = time.monotonic() - self.settings.topic_quiet / 2
        if self._used.get(topic, 0.0) <= known_since and await in_thread(kafka.ensure_topic, self.settings, topic, 1):
            log.info("made the topic", topic=topic)
        self._used[topic] = time.monotonic()
        return topic

    def forget(self, topic: str) -> None:
        """A delivery failed: the topic may be gone."""
        self._used.pop(topic, None)

    async def run(self) -> None:
        """Tidy up every minute until cancelled."""
        while True:
            await asyncio.sleep(min(LOOK, self.settings.topic_quiet) * random.uniform(0.9, 1.1))
            try:
                await self.tidy()
            except (AWAY, KafkaError, OSError) as error:
                log.warning("quiet topics stay for now", error=f"{type(error).__name__}: {error}".strip())

    async def tidy(self) -> int:
        """Delete what is quiet; returns how many topics. Raises KafkaError and what AWAY lists."""
        admin = await broker.opened(lambda: Admin(self.settings), Admin.close)
        try:
            fits = re.compile(self.settings.dynamic_pattern).match
            topics = [topic for topic in await in_thread(admin.topics) if fits(topic) and topic_of(topic) == topic]
            return sum([await self._delete(admin, *row) for row in await self._quiet(topics)])
        finally:
            broker.in_background(admin.close)

    async def _quiet(self, topics: list[str]) -> list[tuple[Any, ...]]:
        return await self.database.rows("quiet_topics", **self._named(topics))

    def _named(self, topics: list[str]) -> dict[str, Any]:
        quiet = timedelta(seconds=self.settings.topic_quiet)
        return {"topics": topics, "symbols": [symbol_of_topic(topic) for topic in topics], "quiet": quiet}

    async def _delete(self, admin: Admin, topic: str, topic_id: UUID, _: int) -> bool:
        """Delete a topic if it is still quiet and read to its end, while nobody can file a task for its symbol."""
        async with self.database.transaction() as connection:
            if not await _one(connection, "tidy"):
                return False
            await connection.execute(Q["hold"], {"symbol": symbol_of_topic(topic)})
            rows = await (await connection.execute(Q["quiet_topics"], self._named([topic]))).fetchall()
            if not rows or rows[0][1] != topic_id:
                return False
            if await in_thread(admin.end, Partition(topic, 0)) != rows[0][2]:
                return False
            self.forget(topic)
            await in_thread(admin.delete, topic_id)
            await connection.execute(Q["forget_topic"], {"topic": topic, "topic_id": topic_id})
        log.info("deleted the quiet topic", topic=topic)
        return True


def topic_of(topic: str) -> str:
    """The name we would give; another's topic of the pattern may be named otherwise, and is left alone."""
    return topic_of_symbol(symbol_of_topic(topic))


async def _one(connection: Any, name: str) -> bool:
    row = await (await connection.execute(Q[name])).fetchone()
    return bool(row[0])
