"""Live records on their way to the fixed topic: a thread that sends, since the client's `send` may block."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
import structlog

from barwright.ingest import kafka
from barwright.ingest.feed import broker, metrics
from barwright.ingest.feed.broker import DeliveryError
from barwright.ingest.ticks import Trade
from barwright.settings import Settings

log = structlog.get_logger()
# A partition, the key, and a trade, or the value of a record as it is.
Item = tuple[int, str, Trade | bytes]
# Milliseconds a record may wait for company: most of the time from trade to bar (20 ms made it 15, 5 ms 10).
LINGER: Final = 5
# Trades and marks under way before the source has to wait, and trades in one record.
UNDER_WAY: Final = 20_000
TOGETHER: Final = 1_000


class Channel:
    """One producer's life. After a failure nothing more is sent; another channel is opened then."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        """Connect. Blocks; raises KafkaError."""
        self.topic, self._loop = settings.tick_topic, loop
        kafka.ensure_topic(settings, self.topic, settings.tick_partitions)
        self._producer = kafka.producer(
            settings, linger_ms=LINGER, max_block_ms=broker.REQUEST_MS, request_timeout_ms=broker.REQUEST_MS,
            delivery_timeout_ms=broker.DELIVERY_MS,
        )  # fmt: skip
        self.partition_of = broker.partitioner(len(self._producer.partitions_for(self.topic)))
        self._news = threading.Condition()
        self._queue: list[Item] = []
        self._sent: deque[tuple[Any, int]] = deque()
        self._under_way, self._closing = 0, False
        self._error: BaseException | None = None
        self._room = asyncio.Event()
        self.failed: asyncio.Future[None] = loop.create_future()
        self._thread = threading.Thread(target=self._run, name="feed-publish", daemon=True)
        self._thread.start()

    @staticmethod
    async def open(settings: Settings) -> Channel:
        """A channel that works. Raises KafkaError."""
        loop = asyncio.get_running_loop()
        return await broker.opened(lambda: Channel(settings, loop), Channel.end)

    @property
    def works(self) -> bool:
        """Whether no delivery has failed."""
        return not self.failed.done()

    @property
    def under_way(self) -> int:
        """Trades and marks not acknowledged yet."""
        return self._under_way

    async def room(self) -> None:
        """Wait until there is room for more; for ever where a delivery failed."""
        while self._under_way >= UNDER_WAY or not self.works:
            self._room.clear()
            await self._room.wait()

    def put(self, items: Sequence[Item]) -> None:
        """Send, in this order within a partition; nothing after a failure."""
        if items:
            with self._news:
                self._queue += items
                self._under_way += len(items)
                self._news.notify()

    async def close(self, timeout: float = 1.0) -> None:
        """Deliver what is under way, for so many seconds at most, and end."""
        self.end()
        await broker.in_thread(self._thread.join, timeout)

    def end(self) -> None:
        """The same without waiting, from any thread."""
        with self._news:
            self._closing = True
            self._news.notify()

    def _run(self) -> None:
        try:
            while items := self._next():
                for partition, key, value, count in records(items):
                    self._send(partition, key, value, count)
                self._settle()
        except Exception as error:
            self._error = self._error or error
        if self._error is not None:
            broker.tell(self._loop, self._fail, DeliveryError(f"{type(self._error).__name__}: {self._error}"))
        broker.close(self._producer, 0 if self._error else 1)

    def _next(self) -> list[Item]:
        """What there is to send; nothing at the end. Raises what a delivery failed with."""
        while True:
            with self._news:
                if not self._queue and not self._closing:
                    # What is under way is looked after even where nothing new comes.
                    self._news.wait(0.05 if self._sent else 1.0)
                if self._queue or self._closing:
                    items, self._queue = self._queue, []
                    return items
            self._settle()

    def _send(self, partition: int, key: str, value: bytes, count: int) -> None:
        future = self._producer.send(self.topic, key=key.encode(), value=value, partition=partition)
        future.add_errback(self._note)
        self._sent.append((future, count))

    def _note(self, error: BaseException) -> None:
        """In the client's thread: a delivery failed."""
        self._error = self._error or error

    def _settle(self) -> None:
        """Forget what has been acknowledged. Raises what a delivery failed with."""
        if self._error is not None:
            raise self._error
        done, before = 0, len(self._sent)
        while self._sent and self._sent[0][0].is_done:
            done += self._sent.popleft()[1]
        if done:
            metrics.PUBLISHED["fixed"].inc(before - len(self._sent))
            with self._news:
                was_full = self._under_way >= UNDER_WAY
                self._under_way -= done
            if was_full:
                broker.tell(self._loop, self._room.set)

    def _fail(self, error: DeliveryError) -> None:
        if self.works:
            self.failed.set_exception(error)
            # Who does not look has been told in the log.
            self.failed.exception()
            metrics.FAILURES["fixed"].inc()
            log.warning("delivery failed", topic=self.topic, error=error.message)


def records(items: Iterable[Item]) -> Iterator[tuple[int, str, bytes, int]]:
    """Partition, key, value and number of items of each record: trades of one symbol that are together here are one
    record, and whatever is no trade comes after its partition's trades before it."""
    waiting: dict[int, dict[str, list[Trade]]] = {}
    for partition, key, value in items:
        if isinstance(value, bytes):
            yield from _trades(partition, waiting.pop(partition, {}))
            yield partition, key, value, 1
        else:
            waiting.setdefault(partition, {}).setdefault(key, []).append(value)
    for partition, by_symbol in waiting.items():
        yield from _trades(partition, by_symbol)


def _trades(partition: int, by_symbol: dict[str, list[Trade]]) -> Iterator[tuple[int, str, bytes, int]]:
    for symbol, trades in by_symbol.items():
        for first in range(0, len(trades), TOGETHER):
            part = trades[first : first + TOGETHER]
            yield partition, symbol, msgspec.json.encode(part if len(part) > 1 else part[0]), len(part)
