"""What stands between the application and the server's `send`."""

from collections.abc import Callable
from typing import Any

from litestar.types import Message, Send

from barwright.api.access.keys import Keys

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
    """An answer to whoever has a key. A stream of bars ends when its key does (`Keys.run`); a download that has begun
    may end: cut, it would look whole."""

    __slots__ = ("keys", "over", "scope", "send")

    def __init__(self, send: Send, keys: Keys, scope: Any) -> None:
        self.send = send
        self.keys = keys
        self.scope = scope
        self.over = False

    async def __call__(self, message: Any) -> None:
        if self.over:
            return
        kind = message["type"]
        if kind == "websocket.accept" or (kind == "http.response.start" and _streams(message)):
            self.keys.streams.add(self)
        await self.send(message)

    async def end(self) -> None:
        """Its key is over. What is still sent goes nowhere; the application finds its client gone."""
        self.over = True
        if self.scope["type"] == "websocket":
            await self.send({"type": "websocket.close", "code": 1008, "reason": OVER})
        else:
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})


def _streams(start: Any) -> bool:
    return any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in start["headers"])
