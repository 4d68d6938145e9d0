"""Closed bars for subscriptions, out of the cached pages, and the log of what changed of them."""

import asyncio
from dataclasses import dataclass

from psycopg.types.numeric import Int8

from barwright import sql
from barwright.api.bars import Bars
from barwright.api.blocks import Series
from barwright.api.database import Database
from barwright.api.errors import ApiError
from barwright.api.span import Window
from barwright.api.stream.log import Revised

Q = sql.queries("stream")
PAUSE = 0.5  # seconds until a database that is away is asked again: what a client was promised is not given up
BEHIND = 2**20  # revisions somebody may be behind and still be told what changed
Line = tuple[int, bytes]  # a bar: its bucket, and its JSON


@dataclass(frozen=True, slots=True)
class Part:
    """The closed bars of a span from its beginning up to `hi`, at least as new as revision `rev` of the epoch."""

    lines: list[Line]
    hi: int
    rev: int
    epoch: str


async def closed(bars: Bars, series: Series, span: Window, limit: int) -> Part:
    """The first `limit` closed bars of a span. Waits while the database is away. ApiError 404."""
    while True:
        try:
            return await _closed(bars, series, span, limit)
        except ApiError as error:
            if error.status != 503:
                raise
            await asyncio.sleep(PAUSE)


async def _closed(bars: Bars, series: Series, span: Window, limit: int) -> Part:
    interval = series.interval
    lo, hi = interval.ceil(span[0]), interval.ceil(span[1])
    if lo >= hi:
        look = bars.follower.look or await bars.follower.ask()
        return Part([], span[1], look.rev, look.epoch)
    found = await bars.pick(series, lo, hi, limit, False)
    lines = [
        (part.starts[n], part.body[part.cuts[n] : part.cuts[n + 1] - 1])
        for part, i, j in found.pieces
        for n in range(i, j)
        if part.starts[n] < found.edge
    ]
    end = min(span[1], found.edge) if len(found) < limit else min(found.last + 1, found.edge)
    return Part(lines, end, found.known.rev, found.known.epoch)


async def changed(database: Database, symbol: str, after: int, upto: int) -> list[Revised] | None:
    """The revisions of a symbol in (after, upto], by the database's log; None where that reaches back less far. Waits
    while the database is away."""
    if upto - after > BEHIND:
        return None
    while True:
        try:
            [[found]] = await database.fetch(Q["changed"], {"symbol": symbol, "after": Int8(after), "upto": Int8(upto)})
        except ApiError as error:
            if error.status != 503:
                raise
            await asyncio.sleep(PAUSE)
        else:
            return None if found is None else [(rev, lo, hi) for rev, lo, hi in found]
