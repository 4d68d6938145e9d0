"""What stands between the application and the server's `send`."""

import time
from collections.abc import Callable
from typing import Any

from litestar.types import Message, Send

from barwright.api.access import access_of
from barwright.api.access.keys import Keys

CHECK = 2.0  # seconds after which whoever is sent a stream is looked at again
OVER = "The key was revoked or has expired."


def adding(send: Send, headers: Callable[[], list[tuple[bytes, bytes]]]) -> Send:
    """Add headers to the answer."""

    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *headers()]
        await send(message)

    return add


def bodiless(send: Send) -> Send:
    """The answer to a HEAD: what GET has, without the body. A stream is over once it has begun; the application finds
    its client gone."""
    over = False

    async def cut(message: Message) -> None:
        nonlocal over
        if message["type"] == "http.response.start":
            await send(message)
        elif not over:
            over = True
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return cut


def listing(send: Send) -> Send:
    """The answer to OPTIONS, made of the refusal of a method that no path takes: it names all that this one does.
    Litestar's own answer names those of the first handler only."""
    listed = False

    async def change(message: Message) -> None:
        nonlocal listed
        if message["type"] == "http.response.start" and message["status"] == 405:
            listed = True
            allow = [(name, value) for name, value in message["headers"] if name == b"allow"]
            await send({"type": "http.response.start", "status": 204, "headers": allow})
        elif listed:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await send(message)

    return change


class Watched:
    """Ends streams of bars whose key is revoked. A download that has begun may end: cut, it would look whole."""

    __slots__ = ("due", "keys", "over", "scope", "send", "stream")

    def __init__(self, send: Send, keys: Keys, scope: Any) -> None:
        self.send = send
        self.keys = keys
        self.scope = scope
        self.stream = scope["type"] == "websocket"
        self.over = False
        self.due = time.monotonic() + CHECK

    async def __call__(self, message: Any) -> None:
        if self.over:
            return
        kind = message["type"]
        if kind == "http.response.start":
            self.stream = any(
                n == b"content-type" and v.startswith(b"text/event-stream") for n, v in message["headers"]
            )
        elif self.stream and kind in ("websocket.send", "http.response.body") and time.monotonic() > self.due:
            self.due = time.monotonic() + CHECK
            access = access_of(self.scope)
            self.over = access is not None and not await self.keys.still(access)
            if self.over:
                message = _end(kind)
        await self.send(message)


def _end(kind: str) -> dict[str, Any]:
    if kind == "websocket.send":
        return {"type": "websocket.close", "code": 1008, "reason": OVER}
    return {"type": kind, "body": b"", "more_body": False}
