"""Routes that read bars."""

from typing import Any

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse

from barwright.api.answers import Answers, not_modified, respond, unchanged
from barwright.api.errors import bad
from barwright.api.latest import latest
from barwright.api.operations import BarsOperation, LatestOperation
from barwright.api.params import BarsQuery, bars_query, latest_query
from barwright.api.services import Services
from barwright.api.tables import FORMATS, stream


def bars_routes(services: Services) -> list[HTTPRouteHandler]:
    """`GET /v1/bars` and `GET /v1/bars/latest`."""
    answers, newest = Answers(), Answers(2**20)

    @get("/v1/bars", operation_class=BarsOperation)
    async def bars(request: Request[Any, Any, Any]) -> ASGIResponse:
        """Bars of one symbol and interval."""
        query_string = request.scope["query_string"]
        ready = answers.get(query_string) if services.follower.fresh else None
        if ready is None:
            query = bars_query(query_string)
            if query.format in FORMATS:
                return await stream(services.bars, query, request.scope)
            if query.wait:
                return await _waited(request, query)
            ready = answers.put(query_string, await services.bars.read(query))
        if unchanged(request.scope["headers"], ready.etag):
            return not_modified(ready.etag)
        return ready.response

    @get("/v1/bars/latest", operation_class=LatestOperation)
    async def latest_bars(request: Request[Any, Any, Any]) -> ASGIResponse:
        """The newest bar of each symbol, open or closed."""
        query_string = request.scope["query_string"]
        ready = newest.get(query_string) or newest.put(
            query_string, await latest(services.database, services.follower, *latest_query(query_string))
        )
        if unchanged(request.scope["headers"], ready.etag):
            return not_modified(ready.etag)
        return ready.response

    async def _waited(request: Request[Any, Any, Any], query: BarsQuery) -> ASGIResponse:
        """The answer to a request that waits; nobody takes it where the client has gone."""

        async def gone() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass

        answer = await services.waiting.read(query, gone)
        if answer is None:
            return ASGIResponse(status_code=204)
        if unchanged(request.scope["headers"], answer.etag):
            return not_modified(answer.etag)
        return respond(answer)

    return [bars, latest_bars]
