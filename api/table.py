"""CSV of any length: page after page from the database, so memory stays flat however slow the client reads.

Each page is a snapshot of its own: one long transaction would pin a connection for as long as the client takes.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from litestar.response.streaming import ASGIStreamingResponse

from barwright.api.bars import Bars, Found, answered
from barwright.api.cover import closed_before
from barwright.api.coverage import judge
from barwright.api.encode import CSV_HEADER, rows
from barwright.api.errors import ApiError
from barwright.api.intervals import FIRST
from barwright.api.params import MOST, BarsQuery

STEP = 5000  # bars in a page
PATIENCE = 20  # tries, a second and a half each, of a page whose database is away


async def stream(bars: Bars, query: BarsQuery) -> ASGIStreamingResponse:
    """The response; what is wrong with the request shows before it begins. ApiError 404, 503."""
    query = await bars.bounded(query)
    if query.newest and query.order == "asc":
        query = await _from_newest(bars, query)
    first = await _page(bars, query)
    complete = {True: "true", False: "false", None: "null"}[_complete(query, first)]
    headers = {"cache-control": "no-cache", "x-barwright-complete": complete}
    return ASGIStreamingResponse(iterator=_pages(bars, query, first), media_type="text/csv", headers=headers)


async def _from_newest(bars: Bars, query: BarsQuery) -> BarsQuery:
    """The same bars counted from where they begin: the newest `limit` are found backwards, sent forwards."""
    left = query
    while left.limit:
        found = (await bars.direct(replace(left, limit=min(left.limit, MOST)))).rows[: min(left.limit, MOST)]
        if not found:
            break
        left = replace(left, hi=found[-1][0], limit=left.limit - len(found))
    return replace(query, lo=query.lo if left.limit else left.hi or query.lo, newest=False)


async def _page(bars: Bars, query: BarsQuery) -> Found:
    """The next bars and perhaps one more, from the end where the query begins."""
    return await bars.direct(replace(query, limit=min(STEP, query.limit or STEP)))


def _complete(query: BarsQuery, first: Found) -> bool | None:
    """Whether the span is complete as the first page's snapshot knows it. Where the answer will end inside the span is
    not known before it has been read: then only a span that is complete as a whole is."""
    size = min(STEP, query.limit or STEP)
    found, more = first.rows[:size], len(first.rows) > size
    ends = (found[0][0], found[-1][0]) if found else None
    cut = more and query.limit == size
    assert query.hi is not None
    lo, hi = answered(query, cut, ends) if cut or not more else (query.lo, query.hi)
    if lo == FIRST and ends and (query.order == "asc" or not more):
        lo = min(ends)  # without a start, it begins with the first bar there is
    complete = judge(first.known, query.interval, lo, hi, first.look.clock).complete
    return complete if cut or not more or query.limit is None else complete or None


async def _pages(bars: Bars, query: BarsQuery, page: Found) -> AsyncIterator[bytes]:
    yield CSV_HEADER
    while True:
        found = page.rows
        size = min(STEP, query.limit or STEP)
        lines = rows(found[:size], closed_before(query.interval, page.look), query.style)
        yield b"".join(lines)
        if len(found) <= size or query.limit == size:
            return
        last = found[size - 1][0]
        end = {"hi": last} if query.backwards else {"lo": query.interval.after(last)}
        query = replace(query, limit=query.limit and query.limit - size, **end)
        page = await _patient(bars, query)


async def _patient(bars: Bars, query: BarsQuery) -> Found:
    """A page, waiting for a database that is away: what was sent cannot be taken back."""
    for _ in range(PATIENCE):
        try:
            return await _page(bars, query)
        except ApiError as error:
            if error.status != 503:
                raise
            await asyncio.sleep(1.5)
    return await _page(bars, query)
