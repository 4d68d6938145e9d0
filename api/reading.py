"""Routes that read bars."""

from typing import Any

from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler

from barwright.api.params import bars_query
from barwright.api.services import Services


def bars_routes(services: Services) -> list[HTTPRouteHandler]:
    """`GET /v1/bars`."""

    @get("/v1/bars")
    async def bars(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Bars of one symbol and interval."""
        answer = await services.bars.read(bars_query(request.scope["query_string"]))
        return Response(answer.body, media_type="application/json", headers={"Cache-Control": "no-cache"})

    return [bars]
