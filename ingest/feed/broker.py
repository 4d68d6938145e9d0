"""The producing side of the Kafka client: partitions, deliveries, topics. Beside `ingest/kafka.py` the only module of
the feed that knows the client. Its calls block: `in_thread` keeps them off the event loop."""

from __future__ import annotations

import asyncio
import functools
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final, ParamSpec, TypeVar
from uuid import UUID

from barwright.errors import BarwrightError
from barwright.ingest.bootstrap import connected
from barwright.ingest.kafka import KafkaError, Partition
from barwright.settings import Settings

with warnings.catch_warnings():
    # The library warns about itself on import.
    warnings.simplefilter("ignore")
    from kafka import KafkaAdminClient, TopicPartition
    from kafka.admin import OffsetSpec
    from kafka.partitioner.default import murmur2

Given = ParamSpec("Given")
Result = TypeVar("Result")
# Milliseconds the broker may take to answer, and how long it is tried to deliver a record.
REQUEST_MS: Final = 10_000
DELIVERY_MS: Final = 30_000


class DeliveryError(BarwrightError):
    """Records were not delivered, or may not have been."""


async def in_thread(function: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
    """Call what may block in a daemon thread of its own: one that hangs holds up neither the loop nor the exit."""
    return await opened(functools.partial(function, *args, **kwargs), lambda _: None)


async def opened(make: Callable[[], Result], end: Callable[[Result], object]) -> Result:
    """The same for what is to be ended, in a thread too, where nobody waits for it any more."""
    loop, lock = asyncio.get_running_loop(), threading.Lock()
    done: asyncio.Future[Result] = loop.create_future()
    made: list[Result] = []
    abandoned = False

    def call() -> None:
        try:
            result = make()
        except BaseException as error:
            tell(loop, _settle, done, None, error)
            return
        with lock:
            made.append(result)
            is_late = abandoned
        if is_late:
            end(result)
        else:
            tell(loop, _settle, done, result, None)

    threading.Thread(target=call, name="feed-call", daemon=True).start()
    try:
        return await done
    except asyncio.CancelledError:
        with lock:
            abandoned = True
        for result in made:
            in_background(end, result)
        raise


def in_background(function: Callable[Given, object], *args: Given.args, **kwargs: Given.kwargs) -> None:
    """The same, and nobody waits for it."""
    threading.Thread(target=function, args=args, kwargs=kwargs, name="feed-call", daemon=True).start()


async def acknowledged(record: Any) -> None:
    """Wait until a record that was sent is acknowledged. Raises what its delivery failed with."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    record.add_callback(lambda _: tell(loop, _settle, done, None, None))
    record.add_errback(lambda error: tell(loop, _settle, done, None, error))
    await done


def tell(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: Any) -> None:
    """Call in the loop's thread, from any other; nothing where the loop has ended."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *args)


def _settle(done: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)


def partitioner(partitions: int) -> Callable[[str], int]:
    """The partition of a symbol's key, as every Kafka client by default computes it."""

    @lru_cache(maxsize=100_000)
    def partition_of(symbol: str) -> int:
        return int(murmur2(symbol.encode()) & 0x7FFFFFFF) % partitions

    return partition_of


def close(producer: Any, timeout: float) -> None:
    """End a producer for good. kafka-python 3.0.12 leaves it alive where its records are not delivered in time."""
    try:
        producer.close(timeout=timeout)
    except KafkaError:
        producer._sender.force_close()
        producer._sender.join(1)
        with suppress(KafkaError):
            producer.close(timeout=0)


class Admin:
    """Topics, by a connection of their own."""

    def __init__(self, settings: Settings) -> None:
        self._client = connected(KafkaAdminClient, settings, request_timeout_ms=REQUEST_MS)

    def topics(self) -> list[str]:
        """The names of all topics. Raises KafkaError."""
        return list(self._client.list_topics())

    def end(self, partition: Partition) -> int:
        """The offset after the last record. Raises KafkaError."""
        asked = TopicPartition(*partition)
        return int(self._client.list_partition_offsets({asked: OffsetSpec.LATEST})[asked].offset)

    def delete(self, topic_id: UUID) -> None:
        """Delete a topic, by its id: never one that was made again under the same name. Raises KafkaError."""
        self._client.delete_topics([topic_id], timeout_ms=REQUEST_MS)

    def close(self) -> None:
        """End the connection."""
        self._client.close()
