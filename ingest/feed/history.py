"""History on its way to a symbol's dynamic topic: what a task brings, as records that each prove their span."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from barwright.ingest import kafka
from barwright.ingest.feed import broker, metrics
from barwright.ingest.feed.source import History
from barwright.ingest.kafka import KafkaError
from barwright.ingest.ticks import Window, stamp, time_of
from barwright.settings import Settings

# Bytes of one record at most: brokers take 1 MiB with what is around it.
MOST: Final = 900_000
# Bounds of what a record proves, in microseconds: imports know minutes; hours and days come in whole UTC days.
_UNITS: Final = {"1m": 60_000_000, "1h": 86_400_000_000, "1d": 86_400_000_000}
_ALL: Final = Window(0, 2**60)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# A bar's time in microseconds, and the bar as JSON.
Encoded = tuple[int, bytes]


class Task(NamedTuple):
    """A backfill task that was claimed."""

    id: int
    symbol: str
    source: str
    market: str
    interval: str
    start: datetime
    end: datetime
    attempt: int


class Piece(NamedTuple):
    """One record: it proves [start, end), microseconds since 1970."""

    start: int
    end: int
    bars: list[bytes]
    value: bytes


def records(task: Task, history: History) -> list[Piece]:
    """What a history proves of a task, in records that touch; none where that is no whole unit."""
    unit = _UNITS[task.interval]
    # Days before the first are proved empty: there is nothing coarser that could know of trades.
    start = _micros(task.start if task.interval == "1d" else max(history.start, task.start))
    start, end = -(-start // unit) * unit, min(_micros(history.end), _micros(task.end)) // unit * unit
    if start >= end:
        return []
    bars = _encoded(task, history, start, end)
    return [
        Piece(lo, hi, [bar for _, bar in part], _record(task, lo, hi, part, final=hi == end))
        for lo, hi, part in _pieces(start, end, bars, unit)
    ]


def _pieces(start: int, end: int, bars: list[Encoded], unit: int) -> Iterator[tuple[int, int, list[Encoded]]]:
    """Halves of halves, until each is small enough."""
    if sum(len(bar) + 1 for _, bar in bars) <= MOST - 1_000 or end - start <= unit:
        yield start, end, bars
        return
    middle = start + (end - start) // unit // 2 * unit
    cut = bisect_left(bars, middle, key=lambda bar: bar[0])
    yield from _pieces(start, middle, bars[:cut], unit)
    yield from _pieces(middle, end, bars[cut:], unit)


def _encoded(task: Task, history: History, start: int, end: int) -> list[Encoded]:
    origin = {"source": task.source, "task": task.id, "attempt": task.attempt}
    encoder = msgspec.json.Encoder()
    found = []
    for bar in history.bars:
        at = time_of(bar.ts, _ALL)
        if start <= at < end:
            found.append((at, encoder.encode({**msgspec.to_builtins(bar), **origin})))
    return sorted(found)


def _record(task: Task, start: int, end: int, bars: list[Encoded], *, final: bool) -> bytes:
    mark = {
        "type": "mark", "event": "covered", "symbol": task.symbol, "interval": task.interval,
        "from": stamp(start), "to": stamp(end), "count": len(bars), "source": task.source,
        "task": task.id, "attempt": task.attempt, "final": final,
    }  # fmt: skip
    return b"[" + b",".join([*(bar for _, bar in bars), msgspec.json.encode(mark)]) + b"]"


def _micros(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


class Publisher:
    """Sends histories and waits for them to be acknowledged; a producer of which one failed is not used again."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._producer: Any = None
        self._making, self._closed = threading.Lock(), False

    async def send(self, topic: str, key: str, value: bytes) -> None:
        """Deliver one record. Raises KafkaError where that failed, or may have."""
        producer = self._producer or await broker.in_thread(self._made)
        try:
            record = await broker.in_thread(producer.send, topic, key=key.encode(), value=value, partition=0)
            await broker.acknowledged(record)
            metrics.PUBLISHED["dynamic"].inc()
        except KafkaError:
            metrics.FAILURES["dynamic"].inc()
            if self._producer is producer:
                self._producer = None
            # What others are sending with it has its time.
            broker.in_background(broker.close, producer, broker.DELIVERY_MS / 1_000)
            raise

    async def close(self) -> None:
        """End; what is not acknowledged yet fails."""
        self._closed = True
        if self._producer is not None:
            await broker.in_thread(broker.close, self._producer, 0.5)

    def _made(self) -> Any:
        with self._making:
            if self._producer is None:
                self._producer = kafka.producer(
                    self.settings, max_block_ms=broker.REQUEST_MS, request_timeout_ms=broker.REQUEST_MS,
                    delivery_timeout_ms=broker.DELIVERY_MS,
                )  # fmt: skip
            # It took a while to make: nobody may want it any more.
            if self._closed:
                broker.close(self._producer, 0)
            return self._producer
