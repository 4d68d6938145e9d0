"""`GET /v1/stream`: one subscription as server-sent events."""

import asyncio
from contextlib import suppress
from typing import Any

import msgspec
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from barwright.api import metrics
from barwright.api.errors import ApiError
from barwright.api.stream.hub import Hub
from barwright.api.stream.subscription import Wish
from barwright.api.stream.wire import GoneError, SlowError, Wire, problem

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would keep events back until its buffer is full
]
RECONNECT = b"retry: 1000\n\n"  # milliseconds until a browser comes again
LINGER = 30.0  # seconds that somebody who reads too slowly has to read why it ended
SLOW = ApiError(503, "too_slow", "You read too slowly: messages waited for 10 s.", "Come again with Last-Event-ID.")


class Events(ASGIResponse):
    """The answer to one request. What is wrong with it (ApiError 400, 404, 429, 503) is an answer of its own: the first
    message begins the stream, and an error after it is its last message."""

    def __init__(self, hub: Hub, wish: Wish) -> None:
        super().__init__()
        self.hub = hub
        self.wish = wish
        self.sending: Send | None = None
        self.begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the client goes, the server stops, or the subscription ends."""
        self.sending = send
        error = await self._follow(Wire(self.hub, scope, self._write), receive)
        if error is not None and not self.begun:
            raise error
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(LINGER):
                if error is not None:
                    await self._write(_told(error), "")
                await self._begin()
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _follow(self, wire: Wire, receive: Receive) -> ApiError | None:
        """The error that ended it, if one did."""
        ends = [wire.follow(self.wish), wire.beat(), _gone(receive), self.hub.stopping.wait()]
        tasks: list[asyncio.Task[Any]] = [asyncio.ensure_future(end) for end in ends]
        try:
            with metrics.STREAMS["sse"].track_inprogress():
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for error in (task.exception() for task in done):
            if isinstance(error, SlowError):
                metrics.SLOW.inc()
                return SLOW
            if isinstance(error, Exception) and not isinstance(error, GoneError):
                return problem(error)
        return None

    async def _begin(self) -> None:
        assert self.sending is not None
        if not self.begun:
            self.begun = True
            await self.sending({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await self.sending({"type": "http.response.body", "body": RECONNECT, "more_body": True})

    async def _write(self, body: bytes, event: str) -> None:
        assert self.sending is not None
        await self._begin()
        head = b"id: %s\n" % event.encode() if event else b""
        await self.sending({"type": "http.response.body", "body": head + b"data: %s\n\n" % body, "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _told(error: ApiError) -> bytes:
    return msgspec.json.encode({"type": "error", "id": "", "status": error.status, **msgspec.json.decode(error.body())})
