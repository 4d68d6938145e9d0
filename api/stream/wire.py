"""A client's connection, whatever it speaks: one message at a time, heartbeats, an end to who reads too slowly."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog
from litestar.exceptions import WebSocketDisconnect
from litestar.types import Scope

from barwright.api import metrics
from barwright.api.access import limits
from barwright.api.errors import ApiError
from barwright.api.stream.hub import Hub
from barwright.api.stream.subscription import Subscription, Wish

PATIENCE = 10.0  # seconds a message may wait for the client to read those before it
BEAT = 15.0  # seconds between heartbeats
Write = Callable[[bytes, str], Awaitable[None]]
log = structlog.get_logger()


class SlowError(Exception):
    """The client does not read."""


class GoneError(Exception):
    """The client has gone, or nobody is to be served any more."""


class Wire:
    """Writes by `write(body, event)`."""

    def __init__(self, hub: Hub, scope: Scope, write: Write) -> None:
        self.hub = hub
        self.scope = scope
        self.write = write
        self.lock = asyncio.Lock()

    async def send(self, body: bytes, event: str = "") -> None:
        """One message. SlowError after PATIENCE seconds, GoneError."""
        async with self.lock:
            timeout = asyncio.timeout(PATIENCE)
            try:
                async with timeout:
                    await self.write(body, event)
            except TimeoutError:
                raise SlowError from None
            except (OSError, WebSocketDisconnect) as error:
                raise GoneError from error

    async def follow(self, wish: Wish) -> None:
        """Serve a subscription until it ends. ApiError 400, 404, 429, 503."""
        limits.charge(self.scope, 1)
        async with self.hub.following(wish.symbol, wish.interval) as series:
            subscription = Subscription(self.hub, wish, self.send, lambda bars: limits.spend(self.scope, bars))
            with metrics.SUBSCRIPTIONS.track_inprogress():
                await subscription.run(series)

    async def beat(self) -> None:
        """Say that we are here, for ever; `fresh`: the database was heard of within the last second."""
        while True:
            await asyncio.sleep(BEAT)
            follower = self.hub.follower
            now, fresh = follower.clock(), b"true" if follower.fresh else b"false"
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
            await self.send(b'{"type":"heartbeat","time":"%s","fresh":%s}' % (text.encode(), fresh))


def problem(error: Exception) -> ApiError:
    """What a client is told of an error; a bug is logged whole and told without detail."""
    if isinstance(error, ApiError):
        return error
    log.error("unexpected error", path="/v1/stream", exc_info=error)
    return ApiError(500, "internal_error", "Something went wrong on our side.", "It has been logged.")
