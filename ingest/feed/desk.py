"""One source's backfill tasks: claimed, fetched, published, or given back with the reason."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

import structlog

from barwright.errors import BarwrightError
from barwright.ingest.feed import metrics
from barwright.ingest.feed.database import AWAY, Database, exactly
from barwright.ingest.feed.history import Publisher, Task, records
from barwright.ingest.feed.source import Market, MarketError, Source, UnavailableError, UnfinishedError
from barwright.ingest.feed.topics import Topics
from barwright.ingest.kafka import KafkaError
from barwright.machines.producer import HistoryTask

log = structlog.get_logger()
LEASE: Final = timedelta(seconds=30)
# Seconds between renewals of a lease, and between looks for tasks.
RENEW: Final = 10.0
LOOK: Final = 1.0
# Seconds until what was published must have landed, at the first attempt; each further one has twice as long.
DEADLINE: Final = 60.0
LONGEST_DEADLINE: Final = 3_600.0
# Seconds of pause: the longest after an outage, and for a market that the source does not know.
LONGEST: Final = 300.0
UNKNOWN: Final = 300.0


class LostError(Exception):
    """The task is no longer ours: cancelled, or another's."""


class Desk:
    """One source's tasks. Its workers share one rest: what the source asks of one, it asks of all."""

    def __init__(self, source: Source, database: Database, topics: Topics, publisher: Publisher, owner: str) -> None:
        self.source, self.database, self.topics, self.publisher = source, database, topics, publisher
        self.owner = owner
        self.rest_until = 0.0

    async def work(self) -> None:
        """One worker's life."""
        while True:
            await asyncio.sleep(max(0.0, self.rest_until - time.monotonic()))
            try:
                task = await self._claim()
                pause = await self._leased(task) if task else LOOK
            except AWAY as error:
                log.warning("no database", error=str(error).strip())
                pause = LOOK * 3
            await asyncio.sleep(pause * random.uniform(0.75, 1.25))

    async def _claim(self) -> Task | None:
        names = {"sources": [exactly(self.source.name)], "owner": self.owner, "lease": LEASE}
        rows = await self.database.rows("claim", **names)
        return Task(*rows[0]) if rows else None

    async def _leased(self, task: Task) -> float:
        """Work on a task while its lease can be kept; the seconds to rest afterwards."""
        work, keep = asyncio.create_task(self._work(task)), asyncio.create_task(self._keep(task))
        try:
            await asyncio.wait({work, keep}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                log.info("lost the task", task=task.id, symbol=task.symbol, attempt=task.attempt)
                return 0.0
            return work.result()
        except asyncio.CancelledError:
            # The feed ends; whoever takes the task over need not wait for the lease.
            with suppress(AWAY, TimeoutError):
                await asyncio.wait_for(self._fail(task, "the feed was stopped", 0.0), 0.5)
            raise
        finally:
            work.cancel()
            keep.cancel()
            await asyncio.gather(work, keep, return_exceptions=True)

    async def _keep(self, task: Task) -> None:
        """Renew the lease until it is no longer ours."""
        kept = True
        while kept:
            await asyncio.sleep(RENEW)
            with suppress(AWAY):
                kept = await self.database.truth("renew", id=task.id, attempt=task.attempt, lease=LEASE)

    async def _work(self, task: Task) -> float:
        with HistoryTask(f"{task.symbol} {task.id}") as machine:
            try:
                with machine.guard():
                    await self._bring(task, machine)
            except LostError as lost:
                log.info("dropped the task", task=task.id, symbol=task.symbol, reason=str(lost))
            except AWAY:
                raise
            except Exception as error:
                return await self._failed(task, error)
            return 0.0

    async def _bring(self, task: Task, machine: HistoryTask) -> None:
        """Fetch and publish. Raises LostError, SourceError, KafkaError."""
        began = time.monotonic()
        machine.create_topic()
        topic = await self.topics.ensure(task.symbol)
        machine.fetch()
        market = Market(task.symbol, task.market)
        history = await self.source.history(market, task.interval, task.start, task.end)
        if history.start > task.start and task.interval != "1d":
            machine.abandon()
            await self._coarsen(task, history.start)
        pieces = records(task, history)
        if not pieces:
            wait = self.source.grace.total_seconds()
            raise UnfinishedError("The source has not finished anything of this span yet.", retry_after=wait)
        await self._advance(task, machine, "publishing")
        machine.publish()
        try:
            for piece in pieces:
                await self.publisher.send(topic, task.symbol, piece.value)
        except KafkaError:
            self.topics.forget(topic)
            raise
        await self._advance(task, machine, "published", deadline_of(task.attempt))
        machine.published()
        bars, took = sum(len(piece.bars) for piece in pieces), time.monotonic() - began
        metrics.BACKFILLS[task.interval].observe(took)
        metrics.BARS[task.interval].inc(bars)
        log.info(
            "published", task=task.id, symbol=task.symbol, interval=task.interval, start=task.start.isoformat(),
            end=task.end.isoformat(), bars=bars, records=len(pieces), attempt=task.attempt, seconds=round(took, 3),
        )  # fmt: skip

    async def _coarsen(self, task: Task, reach: datetime) -> None:
        """Ask for coarser bars below; what the task spans above is filed anew, so nothing is published of it."""
        await self.database.truth("coarsen", id=task.id, attempt=task.attempt, reach=reach)
        raise LostError(f"no {task.interval} bars before {reach:%Y-%m-%dT%H:%MZ}")

    async def _advance(self, task: Task, machine: HistoryTask, status: str, deadline: timedelta | None = None) -> None:
        names = {"id": task.id, "attempt": task.attempt, "status": status, "deadline": deadline}
        if not await self.database.truth("advance", **names):
            machine.abandon()
            raise LostError("it was cancelled, or is another's")

    async def _failed(self, task: Task, error: Exception) -> float:
        """Give a task back for later; the seconds that this worker rests."""
        text = str(error) if isinstance(error, BarwrightError) else f"{type(error).__name__}: {error}"
        if not isinstance(error, (BarwrightError, KafkaError, OSError)):
            log.exception("a source is wrong", source=task.source)
        metrics.SOURCE_ERRORS.labels(task.source, metrics.error_of(error)).inc()
        pause = pause_after(error, task.attempt)
        await self._fail(task, text, pause)
        log.warning(
            "failed", task=task.id, symbol=task.symbol, interval=task.interval, attempt=task.attempt, error=text,
            again_in=round(pause, 1),
        )  # fmt: skip
        if isinstance(error, (MarketError, UnfinishedError)):
            return 0.0
        if isinstance(error, UnavailableError) and error.retry_after is not None:
            self.rest_until = max(self.rest_until, time.monotonic() + pause)
        # In an outage each worker asks with one task now and then, and does not run through them all.
        return min(pause, 10.0)

    async def _fail(self, task: Task, text: str, pause: float) -> None:
        names = {"id": task.id, "attempt": task.attempt, "error": text[:500], "pause": timedelta(seconds=pause)}
        await self.database.rows("fail", **names)


def pause_after(error: Exception, attempt: int) -> float:
    """Seconds before a task that failed is tried again."""
    if isinstance(error, MarketError):
        return UNKNOWN
    asked = error.retry_after if isinstance(error, UnavailableError) else None
    if asked is not None:
        return asked * random.uniform(1.0, 1.1)
    return float(min(2 ** min(attempt, 20), LONGEST) * random.uniform(0.5, 1.0))


def deadline_of(attempt: int) -> timedelta:
    """The time in which what was published has to land."""
    return timedelta(seconds=min(DEADLINE * 2 ** min(attempt - 1, 20), LONGEST_DEADLINE))
