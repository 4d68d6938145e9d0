"""Routes about symbols."""

from datetime import datetime
from typing import Any

import msgspec
from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse

from barwright.api.answers import JSON, not_modified, unchanged
from barwright.api.bars import etag_of
from barwright.api.database import Database, Q, Row
from barwright.api.documentation import SymbolOperation, SymbolsOperation
from barwright.api.errors import unknown_symbol
from barwright.api.intervals import EPOCH, moment
from barwright.api.params import single, symbol
from barwright.api.services import Services

FIELDS = ("symbol", "source", "market", "base", "quote", "history_start", "live", "registered_at", "newest")


async def describe(database: Database, only: str | None = None) -> list[dict[str, Any]]:
    """Every symbol, or one; `newest` is the minute of its newest bar. ApiError 503."""
    async with database.snapshot() as snapshot:
        found = [dict(zip(FIELDS, row, strict=True)) for row in await snapshot.fetch(Q["symbols"], {"symbol": only})]
        quiet = [row["symbol"] for row in found if row["newest"] is None]
        if quiet:
            days: list[Row] = await snapshot.fetch(Q["newest_days"], {"symbols": quiet})
            args = {"symbols": [name for name, _ in days], "days": [moment(day) for _, day in days]}
            newest: dict[str, datetime] = dict(await snapshot.fetch(Q["quiet"], args)) if days else {}
            for row in found:
                row["newest"] = row["newest"] or newest.get(row["symbol"])
    return [{name: _plain(value) for name, value in row.items()} for row in found]


def _plain(value: Any) -> Any:
    """Times as RFC 3339 in UTC, without a fraction that is zero."""
    if not isinstance(value, datetime):
        return value
    return (EPOCH + (value - EPOCH)).isoformat().replace("+00:00", "Z")


def symbols_routes(services: Services) -> list[HTTPRouteHandler]:
    """`GET /v1/symbols` and `GET /v1/symbols/{symbol}`."""

    @get("/v1/symbols", operation_class=SymbolsOperation)
    async def symbols(request: Request[Any, Any, Any]) -> ASGIResponse:
        """Every symbol."""
        single(request.scope["query_string"], ())
        return _answer(request, {"symbols": await describe(services.database)})

    @get("/v1/symbols/{name:path}", operation_class=SymbolOperation)
    async def one_symbol(request: Request[Any, Any, Any], name: str) -> ASGIResponse:
        """One symbol; slashes and colons may stand in the path as they are."""
        single(request.scope["query_string"], ())
        wanted = symbol(str(name).removeprefix("/"))
        found = await describe(services.database, wanted)
        if not found:
            raise unknown_symbol(wanted)
        return _answer(request, found[0])

    return [symbols, one_symbol]


def _answer(request: Request[Any, Any, Any], value: Any) -> ASGIResponse:
    body = msgspec.json.encode(value)
    etag = etag_of(body)
    if unchanged(request.scope["headers"], etag):
        return not_modified(etag)
    return ASGIResponse(body=body, media_type=JSON, headers={"etag": etag, "cache-control": "no-cache"})
