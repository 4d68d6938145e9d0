"""Routes that stream bars."""

from typing import Any

from litestar import Request, WebSocket, get, websocket
from litestar.handlers import HTTPRouteHandler, WebsocketRouteHandler

from barwright.api.params import single
from barwright.api.services import Services
from barwright.api.stream.events import Events
from barwright.api.stream.operations import StreamOperation
from barwright.api.stream.request import STREAM, wish
from barwright.api.stream.socket import Client


def stream_routes(services: Services) -> list[HTTPRouteHandler | WebsocketRouteHandler]:
    """`WS /v1/stream` and `GET /v1/stream`."""

    @get("/v1/stream", operation_class=StreamOperation)
    async def events(request: Request[Any, Any, Any]) -> Events:
        """Bars as server-sent events: history, then every change, in one order."""
        given = single(request.scope["query_string"], STREAM)
        last = request.headers.get("last-event-id")
        if last:
            given["since"] = last
        return Events(services.hub, wish(given))

    @websocket("/v1/stream")
    async def socket(socket: WebSocket[Any, Any, Any]) -> None:
        """The same on a WebSocket, several series on one."""
        await Client(services.hub, socket, services.access.admit).serve()

    return [events, socket]
