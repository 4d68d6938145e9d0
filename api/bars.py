"""Bars for requests: out of blocks where they suffice, else out of one snapshot."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import msgspec
from psycopg.types.numeric import Int8

from barwright.api.blocks import Block, Series, block, series
from barwright.api.body import Answer as Answer
from barwright.api.body import answer, together
from barwright.api.body import answered as answered
from barwright.api.body import etag_of as etag_of
from barwright.api.calendars import PAGE
from barwright.api.cover import Cover, closed_before
from barwright.api.coverage import Summary, summary
from barwright.api.coverages import Coverages
from barwright.api.database import Database, Look, Q, Row, Snapshot, look, retried
from barwright.api.encode import EXACT, NULL
from barwright.api.errors import unknown_symbol
from barwright.api.filling import close_of, filled
from barwright.api.follower import Follower
from barwright.api.intervals import FIRST, Interval
from barwright.api.params import BarsQuery
from barwright.api.pieces import Picked, beside, chosen, tiled
from barwright.api.span import Window, after_window, bars_query, first_window, rest, window

TRIES = 3  # of an answer from blocks that a revision overtakes meanwhile, before one snapshot gives all of it
WIDER = 4  # how much wider the window of the second look is; beyond it the database finds the bars of a sparse symbol
AT_ONCE = 4  # symbols of one request that are read at a time: fifty would wait for connections until some are refused
Pick = Callable[[int, int, int, bool], Awaitable[Picked]]  # lo, hi, how many, backwards


class Bar(msgspec.Struct, frozen=True):
    """A bar as our own readers take it: its bucket in seconds since 1970, every digit of its numbers."""

    bucket: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    quote_volume: str | None
    vwap: str | None
    trades: int | None
    buy_volume: str | None
    imported: bool
    closed: bool


@dataclass(frozen=True, slots=True)
class Slice:
    """Bars ascending, and the revision they are of; those before `edge` are closed."""

    bars: list[Bar]
    epoch: str
    rev: int
    edge: int


@dataclass(frozen=True, slots=True)
class Found:
    """Rows as found from their end of the span, and what else the same snapshot says."""

    rows: list[Row]
    look: Look
    known: Summary


_decode = msgspec.json.Decoder(list[Bar]).decode


class Bars:
    """Reads bars for requests."""

    def __init__(self, database: Database, follower: Follower, cover: Cover, coverages: Coverages) -> None:
        self.database = database
        self.follower = follower
        self.cover = cover
        self.coverages = coverages

    async def read(self, query: BarsQuery) -> Answer:
        """The answer to a request for JSON; ApiError 404, 503."""
        room = asyncio.Semaphore(AT_ONCE)

        async def read(part: BarsQuery) -> Answer:
            async with room:
                return await self._read(part)

        parts = await asyncio.gather(*(read(part) for part in query.each()))
        return together(query, parts) if query.several else parts[0]

    async def slice(
        self, symbol: str, interval: Interval, lo: int, hi: int, limit: int | None = None, backwards: bool = False
    ) -> Slice:
        """The bars whose buckets start in [lo, hi), at most `limit` from the end where they are looked for, ascending.
        Without a limit as many as there are: keep the span short. ApiError 404, 503."""
        lo, hi = interval.ceil(lo), interval.ceil(hi)
        need = len(interval.starts(lo, hi)) if limit is None else limit
        picked = await self.pick(series(symbol, interval, EXACT), lo, max(lo, hi), max(1, need), backwards)
        return Slice(_decode(b"[%s]" % picked.body[:-1]), picked.known.epoch, picked.known.rev, picked.edge)

    async def bounded(self, query: BarsQuery) -> BarsQuery:
        """The query with its bounds on bucket starts, `hi` being the database's now where none was given; with `fill`
        it is at most the end of the bucket now open."""
        if self.follower.look is None:
            await self.follower.ask()
        now = int(self.follower.clock())
        lo, hi = query.interval.ceil(query.lo), query.interval.ceil(now + 1 if query.hi is None else query.hi)
        if query.fill != "none":
            hi = min(hi, query.interval.after(now))
        return replace(query, lo=lo, hi=max(lo, hi))

    async def pick(self, kind: Series, lo: int, hi: int, need: int, backwards: bool) -> Picked:
        """At most `need` bars of [lo, hi), bucket starts, from one end. ApiError 404, 503."""
        for _ in range(TRIES):
            if not self.follower.fresh or not self.cover.keeps:
                break
            spoiled, picked = await self.cached(kind, lo, hi, need, backwards)
            if picked is not None:
                return picked
            if not spoiled:
                break
        found = await self._direct(kind, lo, hi, need, backwards)
        return _picked(kind, lo, hi, found, backwards)

    async def cached(self, kind: Series, lo: int, hi: int, need: int, backwards: bool) -> tuple[bool, Picked | None]:
        """The same out of blocks, if few suffice; else whether that was because something newer came between."""
        known = await self.coverages.of(kind.symbol)
        void = self.cover.store.void(kind)
        if void is not None and void.lo <= lo < void.hi:
            lo = min(void.hi, hi)
        for factor in (1, WIDER):
            span = window(kind.interval, lo, hi, min(need * factor, max(need, 64 * PAGE)), backwards)
            blocks = await self.cover.blocks(kind, *span, known.heard) if span[0] < span[1] else []
            if blocks is None:
                return False, None
            pieces = tiled(blocks, span)
            if pieces is None or not known.alive or not all(beside(block, known) for block in blocks):
                return True, None
            if span == (lo, hi) or sum(j - i for _, i, j in pieces) >= need:
                used = (*blocks, void) if void is not None else tuple(blocks)
                return False, Picked(chosen(pieces, need, backwards), known, self._edge(kind, used),
                                     self.follower.clock(), used)  # fmt: skip
        return False, None

    def _edge(self, kind: Series, used: Sequence[Block]) -> int:
        """Bars before this are closed."""
        assert self.follower.look is not None
        edges = [part.edge for part in used if not part.closed]
        return min(edges, default=closed_before(kind.interval, self.follower.look))

    @retried
    async def _direct(self, kind: Series, lo: int, hi: int, need: int, backwards: bool) -> Found:
        """At most `need` bars out of one snapshot."""
        span = first_window(kind.interval, lo, hi, need, backwards)
        left = after_window(span, (lo, hi), backwards)
        asked = time.monotonic()
        async with self.database.snapshot() as snapshot:
            [news], coverage, rows = await snapshot.fetch_all(
                (Q["look"], {"seen": Int8(self.follower.rev)}),
                (Q["coverage"], {"symbol": kind.symbol}),
                bars_query(kind.interval, kind.symbol, span, need, backwards, NULL),
                last=left is None,
            )
            if not coverage:
                raise unknown_symbol(kind.symbol)
            if left is not None and len(rows) < need:
                rows += await rest(snapshot, kind.interval, kind.symbol, left, need - len(rows), backwards, NULL)
        seen = look(news)
        self.follower.hear(seen, asked)
        self._note_void(kind, (lo, hi), rows, backwards and len(rows) >= need, seen)
        return Found(rows, seen, summary(kind.symbol, coverage[0], seen))

    def _note_void(self, kind: Series, span: Window, found: list[Row], more: bool, seen: Look) -> None:
        """Remember where the series has no bars below the first found, so that nobody looks there again."""
        if more:
            return
        first = min(found[0][0], found[-1][0]) if found else span[1]
        hi = min(first, closed_before(kind.interval, seen))
        current = self.follower.look
        if current is not None and (current.epoch, current.rev) == (seen.epoch, seen.rev) and span[0] < hi:
            self.cover.store.put_void(block(kind, span[0], hi, [], hi))

    @retried
    async def _read(self, query: BarsQuery) -> Answer:
        """The answer for one symbol."""
        query = await self.bounded(query)
        assert query.hi is not None
        assert query.limit is not None
        kind = series(query.symbol, query.interval, query.style)
        if query.fill == "none":
            return answer(query, await self.pick(kind, query.lo, query.hi, query.limit + 1, query.backwards))
        for _ in range(TRIES):
            picked = await self._filled(query, lambda *span: self.pick(kind, *span))
            if picked is not None:
                return answer(query, picked)
        async with self.database.snapshot() as snapshot:
            picked = await self._filled(query, await self._moment(snapshot, kind))
        assert picked is not None
        return answer(query, picked)

    async def _filled(self, query: BarsQuery, pick: Pick) -> Picked | None:
        """One bar more than asked for, every bucket having one; None where a revision came between."""
        assert query.hi is not None
        assert query.limit is not None
        lo, hi = window(query.interval, query.lo, query.hi, query.limit + 1, query.backwards)
        seen: list[Picked] = []
        close = None
        # Without a start, and without a close before it, the first bar there is begins the grid.
        if query.fill == "previous" or query.lo <= FIRST:
            seen.append(await pick(FIRST, lo, 1, True))
            close = close_of(seen[-1])
            if close is None:
                seen.append(await pick(lo, query.hi, 1, False))
                lo = seen[-1].first if len(seen[-1]) else query.hi
                if not query.backwards:
                    hi = min(query.hi, query.interval.after(lo, query.limit + 1))
        seen.append(await pick(lo, max(lo, hi), query.limit + 1, query.backwards))
        if len({(picked.known.epoch, picked.known.rev) for picked in seen}) > 1:
            return None
        used = None if any(picked.used is None for picked in seen) else tuple(p for q in seen for p in q.used or ())
        return replace(filled(query, seen[-1], lo, max(lo, hi), close), used=used)

    async def _moment(self, snapshot: Snapshot, kind: Series) -> Pick:
        """How to pick bars out of one snapshot."""
        [news], coverage = await snapshot.fetch_all(
            (Q["look"], {"seen": Int8(self.follower.rev)}), (Q["coverage"], {"symbol": kind.symbol})
        )
        if not coverage:
            raise unknown_symbol(kind.symbol)
        seen = look(news)
        known = summary(kind.symbol, coverage[0], seen)

        async def pick(lo: int, hi: int, need: int, backwards: bool) -> Picked:
            rows = await rest(snapshot, kind.interval, kind.symbol, (lo, hi), need, backwards, NULL)
            return _picked(kind, lo, hi, Found(rows, seen, known), backwards)

        return pick


def _picked(kind: Series, lo: int, hi: int, found: Found, backwards: bool) -> Picked:
    """What one snapshot has found, as a block of its own."""
    edge = closed_before(kind.interval, found.look)
    part = block(kind, lo, hi, found.rows[::-1] if backwards else found.rows, edge)
    return Picked([(part, 0, len(part))] if found.rows else [], found.known, edge, found.look.clock, None)
