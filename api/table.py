"""CSV of any length: page after page from the database, so memory stays flat however slow the client reads.

Each page is a snapshot of its own: one long transaction would pin a connection for as long as the client takes.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from litestar.response.streaming import ASGIStreamingResponse

from barwright.api.bars import Bars
from barwright.api.cover import closed_before
from barwright.api.database import Look, Row
from barwright.api.encode import CSV_HEADER, rows
from barwright.api.errors import ApiError
from barwright.api.params import MOST, BarsQuery

STEP = 5000  # bars in a page
PATIENCE = 20  # tries, a second and a half each, of a page whose database is away


async def stream(bars: Bars, query: BarsQuery) -> ASGIStreamingResponse:
    """The response; what is wrong with the request shows before it begins. ApiError 404, 503."""
    query = await bars.bounded(query)
    if query.newest and query.order == "asc":
        query = await _from_newest(bars, query)
    first = await _page(bars, query)
    headers = {"cache-control": "no-cache"}
    return ASGIStreamingResponse(iterator=_pages(bars, query, first), media_type="text/csv", headers=headers)


async def _from_newest(bars: Bars, query: BarsQuery) -> BarsQuery:
    """The same bars counted from where they begin: the newest `limit` are found backwards, sent forwards."""
    left = query
    while left.limit:
        found, _ = await bars.direct(replace(left, limit=min(left.limit, MOST)))
        found = found[: min(left.limit, MOST)]
        if not found:
            break
        left = replace(left, hi=found[-1][0], limit=left.limit - len(found))
    return replace(query, lo=query.lo if left.limit else left.hi or query.lo, newest=False)


async def _page(bars: Bars, query: BarsQuery) -> tuple[list[Row], Look]:
    """The next bars and perhaps one more, from the end where the query begins."""
    return await bars.direct(replace(query, limit=min(STEP, query.limit or STEP)))


async def _pages(bars: Bars, query: BarsQuery, page: tuple[list[Row], Look]) -> AsyncIterator[bytes]:
    yield CSV_HEADER
    while True:
        found, news = page
        size = min(STEP, query.limit or STEP)
        lines = rows(found[:size], closed_before(query.interval, news), "csv")
        yield b"".join(lines)
        if len(found) <= size or query.limit == size:
            return
        last = found[size - 1][0]
        end = {"hi": last} if query.backwards else {"lo": query.interval.after(last)}
        query = replace(query, limit=query.limit and query.limit - size, **end)
        page = await _patient(bars, query)


async def _patient(bars: Bars, query: BarsQuery) -> tuple[list[Row], Look]:
    """A page, waiting for a database that is away: what was sent cannot be taken back."""
    for _ in range(PATIENCE):
        try:
            return await _page(bars, query)
        except ApiError as error:
            if error.status != 503:
                raise
            await asyncio.sleep(1.5)
    return await _page(bars, query)
