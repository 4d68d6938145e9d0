"""The routes of the exchange."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import msgspec
from litestar import Litestar, Request, Response, WebSocket, delete, get, post, websocket
from litestar.exceptions import WebSocketException
from litestar.params import FromPath

from barwright.errors import BarwrightError
from barwright.settings import Settings
from barwright.simulator import history
from barwright.simulator.exchange import Exchange
from barwright.simulator.faults import Fault
from barwright.simulator.service import Service

_UNAUTHORIZED: Final = b'{"Data":{},"Err":{"type":2,"message":"API key required.","http_status_code":401}}'
Req = Request[Any, Any, Any]


def create_app(settings: Settings, exchange: Exchange) -> Litestar:
    """The exchange as an ASGI application."""
    service = Service(settings, exchange)

    @asynccontextmanager
    async def beating(_: Litestar) -> AsyncIterator[None]:
        task = asyncio.create_task(service.pulse.run())
        yield
        task.cancel()

    handlers = [*_public(service), *_admin(service)]
    return Litestar(handlers, lifespan=[beating], openapi_config=None, logging_config=None)


def _public(service: Service) -> list[Any]:
    @get("/data/v2/{path:str}")
    async def rest(request: Req, path: FromPath[str]) -> Response[Any]:
        client = request.client.host if request.client else ""
        key = request.query_params.get("api_key")
        if not service.knows(key, request.headers.get("authorization")):
            return Response(_UNAUTHORIZED, status_code=401, media_type="application/json")
        if path not in history.UNITS:
            return Response({"Response": "Error", "Message": "Path does not exist", "Type": 1}, status_code=404)
        given = {name: value for name, value in request.query_params.items() if isinstance(value, str)}
        return await service.history(path, given, key or client)

    @websocket("/v2")
    async def stream(socket: WebSocket[Any, Any, Any]) -> None:
        client = socket.query_params.get("api_key") or (socket.client.host if socket.client else "")
        with suppress(WebSocketException):
            await service.stream(socket, client)

    return [rest, stream]


def _admin(service: Service) -> list[Any]:
    @get("/admin/faults")
    async def faults() -> list[dict[str, Any]]:
        return [active.to_dict() for active in service.faults.all()]

    @post("/admin/faults")
    async def begin(request: Req) -> Response[Any]:
        try:
            return Response(await service.begin(msgspec.json.decode(await request.body(), type=Fault)), status_code=201)
        except (msgspec.MsgspecError, BarwrightError) as wrong:
            return Response({"error": str(wrong)}, status_code=400)

    @delete("/admin/faults", status_code=200)
    async def clear() -> list[dict[str, Any]]:
        ended = [active.to_dict() for active in service.faults.all()]
        service.faults.clear()
        service.pulse.release()
        return ended

    @get("/admin/exchange")
    async def exchange() -> dict[str, Any]:
        return service.exchange.to_dict()

    return [faults, begin, clear, exchange]
