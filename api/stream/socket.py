"""`WS /v1/stream`: several subscriptions on one socket."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
from litestar import WebSocket
from litestar.exceptions import WebSocketDisconnect

from barwright.api import metrics
from barwright.api.access import access_of, demand
from barwright.api.errors import ApiError, bad
from barwright.api.params import single
from barwright.api.stream.hub import Hub
from barwright.api.stream.request import STREAM, id_of, message, parameters, wish
from barwright.api.stream.subscription import Wish
from barwright.api.stream.wire import GoneError, SlowError, Wire, problem

MOST = 100  # subscriptions of a socket
MOST_TEXT = 4096  # of a client's message
AUTH = 5.0  # seconds in which a client without a key in its handshake has to send one
SLOW, REFUSED = 1013, 1008
Socket = WebSocket[Any, Any, Any]
Admit = Callable[[Any, str], Any]


class Client:
    """One socket."""

    def __init__(self, hub: Hub, socket: Socket, admit: Admit) -> None:
        self.hub = hub
        self.socket = socket
        self.admit = admit
        self.wire = Wire(hub, socket.scope, self._write)
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.admitted = asyncio.Event()

    async def serve(self) -> None:
        """From the handshake to the end."""
        await self.socket.accept()
        code, reason = 0, ""
        try:
            with metrics.STREAMS["websocket"].track_inprogress():
                await self._serve()
        except* GoneError:
            pass
        except* SlowError:
            metrics.SLOW.inc()
            code, reason = SLOW, "You read too slowly: messages waited for 10 s. Subscribe again with since."
        except* TimeoutError:
            code, reason = REFUSED, 'A key is needed: send {"op":"auth","key":"…"} first.'
        if code:
            await self._close(code, reason)

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._admission())
            group.create_task(self.wire.beat())
            await self._begin(group)
            await self._receive(group)

    async def _admission(self) -> None:
        """TimeoutError where no key comes in time."""
        if access_of(self.socket.scope) is None:
            async with asyncio.timeout(AUTH):
                await self.admitted.wait()

    async def _begin(self, group: asyncio.TaskGroup) -> None:
        """Subscribe to what the query string names."""
        id = ""
        try:
            given = single(self.socket.scope["query_string"], (*STREAM, "id"))
            if given:
                id = id_of({"id": given.pop("id", "")})
                self._subscribe(group, given, id)
        except ApiError as error:
            await self._refuse(id, error)

    async def _receive(self, group: asyncio.TaskGroup) -> None:
        """Do what the client says; GoneError when it goes."""
        while True:
            try:
                event: Any = await self.socket.receive()
            except WebSocketDisconnect as error:
                raise GoneError from error
            if event["type"] == "websocket.disconnect":
                raise GoneError
            text = event.get("text") or (event.get("bytes") or b"").decode("utf-8", "replace")
            said: dict[str, Any] = {}
            try:
                if len(text.encode()) > MOST_TEXT:
                    raise ApiError(400, "bad_message", f"The message has more than {MOST_TEXT} bytes.")
                said = message(text)
                await self._do(group, said)
            except ApiError as error:
                await self._refuse(said.get("id", ""), error)

    async def _do(self, group: asyncio.TaskGroup, said: dict[str, Any]) -> None:
        match said["op"]:
            case "ping":
                await self.wire.send(msgspec.json.encode({"type": "pong", "id": id_of(said)}))
            case "auth":
                await self.admit(self.socket.scope, str(said.get("key", "")))
                self.admitted.set()
                await self.wire.send(b'{"type":"auth"}')
            case "unsubscribe":
                await self._unsubscribe(id_of(said))
            case _:
                self._subscribe(group, parameters(said), id_of(said))

    def _subscribe(self, group: asyncio.TaskGroup, given: dict[str, str], id: str) -> None:
        """Begin a subscription. ApiError 400, 401, 403."""
        demand(self.socket.scope, "read")
        if id in self.tasks:
            raise bad("id", id, f"There is a subscription {id!r} already.", hint="Give each an id of its own.")
        if len(self.tasks) >= MOST:
            raise ApiError(400, "too_many", f"A socket takes {MOST} subscriptions.", "Open another one.")
        task = self.tasks[id] = group.create_task(self._follow(wish(given, id)))
        task.add_done_callback(lambda done: self.tasks.pop(id) if self.tasks.get(id) is done else None)

    async def _unsubscribe(self, id: str) -> None:
        task = self.tasks.pop(id, None)
        if task is None:
            raise bad("id", id, f"There is no subscription {id!r}.", hint="It may have ended with an error.")
        task.cancel()
        await asyncio.wait((task,))
        await self.wire.send(msgspec.json.encode({"type": "unsubscribed", "id": id}))

    async def _follow(self, wish: Wish) -> None:
        try:
            await self.wire.follow(wish)
        except (GoneError, SlowError):
            raise
        except Exception as error:
            self.tasks.pop(wish.id, None)
            await self._refuse(wish.id, problem(error))

    async def _refuse(self, id: Any, error: ApiError) -> None:
        told = msgspec.json.decode(error.body())
        await self.wire.send(msgspec.json.encode({"type": "error", "id": id, "status": error.status, **told}))

    async def _write(self, body: bytes, _: str) -> None:
        await self.socket.send({"type": "websocket.send", "text": body.decode(), "bytes": None})

    async def _close(self, code: int, reason: str) -> None:
        with suppress(OSError, WebSocketDisconnect):  # it has gone by itself
            await self.socket.send({"type": "websocket.close", "code": code, "reason": reason})
