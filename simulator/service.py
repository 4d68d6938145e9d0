"""The exchange as programs reach it: REST, stream and administration."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from litestar import Response, WebSocket

from barwright import markets
from barwright.errors import BarwrightError
from barwright.settings import Settings
from barwright.simulator import frames, history
from barwright.simulator.exchange import Exchange
from barwright.simulator.faults import Fault, Faults
from barwright.simulator.limits import Calls, Limits
from barwright.simulator.pulse import Pulse
from barwright.simulator.sockets import Socket
from barwright.simulator.times import minute_of

_JSON: Final = "application/json"
Web = WebSocket[Any, Any, Any]


class Service:
    """One exchange that runs."""

    def __init__(self, settings: Settings, exchange: Exchange) -> None:
        self.settings, self.exchange = settings, exchange
        self.limits = Limits.from_settings(settings)
        self.faults = Faults()
        self.pulse = Pulse(exchange, self.faults)
        self.sockets: set[Socket] = set()
        self._calls, self._opens = Calls(), Calls()
        self._asked = self._opened = 0
        self._started = time.time()

    async def history(self, path: str, given: Mapping[str, str], client: str) -> Response[Any]:
        """Answer a REST call, rightly or not."""
        self._asked += 1
        market = "~".join(given.get(name, "") for name in ("e", "fsym", "tsym"))
        faults = self.faults.on("slow", "error", "garbage", "truncated", market=market)
        hits = {fault.kind: fault for fault in faults if fault.hits(self._asked)}
        if slow := hits.get("slow"):
            await asyncio.sleep(slow.held(self._asked))
        if fault := hits.get("error"):
            wait = {"Retry-After": "1"} if fault.status in (429, 503) else {}
            return Response(_failure(fault.status), status_code=fault.status, media_type=_JSON, headers=wait)
        if garbage := hits.get("garbage"):
            noise = random.Random(int(garbage.chance(self._asked) * 2**48)).randbytes(300)
            return Response(noise, status_code=200, media_type=_JSON)
        body = await self._answer(path, given, client)
        return Response(body[: len(body) // 2] if "truncated" in hits else body, status_code=200, media_type=_JSON)

    async def _answer(self, path: str, given: Mapping[str, str], client: str) -> str:
        made, most = self._calls.count(client), self.limits.calls()
        if any(made[name] > most[name] for name in most):
            limits = {"calls_made": made, "max_calls": most}
            return history.error(99, "You are over your rate limit please upgrade your account!", limits)
        now = time.time()
        try:
            asked = history.question(path, given, int(now))
            return await asyncio.to_thread(history.answer, self.exchange, self.settings, path, asked, now)
        except history.ParameterError as wrong:
            return wrong.body()

    async def stream(self, web: Web, client: str) -> None:
        """Talk on a socket until it ends."""
        self._opened += 1
        if any(fault.hits(self._opened) for fault in self.faults.on("cut")):
            web.scope["state"]["cut"]()
            return
        await web.accept()
        socket = Socket(web, self.pulse, self.faults, self.limits)
        refusal = self._refusal(web, client)
        if refusal:
            await socket.farewell(refusal)
            return
        self.sockets.add(socket)
        try:
            now = time.time()
            socket.push(frames.welcome(self._started, now, socket.id, client, len(self.sockets), self.limits))
            await socket.talk(self.settings.simulator_heartbeat)
        finally:
            self.sockets.discard(socket)

    def _refusal(self, web: Web, client: str) -> str:
        """Why a client may not have a socket, as a message; empty: it may."""
        if not self.knows(web.query_params.get("api_key"), web.headers.get("authorization")):
            return frames.frame("401", "UNAUTHORIZED", PARAMETER="api_key", INFO="This API key is not valid.")
        if self._opens.count(client)["second"] > self.limits.opens:
            return frames.frame("429", "RATE_LIMIT_OPENING_SOCKETS_TOO_FAST", INFO="You open sockets too fast.")
        if sum(socket.client == client for socket in self.sockets) >= self.limits.sockets:
            message = f"TOO_MANY_SOCKETS_MAX_{self.limits.sockets}_PER_CLIENT"
            return frames.frame("429", message, INFO="You have too many sockets.")
        return ""

    def knows(self, key: str | None, header: str | None) -> bool:
        """Whether a client has shown the key that is asked for."""
        wanted = self.settings.simulator_key.get_secret_value()
        return not wanted or wanted in (key, (header or "").removeprefix("Apikey "))

    async def begin(self, fault: Fault) -> dict[str, Any]:
        """Turn a fault on. BarwrightError where it makes no sense."""
        if fault.symbol and not fault.market:
            fault.market = markets.market_of(fault.symbol)
        if fault.market:
            markets.parse(fault.market)
        if fault.kind == "revise":
            return self._revise(fault)
        active = self.faults.add(fault)
        if fault.kind == "cut":
            hit = [socket for socket in self.sockets if fault.hits(socket.id)]
            for socket in hit:
                if fault.announce:
                    await socket.farewell(frames.wrong("FORCE_DISCONNECT", ""))
                socket.cut()
        return active.to_dict()

    def _revise(self, fault: Fault) -> dict[str, Any]:
        if not (fault.market and fault.start and fault.end):
            raise BarwrightError("revise needs a market or symbol, a start and an end.")
        start, end = minute_of(fault.start), minute_of(fault.end)
        if not start < end <= int(time.time()) // 60:
            raise BarwrightError("Only what has been can be corrected: minutes before the present one.")
        return {"kind": "revise"} | self.exchange.revise(fault.market, start, end, fault.share).to_dict()


def _failure(status: int) -> bytes:
    return msgspec.json.encode({"Data": {}, "Err": {"type": 1, "message": "simulated", "http_status_code": status}})
