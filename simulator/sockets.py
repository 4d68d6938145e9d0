"""The sockets of the stream: what a client says on one, and what it is told."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final
from uuid import uuid4

from litestar import WebSocket
from litestar.exceptions import WebSocketException

from barwright.errors import BarwrightError
from barwright.simulator import frames
from barwright.simulator.exchange import exists
from barwright.simulator.faults import Faults
from barwright.simulator.limits import Limits
from barwright.simulator.pulse import Pulse

_MOST_WAITING: Final = 200_000  # messages; a client that is further behind is cut off
_EMPTY_EVERY: Final = 7  # heartbeats between two empty messages


class Socket:
    """A connection. `cut` ends it at once, without a word."""

    def __init__(self, websocket: WebSocket[Any, Any, Any], pulse: Pulse, faults: Faults, limits: Limits) -> None:
        self.id = uuid4().hex[:12]
        self.client = websocket.client.host if websocket.client else ""
        self.cut: Callable[[], None] = websocket.scope["state"]["cut"]
        self._websocket, self._pulse, self._faults, self._limits = websocket, pulse, faults, limits
        self._subs: dict[str, str] = {}  # as the client wrote it: the market
        self._waiting: list[str] = []
        self._something = asyncio.Event()

    def push(self, text: str) -> None:
        """Send a message soon; never while the exchange is silent."""
        if self._faults.on("silent"):
            return
        self._waiting.append(text)
        self._something.set()
        if len(self._waiting) > _MOST_WAITING:
            self.cut()

    async def talk(self, heartbeat: float) -> None:
        """Listen and answer until the connection ends."""
        tasks = [asyncio.create_task(work) for work in (self._write(), self._beat(heartbeat), self._read())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for market in self._subs.values():
                self._pulse.leave(market, self)

    async def farewell(self, text: str) -> None:
        """Say why and close."""
        with suppress(WebSocketException, RuntimeError, OSError):
            await self._websocket.send_text(text)
            await self._websocket.close(1000)

    async def _write(self) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            texts, self._waiting = self._waiting, []
            for text in texts:
                await self._websocket.send_text(text)

    async def _beat(self, period: float) -> None:
        beats = 0
        while True:
            await asyncio.sleep(period)
            beats += 1
            if beats % _EMPTY_EVERY == 0:
                self.push(frames.EMPTY)
            self.push(frames.heartbeat(time.time()))

    async def _read(self) -> None:
        while True:
            self._hear(await self._websocket.receive_text())

    def _hear(self, text: str) -> None:
        try:
            said = json.loads(text)
        except ValueError:
            self.push(frames.wrong("INVALID_JSON", text[:200]))
            return
        action, subs = (said.get("action"), said.get("subs")) if isinstance(said, dict) else (None, None)
        if action not in ("SubAdd", "SubRemove"):
            self.push(frames.wrong("INVALID_PARAMETER", "action"))
        elif not isinstance(subs, list) or not subs:
            self.push(frames.wrong("INVALID_PARAMETER", "subs"))
        elif action == "SubAdd":
            self._add([str(sub) for sub in subs])
        else:
            self._remove([str(sub) for sub in subs])

    def _add(self, subs: list[str]) -> None:
        for sub in subs:
            if sub in self._subs:
                self.push(frames.wrong("SUBSCRIPTION_ALREADY_ACTIVE", sub))
            elif (market := _market(sub)) is None:
                self.push(frames.wrong("INVALID_SUB", sub))
            elif len(self._subs) >= self._limits.subs:
                message = f"TOO_MANY_SUBSCRIPTIONS_MAX_{self._limits.subs}_PER_SOCKET"
                self.push(frames.frame("429", message, INFO=f"{sub} was not subscribed."))
            else:
                self._subs[sub] = market
                self.push(frames.frame("16", "SUBSCRIBECOMPLETE", SUB=sub))
                for text in self._pulse.listen(market, self):
                    self.push(text)
        self.push(frames.frame("3", "LOADCOMPLETE", INFO="All your valid subs have been loaded."))

    def _remove(self, subs: list[str]) -> None:
        valid = [sub for sub in subs if sub in self._subs]
        for sub in subs:
            market = self._subs.pop(sub, None)
            if market is None:
                self.push(frames.wrong("SUBSCRIPTION_UNRECOGNIZED", sub))
                continue
            self._pulse.leave(market, self)
            self.push(frames.frame("17", "UNSUBSCRIBECOMPLETE", SUB=sub))
        counts = {"valid": len(valid), "invalid": len(subs) - len(valid)}
        self.push(frames.frame("18", "UNSUBSCRIBEALLCOMPLETE", INFO="All your subs were removed.", INFO_OBJ=counts))


def _market(sub: str) -> str | None:
    """The market of a subscription to trades, `0~exchange~base~quote`; None where there is none."""
    from barwright import markets

    channel, _, market = sub.partition("~")
    try:
        return market if channel == "0" and exists(markets.parse(market)) else None
    except BarwrightError:
        return None
