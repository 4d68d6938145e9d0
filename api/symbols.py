"""Routes about symbols."""

from datetime import datetime
from typing import Any

import msgspec
from litestar import Request, delete, get, put
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response.base import ASGIResponse
from psycopg.types.numeric import Int8

from barwright.api.access import demand
from barwright.api.answers import JSON, not_modified, unchanged
from barwright.api.bars import etag_of
from barwright.api.coverage import FINENESS, SECOND, Summary, judge, minute, rfc3339, summary, text
from barwright.api.database import Q, Row, Snapshot, look, retried
from barwright.api.errors import unknown_symbol
from barwright.api.intervals import LEVELS, moment
from barwright.api.operations import ForgetOperation, RegisterOperation, SymbolOperation, SymbolsOperation
from barwright.api.params import purging, single, symbol
from barwright.api.registration import decoded, registration
from barwright.api.services import Services
from barwright.api.writer import Q as WRITES

FIELDS = ("symbol", "source", "market", "base", "quote", "history_start", "history_source", "live", "stopped",
          "registered_at", "minutes_since", "hours_since", "newest")  # fmt: skip


async def describe(snapshot: Snapshot, only: str | None = None) -> list[dict[str, Any]]:
    """Every symbol, or one; `newest` is the minute of its newest bar."""
    found = [dict(zip(FIELDS, row, strict=True)) for row in await snapshot.fetch(Q["symbols"], {"symbol": only})]
    quiet = [row["symbol"] for row in found if row["newest"] is None]
    if quiet:
        days: list[Row] = await snapshot.fetch(Q["newest_days"], {"symbols": quiet})
        args = {"symbols": [name for name, _ in days], "days": [moment(day) for _, day in days]}
        newest: dict[str, datetime] = dict(await snapshot.fetch(Q["quiet"], args)) if days else {}
        for row in found:
            row["newest"] = row["newest"] or newest.get(row["symbol"])
    return [{name: text(v) if isinstance(v, datetime) else v for name, v in row.items()} for row in found]


@retried
async def describe_all(services: Services) -> list[dict[str, Any]]:
    """Every symbol. ApiError 503."""
    async with services.database.snapshot() as snapshot:
        return await describe(snapshot)


@retried
async def describe_one(services: Services, name: str) -> dict[str, Any]:
    """One symbol and its coverage, of one snapshot. ApiError 404, 503."""
    async with services.database.snapshot() as snapshot:
        [news], coverage = await snapshot.fetch_all(
            (Q["look"], {"seen": Int8(services.follower.rev)}), (Q["coverage"], {"symbol": name})
        )
        if not coverage:
            raise unknown_symbol(name)
        [found] = await describe(snapshot, name)
    seen = look(news)
    return found | _coverage(summary(name, coverage[0], seen), seen.clock)


def _coverage(known: Summary, clock: float) -> dict[str, Any]:
    """What is covered, how many gaps there are, and whether all from the start to the last whole minute is there."""
    now = int(clock * SECOND)
    whole = (known.start or 0) // SECOND, minute(now) // SECOND
    verdict = judge(known, LEVELS["1d"], *whole, clock)
    return {
        "covered": {name: _hull(known.proved[name]) for name in FINENESS},
        "gaps": len(known.missing(now)), "complete": verdict.complete, "finest": verdict.finest,
    }  # fmt: skip


def _hull(spans: list[tuple[int, int]]) -> dict[str, Any] | None:
    """From where to where some spans reach, and how much of that they hold."""
    if not spans:
        return None
    seconds = sum(hi - lo for lo, hi in spans) / SECOND
    return {"from": rfc3339(spans[0][0]), "to": rfc3339(spans[-1][1]), "seconds": round(seconds)}


def symbols_routes(services: Services) -> list[HTTPRouteHandler]:
    """`/v1/symbols` and `/v1/symbols/{symbol}`."""

    @get("/v1/symbols", operation_class=SymbolsOperation)
    async def symbols(request: Request[Any, Any, Any]) -> ASGIResponse:
        """Every symbol."""
        single(request.scope["query_string"], ())
        return _answer(request, {"symbols": await describe_all(services)})

    @get("/v1/symbols/{name:path}", operation_class=SymbolOperation)
    async def one_symbol(request: Request[Any, Any, Any], name: FromPath[str]) -> ASGIResponse:
        """One symbol, and how much of its history is there; slashes and colons may stand in the path as they are."""
        single(request.scope["query_string"], ())
        return _answer(request, await describe_one(services, _name(name)))

    @put("/v1/symbols/{name:path}", operation_class=RegisterOperation)
    async def register(request: Request[Any, Any, Any], name: FromPath[str]) -> ASGIResponse:
        """Register a symbol: from now on its live feed runs, and its history from `start` on is fetched. Twice is
        harmless; an earlier start asks for the part before only, a later one changes nothing."""
        single(request.scope["query_string"], ())
        if services.follower.look is None:
            await services.follower.ask()
        wanted = registration(_name(name), decoded(await request.body()), services.follower.clock())
        async with services.writer.transaction() as connection:
            await connection.execute(WRITES["hold"], {"symbol": wanted.symbol})
            [known] = await (await connection.execute(WRITES["exists"], {"symbol": wanted.symbol})).fetchall()
            await connection.execute(WRITES["register"], wanted.arguments())
        services.coverages.forget(wanted.symbol)
        return _json(await describe_one(services, wanted.symbol), 200 if known[0] else 201)

    @delete("/v1/symbols/{name:path}", operation_class=ForgetOperation, status_code=200)
    async def forget(request: Request[Any, Any, Any], name: FromPath[str]) -> ASGIResponse:
        """Follow a symbol no more and ask for no more of its history. Its data stay, unless `purge=true`."""
        purge, wanted = purging(request.scope["query_string"]), _name(name)
        if purge:
            demand(request.scope, "admin")
        async with services.writer.transaction() as connection:
            [known] = await (await connection.execute(WRITES["exists"], {"symbol": wanted})).fetchall()
            if not known[0]:
                raise unknown_symbol(wanted)
            await connection.execute(WRITES["purge" if purge else "stop"], {"symbol": wanted})
        services.coverages.forget(wanted)
        return ASGIResponse(status_code=204) if purge else _json(await describe_one(services, wanted), 200)

    return [symbols, one_symbol, register, forget]


def _name(path: str) -> str:
    """The symbol in a path."""
    return symbol(str(path).removeprefix("/"))


def _json(value: Any, status: int) -> ASGIResponse:
    return ASGIResponse(body=msgspec.json.encode(value), media_type=JSON, status_code=status)


def _answer(request: Request[Any, Any, Any], value: Any) -> ASGIResponse:
    body = msgspec.json.encode(value)
    etag = etag_of(body)
    if unchanged(request.scope["headers"], etag):
        return not_modified(etag)
    return ASGIResponse(body=body, media_type=JSON, headers={"etag": etag, "cache-control": "no-cache"})
