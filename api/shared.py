"""Closed pages in Redis, shared by processes and kept over restarts. Redis is never the truth: short timeouts, a
circuit breaker, and the same answers without it."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any, cast

import structlog
from redis.asyncio import RedisCluster

from barwright.links.redis import AWAY, async_client, close
from barwright.settings import Settings

TIMEOUT = 0.05  # seconds for one operation
# Seconds in which a connection may be made, in the background where a request does not wait for so long. By TLS it
# takes 33 ms, 26 of them to read the system's 144 authorities, and 55 to 75 beside two programs that are busy.
CONNECT = 10 * TIMEOUT
FAILURES, OPEN = 5, 5.0  # consecutive failures that open the breaker, and for how many seconds
log = structlog.get_logger()


class Breaker:
    """Closed while calls succeed; after FAILURES in a row open for OPEN seconds, then one probe decides."""

    def __init__(self) -> None:
        self.failures = 0
        self.open_until = 0.0

    def allows(self) -> bool:
        """Whether a call may be tried now; after the pause only one may, until it has succeeded."""
        if self.failures < FAILURES:
            return True
        if time.monotonic() < self.open_until:
            return False
        self.open_until = time.monotonic() + OPEN
        return True

    @property
    def closed(self) -> bool:
        """Whether calls are believed to succeed."""
        return self.failures < FAILURES

    def succeeded(self) -> None:
        """A call went well."""
        if not self.closed:
            log.info("redis is back")
        self.failures = 0

    def failed(self, error: Exception) -> None:
        """A call failed."""
        self.failures += 1
        if self.failures == FAILURES:
            log.warning("redis is away, answering without it", reason=str(error))
        if self.failures >= FAILURES:
            self.open_until = time.monotonic() + OPEN


class Shared:
    """Get and keep values; every failure is a miss."""

    def __init__(self, settings: Settings) -> None:
        self.ttl = settings.page_ttl
        self.redis = async_client(settings, TIMEOUT, max_connections=32, socket_connect_timeout=CONNECT)
        self.breaker = Breaker()
        self.background: set[asyncio.Task[None]] = set()

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of keys, None where there is none or Redis is away."""
        if keys and self.breaker.allows():
            try:
                async with asyncio.timeout(TIMEOUT * 2):
                    values = await self._read(keys)
            except AWAY as error:
                self.failed(error)
            else:
                self.breaker.succeeded()
                return values
        return [None] * len(keys)

    async def _read(self, keys: Sequence[str]) -> list[bytes | None]:
        """In a cluster each key has a place of its own: one request for each place."""
        if isinstance(self.redis, RedisCluster):
            return cast("list[bytes | None]", await self.redis.mget_nonatomic(keys))
        return cast("list[bytes | None]", await self.redis.mget(keys))

    def keep(self, values: dict[str, bytes]) -> None:
        """Keep values under keys that nobody has written yet, in the background."""
        if values and len(self.background) < 8 and self.breaker.allows():
            self._begin(self._keep(values))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    async def _keep(self, values: dict[str, bytes]) -> None:
        try:
            async with asyncio.timeout(CONNECT), self.redis.pipeline(transaction=False) as pipeline:
                for key, value in values.items():
                    pipeline.set(key, value, nx=True, ex=self.ttl)
                await pipeline.execute()
        except AWAY as error:
            self.failed(error)
        else:
            self.breaker.succeeded()

    def failed(self, error: Exception) -> None:
        """A call failed. In a cluster the key may have another master now: the next call looks. Nobody waits for the
        goodbye of the old one, which by TLS may take as long as to connect."""
        self.breaker.failed(error)
        if isinstance(self.redis, RedisCluster):
            self._begin(close(self.redis))

    async def ping(self) -> bool:
        """Whether Redis answers, breaker or not."""
        try:
            async with asyncio.timeout(TIMEOUT * 4):
                await self.redis.ping()
        except AWAY:
            return False
        return True

    async def close(self) -> None:
        """End the connections."""
        await asyncio.gather(*self.background, return_exceptions=True)
        await close(self.redis)
