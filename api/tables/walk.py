"""A walk through one symbol's bars, window after window, from the end where a query begins.

The width of a window bounds what a page can hold. Where a window finds little, the days that have bars tell where the
next ones are: a symbol's centuries without trades cost one look.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from psycopg.types.numeric import Int8

from barwright.api.bars import Bars
from barwright.api.cover import closed_before
from barwright.api.coverage import Summary, summary
from barwright.api.database import Look, Q, look, retried
from barwright.api.encode import DAYS_SQL
from barwright.api.errors import ApiError, unknown_symbol
from barwright.api.intervals import DAY, FIRST, LEVELS, MONDAY, Interval
from barwright.api.params import BarsQuery, Fill
from barwright.api.span import Query, Window, arguments, window

# Bars in the first page, which should come at once, and in the largest: 20,000 are 2.4 MB as text and 3 MB as Arrow.
# With 50,000 nothing is faster, and the process grows by 40 MB more; with 10,000 it takes a tenth longer.
FEW, MANY = 5_000, 20_000
PATIENCE = 20  # tries, a second and a half each, of a page whose database is away


@dataclass(frozen=True, slots=True)
class Page:
    """The bars of one window as lines of CSV: how many, the first and last bucket, and what the same snapshot says of
    the symbol; bars before `edge` are closed. With `fill` there is to be one for each bucket of `grid`, `close` being
    the last close before."""

    symbol: str
    text: str
    count: int
    ends: Window | None
    look: Look
    known: Summary
    edge: int
    fill: Fill = "none"
    grid: list[int] | None = None
    close: str | None = None


Read = Callable[[BarsQuery], Query]  # what is read of a window


class Walk:
    """Where a walk is. `left` is what of the query is still to come, its `limit` included."""

    def __init__(self, bars: Bars, query: BarsQuery) -> None:
        self.bars = bars
        self.left = query
        self.most = max(1, MANY // parts(query.interval))
        self.size = min(FEW, self.most)
        self.sparse = query.fill == "none"

    @property
    def done(self) -> bool:
        """Whether nothing is left of the query."""
        assert self.left.hi is not None
        return self.left.lo >= self.left.hi or self.left.limit == 0

    async def patient(self, read: Read) -> Page:
        """The next window, waiting for a database that is away: what was sent cannot be taken back."""
        for _ in range(PATIENCE):
            try:
                return await self.page(read)
            except ApiError as error:
                if error.status != 503:
                    raise
                await asyncio.sleep(1.5)
        return await self.page(read)

    async def page(self, read: Read) -> Page:
        """The next window; ApiError 404, 503."""
        return await (self._page(read) if self.left.fill == "none" else self._filled(read))

    @retried
    async def _page(self, read: Read) -> Page:
        query = self.left
        asked = time.monotonic()
        async with self.bars.database.snapshot() as snapshot:
            [news], coverage, *days = await snapshot.fetch_all(
                (Q["look"], {"seen": Int8(self.bars.follower.rev)}),
                (Q["coverage"], {"symbol": query.symbol}),
                *([(DAYS_SQL[query.backwards], arguments(query.symbol, self._days(), 1, ""))] if self.sparse else ()),
            )
            if not coverage:
                raise unknown_symbol(query.symbol)
            span = self._window([day for (day,) in days[0]] if days else None)
            [found] = await snapshot.fetch_all(read(replace(query, lo=span[0], hi=span[1])), last=True)
        [(text, count, *ends)], seen = found, look(news)
        self.bars.follower.hear(seen, asked)
        self._pass(span, count)
        return Page(
            query.symbol, text or "", count, (ends[0], ends[1]) if count else None, seen,
            summary(query.symbol, coverage[0], seen), closed_before(query.interval, seen),
        )  # fmt: skip

    async def _filled(self, read: Read) -> Page:
        """The same where each bucket has a bar."""
        query, interval = self.left, self.left.interval
        assert query.hi is not None
        size = self.size if query.limit is None else max(1, min(self.size, query.limit))
        span = window(interval, query.lo, query.hi, size, query.backwards)
        close = await last_close(self.bars, query, span[0]) if query.fill == "previous" else None
        part = replace(query, lo=span[0], hi=span[1], limit=None, order="asc", newest=False, fill="none")
        page = await _whole(self.bars, part, read)
        grid = interval.starts(*span)
        self._pass(span, len(grid))
        return replace(page, count=len(grid), ends=(grid[0], grid[-1]) if grid else None,
                       fill=query.fill, grid=grid[::-1] if query.backwards else grid, close=close)  # fmt: skip

    def _days(self) -> Window:
        """The days whose bars are part of what is left."""
        assert self.left.hi is not None
        return LEVELS["1d"].floor(self.left.lo), self.left.hi + self.left.interval.calendar.overhang

    def _window(self, days: list[int] | None) -> Window:
        """The next window, from the first of the days that have bars where they were asked for."""
        query, interval = self.left, self.left.interval
        assert query.hi is not None
        lo, hi = query.lo, query.hi
        if days == []:
            # There is none. All of it is passed at once, and not looked at: edges of centuries take seconds to make.
            return (lo, lo) if query.backwards else (hi, hi)
        if days and query.backwards:
            hi = min(hi, interval.ceil(days[0] + DAY))
        elif days:
            lo = max(lo, interval.floor(days[0] - interval.calendar.overhang))
        return window(interval, lo, max(lo, hi), self.size, query.backwards)

    def _pass(self, span: Window, count: int) -> None:
        """Go on behind a window."""
        limit = None if self.left.limit is None else max(0, self.left.limit - count)
        lo, hi = (self.left.lo, span[0]) if self.left.backwards else (span[1], self.left.hi)
        self.left = replace(self.left, lo=lo, hi=hi, limit=limit)
        self.sparse = self.left.fill == "none" and count < max(1, self.size // 8)
        self.size = min(self.size * 4, self.most)


async def _whole(bars: Bars, query: BarsQuery, read: Read) -> Page:
    """All of a query as one page."""
    walk = Walk(bars, query)
    walk.size, walk.sparse = MANY, False
    return await walk.page(read)


async def last_close(bars: Bars, query: BarsQuery, before: int) -> str | None:
    """The close of the last bar that begins before a time; None where there is none."""
    if before <= FIRST:
        return None
    found = (await bars.slice(query.symbol, query.interval, FIRST, before, 1, True)).bars
    return found[0].close if found else None


def parts(interval: Interval) -> int:
    """About how many bars of its level one bar of a derived interval is made of."""
    width = interval.after(MONDAY) - interval.floor(MONDAY)
    return max(1, width // LEVELS[interval.level].width) if interval.derived else 1
