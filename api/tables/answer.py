"""The response with a table."""

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Any

from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import Receive, Send

from barwright.api.access import limits
from barwright.api.bars import Bars, answered
from barwright.api.coverage import judge
from barwright.api.intervals import FIRST
from barwright.api.params import BarsQuery
from barwright.api.tables.columns import Columns
from barwright.api.tables.formats import FORMATS, Writer
from barwright.api.tables.source import begun, numbers, text
from barwright.api.tables.walk import FEW, Page, Read, Walk

Body = AsyncGenerator[bytes]


class Table(ASGIStreamingResponse):
    """A response that lets go of what it reads as soon as it ends, also when the client has gone."""

    async def send_body(self, send: Send, receive: Receive) -> None:
        """Send it."""
        async with aclosing(self.iterator):  # type: ignore[type-var]
            await super().send_body(send, receive)


async def stream(bars: Bars, query: BarsQuery, scope: Any) -> Table:
    """The response to a request for a table; before it begins, ApiError 400, 404, 429, 503."""
    limits.charge(scope, min(FEW, query.limit or FEW))
    queries = [await begun(bars, each) for each in query.each()]
    walks = [Walk(bars, each) for each in queries]
    read = text if query.format == "csv" else numbers
    firsts = [await walk.page(read) for walk in walks]
    verdicts = [_complete(each, page, walk.done) for each, page, walk in zip(queries, firsts, walks, strict=True)]
    writer = Writer(query.format, _columns(query))
    begin = await _written(writer, firsts[0])
    headers = {
        "cache-control": "no-cache",
        "vary": "Accept",
        "x-barwright-complete": {True: "true", False: "false", None: "null"}[_all(verdicts)],
        "content-disposition": f'attachment; filename="{_name(query)}"',
    }
    body = _body(writer, begin, _ahead(_pages(walks, firsts, read)), scope)
    return Table(iterator=body, media_type=FORMATS[query.format].media_type, headers=headers)


def _columns(query: BarsQuery) -> Columns:
    if query.format == "csv":
        return Columns("text", query.style.time, query.several)
    return Columns("float" if query.style.numbers == "float" else "decimal", "us", query.several)


def _name(query: BarsQuery) -> str:
    """A file name for what is asked for."""
    symbols = query.symbols or (query.symbol,)
    name = "-".join([*symbols[:3], *(["more"] if len(symbols) > 3 else ()), query.interval.name])
    return f"{re.sub('[^A-Za-z0-9.-]', '_', name)}.{query.format}"


def _complete(query: BarsQuery, first: Page, done: bool) -> bool | None:
    """Whether the span is complete as the first page's snapshot knows it. Where the answer will end inside the span is
    not known before it has been read: then only a span that is complete as a whole is."""
    assert query.hi is not None
    cut = done and query.limit is not None and first.count == query.limit
    ends = first.ends
    lo, hi = (
        answered(query, cut, ends and (ends if query.order == "asc" else (ends[1], ends[0])))
        if done
        else (query.lo, query.hi)
    )
    if lo == FIRST and ends and (query.order == "asc" or done):
        lo = min(ends)  # without a start, it begins with the first bar there is
    complete = judge(first.known, query.interval, lo, hi, first.look.clock).complete
    return complete if done or query.limit is None else complete or None


def _all(verdicts: Sequence[bool | None]) -> bool | None:
    """Whether several spans are complete."""
    return False if False in verdicts else None if None in verdicts else True


async def _pages(walks: Sequence[Walk], firsts: Sequence[Page], read: Read) -> AsyncGenerator[Page]:
    """Every page but the very first, which is written already."""
    for n, (walk, first) in enumerate(zip(walks, firsts, strict=True)):
        if n:
            yield first
        while not walk.done:
            yield await walk.patient(read)


async def _ahead(pages: AsyncGenerator[Page]) -> AsyncGenerator[Page]:
    """The same pages, each asked for while the one before is used."""
    following = asyncio.create_task(anext(pages, None))
    try:
        while (page := await following) is not None:
            following = asyncio.create_task(anext(pages, None))
            yield page
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await following
        await pages.aclose()


async def _body(writer: Writer, begin: bytes, pages: AsyncGenerator[Page], scope: Any) -> Body:
    async with aclosing(pages):
        yield begin
        async for page in pages:
            limits.spend(scope, page.count)
            if data := await _written(writer, page):
                yield data
        yield writer.end()


async def _written(writer: Writer, page: Page) -> bytes:
    """A page's bytes, made in a thread: 20,000 bars take 10 ms, in which others are answered."""
    return await asyncio.to_thread(writer.write, page)
