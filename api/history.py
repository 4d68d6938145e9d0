"""Routes about what is missing and what is being done about it."""

from typing import Any

import msgspec
from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse

from barwright.api.answers import JSON
from barwright.api.coverage import text
from barwright.api.database import Q as READS
from barwright.api.database import Row
from barwright.api.errors import unknown_symbol
from barwright.api.operations import BackfillsOperation, GapsOperation
from barwright.api.params import Listing, listing
from barwright.api.services import Services
from barwright.api.writer import Q

TASK = ("id", "symbol", "source", "interval", "from", "to", "reason", "status", "attempt", "rows", "error", "filed_at",
        "started_at", "published_at", "landed_at")  # fmt: skip


def gap(row: Row) -> dict[str, Any]:
    """A row of query `gaps`."""
    symbol, start, end = row
    return {"symbol": symbol, "from": text(start), "to": text(end)}


def task(row: Row) -> dict[str, Any]:
    """A row of query `tasks`."""
    return {name: text(value) if hasattr(value, "isoformat") else value for name, value in zip(TASK, row, strict=True)}


def progress(row: Row) -> dict[str, Any]:
    """A row of query `progress`; `share` is how much of the wanted history is there, null where none is wanted."""
    symbol, wanted, missing, open_, landed, bars, error = row
    share = None if not wanted else round(max(0.0, 1 - missing / wanted), 6)
    return {"symbol": symbol, "share": share, "seconds_wanted": round(wanted or 0), "seconds_missing": round(missing),
            "tasks_open": open_, "tasks_landed": landed, "bars_imported": bars, "error": error}  # fmt: skip


def history_routes(services: Services) -> list[HTTPRouteHandler]:
    """`GET /v1/gaps` and `GET /v1/backfills`."""

    @get("/v1/gaps", operation_class=GapsOperation)
    async def gaps(request: Request[Any, Any, Any]) -> ASGIResponse:
        """What is missing of the history that was asked for and a source can still give, and what awaits repair; newest
        first. Empty when all is complete."""
        wanted = listing(request.scope["query_string"], ("symbol", "limit"))
        [found] = await _read(wanted, ("gaps", {"symbol": wanted.symbol, "limit": wanted.limit + 1}))
        return _json({"gaps": [gap(row) for row in found[: wanted.limit]], "more": len(found) > wanted.limit})

    @get("/v1/backfills", operation_class=BackfillsOperation)
    async def backfills(request: Request[Any, Any, Any]) -> ASGIResponse:
        """The tasks that fetch history, the most urgent first, and how far each symbol's history is."""
        wanted = listing(request.scope["query_string"], ("symbol", "all", "limit"))
        tasks, how_far = await _read(
            wanted,
            ("tasks", {"symbol": wanted.symbol, "all": wanted.all, "limit": wanted.limit + 1}),
            ("progress", {"symbol": wanted.symbol}),
        )
        return _json({
            "backfills": [task(row) for row in tasks[: wanted.limit]], "more": len(tasks) > wanted.limit,
            "progress": [progress(row) for row in how_far],
        })  # fmt: skip

    async def _read(wanted: Listing, *queries: tuple[str, dict[str, Any]]) -> list[list[Row]]:
        """The rows of several queries of one snapshot. ApiError 404, 503."""
        [[known]], *found = await services.database.fetch_all(
            (READS["symbol_state"], {"symbol": wanted.symbol}),
            *((Q[name], args) for name, args in queries),
        )
        if wanted.symbol is not None and not known:
            raise unknown_symbol(wanted.symbol)
        return found

    return [gaps, backfills]


def _json(value: Any) -> ASGIResponse:
    return ASGIResponse(body=msgspec.json.encode(value), media_type=JSON, headers={"cache-control": "no-cache"})
