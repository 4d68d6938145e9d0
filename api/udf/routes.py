"""Routes under `/udf`. What is wrong with a request is told in UDF's own shape with status 200, for its clients read
nothing else; what is away or used up keeps its status, for whatever stands between."""

import time
from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Request, Response, Router, get
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse

from barwright.api.access import limits
from barwright.api.answers import JSON, Answers
from barwright.api.errors import ApiError, bad
from barwright.api.params import pairs
from barwright.api.reading import sent
from barwright.api.services import Services
from barwright.api.udf.directory import Directory, Listed
from barwright.api.udf.history import asked, history, history_query
from barwright.api.udf.operations import (
    ConfigOperation,
    HistoryOperation,
    SearchOperation,
    SymbolInfoOperation,
    SymbolsOperation,
    TimeOperation,
)
from barwright.api.udf.shapes import KIND, config, found, group, info

LIMIT, MOST = 30, 500  # symbols a search finds
NO_GROUP = "unknown_group"  # the one error whose status the documentation names


def udf_routes(services: Services) -> Router:
    """TradingView's UDF protocol."""
    directory = Directory(services.database)
    return Router(
        path="/udf",
        route_handlers=[*_symbol_routes(services, directory), _history_route(services, directory)],
        exception_handlers={ApiError: _failed},
    )


def _symbol_routes(services: Services, directory: Directory) -> list[HTTPRouteHandler]:
    @get("/config", operation_class=ConfigOperation)
    async def configuration() -> ASGIResponse:
        """What this feed offers: resolutions, exchanges, what it supports."""
        try:
            exchanges = await directory.exchanges()
        except ApiError:  # a chart that starts while the database is away still learns what we are
            exchanges = []
        return _json(config(exchanges))

    @get("/time", operation_class=TimeOperation)
    async def server_time() -> ASGIResponse:
        """The time in whole seconds, as plain text."""
        now = services.follower.clock() if services.follower.look else time.time()
        return ASGIResponse(body=b"%d" % now, media_type="text/plain", headers={"cache-control": "no-store"})

    @get("/symbols", operation_class=SymbolsOperation)
    async def symbols(request: Request[Any, Any, Any]) -> ASGIResponse:
        """One symbol, by name, ticker or `EXCHANGE:NAME`: what a chart must know to draw it."""
        one = await directory.resolve(_wanted(_given(request), "symbol"))
        [digits] = await directory.digits([one.symbol])
        return _json(info(one, *digits))

    @get("/search", operation_class=SearchOperation)
    async def search(request: Request[Any, Any, Any]) -> ASGIResponse:
        """Symbols whose name or description holds `query`, in any case; without it, all."""
        given = _given(request)
        if given.get("type", "") not in ("", KIND):
            return _json([])
        listed = await directory.search(given.get("query", ""), given.get("exchange", ""), _limit(given))
        return _json([found(one) for one in listed])

    @get("/symbol_info", operation_class=SymbolInfoOperation)
    async def symbol_info(request: Request[Any, Any, Any]) -> ASGIResponse:
        """All symbols of an exchange (`group`), or all there are, as a table."""
        name = _given(request).get("group", "")
        listed = [one for one in await directory.all() if not name or one.exchange == name.upper()]
        if name and not listed:
            raise ApiError(404, NO_GROUP, f"There is no group {name!r:.60}.")
        return _json(group(listed, await directory.digits([one.symbol for one in listed])))

    return [configuration, server_time, symbols, search, symbol_info]


def _history_route(services: Services, directory: Directory) -> HTTPRouteHandler:
    answers = Answers()

    @get("/history", operation_class=HistoryOperation)
    async def udf_history(request: Request[Any, Any, Any]) -> ASGIResponse:
        """Bars as columns, ascending: the `countback` before `to`, else those in [from, to)."""
        scope = request.scope
        ready = answers.get(scope["query_string"]) if services.follower.fresh else None
        if ready is not None:
            limits.charge(scope, ready.cost)
        else:
            given = _given(request)
            one = await _known(directory, _wanted(given, "symbol"))
            now = services.follower.clock()
            query = history_query(given, one.symbol, now)
            cost = asked(query, now)
            limits.charge(scope, cost)
            ready = answers.put(scope["query_string"], await history(services.bars, query), cost)
        return await sent(dict(scope["headers"]), ready)

    return udf_history


async def _known(directory: Directory, name: str) -> Listed:
    """The symbol of a name; one that this process has heard of costs nothing, for a chart asks every few seconds."""
    return directory.listed.get(name) or await directory.resolve(name)


def _given(request: Request[Any, Any, Any]) -> dict[str, str]:
    """The parameters; clients add some of their own, and a repeated one counts once."""
    return dict(reversed(pairs(request.scope["query_string"])))


def _wanted(given: Mapping[str, str], name: str) -> str:
    """A symbol's name. A plus sign that was not escaped arrives as a space."""
    value = given.get(name, "").strip().replace(" ", "+")
    if not value:
        raise bad(name, "", f"{name} is missing.")
    return value


def _limit(given: Mapping[str, str]) -> int:
    text = given.get("limit", "")
    if not text:
        return LIMIT
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise bad("limit", text, f"limit={text!r:.40} is no whole number.", {"minimum": 1, "maximum": MOST})
    return min(int(text), MOST)


def _json(value: Any) -> ASGIResponse:
    return ASGIResponse(body=msgspec.json.encode(value), media_type=JSON, headers={"cache-control": "no-cache"})


def _failed(_: Request[Any, Any, Any], error: ApiError) -> Response[bytes]:
    headers = {**error.headers, "cache-control": "no-store"}
    if error.status >= 429 or error.code == NO_GROUP:
        return Response(error.body(udf=True), media_type=JSON, status_code=error.status, headers=headers)
    return Response(msgspec.json.encode({"s": "error", "errmsg": str(error)}), media_type=JSON, headers=headers)
