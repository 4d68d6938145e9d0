"""Routes that read bars. What makes tables is loaded by the first that is asked for: pyarrow takes 0.3 s and 40 MB."""

from asyncio import to_thread
from importlib import import_module
from typing import Any

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse

from barwright.api.access import limits
from barwright.api.access.compress import asked
from barwright.api.answers import Answers, Ready, not_modified, packed, prepare, unchanged
from barwright.api.keeping import Keeping
from barwright.api.latest import latest
from barwright.api.metrics import HITS, MISSES
from barwright.api.operations import BarsOperation, LatestOperation
from barwright.api.params import BarsQuery, bars_query, latest_query, negotiated
from barwright.api.services import Services


def bars_routes(services: Services) -> list[HTTPRouteHandler]:
    """`GET /v1/bars` and `GET /v1/bars/latest`."""
    answers, newest = Answers(), Answers(2**20)
    keeping = Keeping(services.database, services.access.on)

    @get("/v1/bars", operation_class=BarsOperation)
    async def bars(request: Request[Any, Any, Any]) -> ASGIResponse:
        """Bars of one interval, of one symbol or of several."""
        scope = request.scope
        headers = dict(scope["headers"])
        accepted = negotiated(headers.get(b"accept", b"*/*"))
        name = scope["query_string"] if accepted == "json" else b"%s %s" % (scope["query_string"], accepted.encode())
        ready = answers.get(name) if services.follower.fresh else None
        if ready is not None:
            limits.charge(scope, ready.cost)
            HITS["answer"].inc()
            return await sent(headers, ready)
        query = bars_query(scope["query_string"], accepted)
        if query.format not in ("json", "columns"):
            tables = await to_thread(import_module, "barwright.api.tables")
            table: ASGIResponse = await tables.stream(services.bars, query, scope)
            return table
        limits.charge(scope, query.cost)
        if query.wait:
            return await _waited(request, headers, query)
        MISSES["answer"].inc()
        answer = await services.bars.read(query)
        return await sent(headers, answers.put(name, answer, query.cost, await keeping.caching(query, answer)))

    @get("/v1/bars/latest", operation_class=LatestOperation)
    async def latest_bars(request: Request[Any, Any, Any]) -> ASGIResponse:
        """The newest bar of each symbol, open or closed."""
        query_string = request.scope["query_string"]
        ready = newest.get(query_string)
        if ready is not None:
            limits.charge(request.scope, ready.cost)
        else:
            wanted = latest_query(query_string)
            limits.charge(request.scope, len(wanted[0]))
            answer = await latest(services.database, services.follower, *wanted)
            ready = newest.put(query_string, answer, len(wanted[0]))
        return await sent(dict(request.scope["headers"]), ready)

    async def _waited(request: Request[Any, Any, Any], headers: dict[bytes, bytes], query: BarsQuery) -> ASGIResponse:
        """The answer to a request that waits; nobody takes it where the client has gone."""

        async def gone() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass

        answer = await services.waiting.read(query, gone)
        return ASGIResponse(status_code=204) if answer is None else await sent(headers, prepare(answer))

    return [bars, latest_bars]


async def sent(headers: dict[bytes, bytes], ready: Ready) -> ASGIResponse:
    """An answer as the client takes it, compressed or not; 304 where it has it."""
    zips = asked(headers.get(b"accept-encoding", b""))
    known = headers.get(b"if-none-match")
    if known is not None and unchanged(((b"if-none-match", known),), ready.etag):
        return not_modified(packed(ready.etag) if zips and ready.packs else ready.etag, ready.caching)
    return await ready.packed() if zips else ready.response
