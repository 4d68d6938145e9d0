"""One source's live connection: its events become trades and marks on the fixed topic."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final, cast

import structlog

from barwright.errors import BarwrightError
from barwright.ingest.feed import metrics
from barwright.ingest.feed.publish import Channel
from barwright.ingest.feed.session import Sessions
from barwright.ingest.feed.source import (
    Event,
    Market,
    Missed,
    Source,
    Subscribed,
    Subscriptions,
    Trades,
    UnavailableError,
)
from barwright.ingest.kafka import KafkaError
from barwright.machines.producer import LiveConnection
from barwright.settings import Settings

log = structlog.get_logger()
# Seconds between two marks.
MARK: Final = 1.0
# Seconds: the longest pause before a source is dialled again. Pauses grow until a connection comes to its first mark.
LONGEST: Final = 30.0
# symbol → its market, and when it was registered.
Wanted = Mapping[str, tuple[Market, datetime]]


class Connection:
    """One source's live connection, again and again."""

    def __init__(self, settings: Settings, source: Source) -> None:
        self.settings, self.source = settings, source
        self.subscriptions = Subscriptions()
        self.channel: Channel | None = None
        self.sessions: Sessions | None = None
        self.streams = False
        self._registered: dict[str, datetime] = {}
        self._failures = 0

    def follow(self, wanted: Wanted) -> None:
        """Follow these from now on; one that was purged and made again is vouched for anew."""
        registered = {symbol: at for symbol, (_, at) in wanted.items()}
        renewed = [s for s, at in registered.items() if self._registered.get(s, at) != at]
        self._registered = registered
        if renewed and self.sessions and self.channel:
            self.channel.put(self.sessions.renew(renewed))
        self.subscriptions.wanted = frozenset(market for market, _ in wanted.values())

    async def run(self) -> None:
        """Be connected until cancelled; pauses grow from the source's own to LONGEST."""
        with LiveConnection(self.source.name) as machine:
            try:
                while True:
                    error = await self._attempt(machine)
                    metrics.DISCONNECTS.labels(self.source.name, metrics.error_of(error)).inc()
                    pause = self._pause(error)
                    log.warning("disconnected", source=self.source.name, error=str(error), again_in=round(pause, 1))
                    await asyncio.sleep(pause)
            finally:
                if self.channel is not None:
                    await asyncio.shield(self.channel.close())

    async def _attempt(self, machine: LiveConnection) -> Exception:
        """One connection, to its end; why it ended."""
        try:
            with machine.guard():
                machine.connect()
                await self._connected(machine)
            return UnavailableError(f"{self.source.name} has ended.")
        except (KafkaError, BarwrightError, OSError) as error:
            return error
        except Exception as error:
            log.exception("a source is wrong", source=self.source.name)
            return error
        finally:
            # Whatever ended it: nothing more is vouched for.
            self.sessions, self.streams = None, False

    async def _connected(self, machine: LiveConnection) -> None:
        channel = await self._opened()
        sessions = self.sessions = Sessions(self.source.name, channel.partition_of, self.settings.live_margin)
        metrics.CONNECTS.labels(self.source.name).inc()
        log.info("connecting", source=self.source.name, symbols=len(self.subscriptions.wanted))
        await first(
            self._read(channel, sessions, machine), self._mark(channel, sessions, machine), _wait(channel.failed)
        )

    async def _opened(self) -> Channel:
        """A channel that works: the one there is, or a new one."""
        if self.channel is not None and not self.channel.works:
            self.channel = None
        if self.channel is None:
            self.channel = await Channel.open(self.settings)
        return self.channel

    async def _read(self, channel: Channel, sessions: Sessions, machine: LiveConnection) -> None:
        received, trades = metrics.EVENTS.labels(self.source.name), metrics.TRADES.labels(self.source.name)
        missed = metrics.MISSED.labels(self.source.name)
        events = cast("AsyncGenerator[Event, None]", self.source.live(self.subscriptions))
        async with aclosing(events):
            async for event in events:
                if machine.state == "connecting":
                    machine.connected()
                await channel.room()
                channel.put(sessions.take(event))
                received.inc()
                if isinstance(event, Trades):
                    trades.inc(len(event.trades))
                elif isinstance(event, Missed):
                    missed.inc()
                elif isinstance(event, Subscribed):
                    machine.subscribed()
                    self.streams = True
                    log.info("subscribed", source=self.source.name, symbols=len(event.symbols), since=event.since)

    async def _mark(self, channel: Channel, sessions: Sessions, machine: LiveConnection) -> None:
        while True:
            await asyncio.sleep(MARK)
            marks = sessions.tick()
            if marks:
                channel.put(marks)
                metrics.MARKS.labels(self.source.name).inc(len(marks))
                machine.mark()
                self._failures = 0

    def _pause(self, error: Exception) -> float:
        pause = min(self.source.reconnect * 2 ** min(self._failures, 10), LONGEST)
        self._failures += 1
        least = (error.retry_after if isinstance(error, UnavailableError) else None) or 0.0
        return float(max(pause, least) * random.uniform(1.0, 1.2))


async def _wait(future: asyncio.Future[None]) -> None:
    await asyncio.shield(future)


async def first(*parts: Coroutine[Any, Any, None]) -> None:
    """Run until one part ends, then end the others. Raises what that one raised."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(tasks)
    for task in tasks:
        if task in done:
            task.result()


async def end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait for their ends."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
