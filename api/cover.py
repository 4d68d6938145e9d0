"""Covers a span of one series with blocks: from memory, else Redis, else one snapshot of the database.

Whoever asks for a block that is being fetched waits for that fetch (single flight). A fetch is a task of its own, so a
client that goes away cancels nobody else's.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from psycopg.types.numeric import Int8
from psycopg.types.range import TimestamptzRange

from barwright.api.blocks import Block, Series, SpoiledError, dump, extended, parse, split
from barwright.api.calendars import PAGE
from barwright.api.database import Database, Look, Q, Row, Snapshot, look, retried
from barwright.api.encode import NULL
from barwright.api.errors import unknown_symbol
from barwright.api.follower import Follower
from barwright.api.intervals import LAST, Interval, moment
from barwright.api.metrics import HITS, MISSES
from barwright.api.shared import Shared
from barwright.api.span import Query, Window, bars_query
from barwright.api.store import Store

TAIL = None  # in place of a page's number: what follows the last whole page, up to now
OPEN_FOR = 0.05  # seconds an open bar is served from memory
AHEAD = 3600  # seconds that a derived interval's bars are looked for after now: its query names every bucket
Wanted = tuple[Series, int | None]


class Cover:
    """The blocks of one process."""

    def __init__(self, database: Database, follower: Follower, store: Store, shared: Shared) -> None:
        self.database = database
        self.follower = follower
        self.store = store
        self.shared = shared
        self.flights: dict[Wanted, asyncio.Task[list[Block]]] = {}
        self.open: OrderedDict[Series, tuple[Block, float]] = OrderedDict()  # the one that ends first comes first

    @property
    def keeps(self) -> bool:
        """Whether anything is kept anywhere; reading whole pages would be in vain otherwise."""
        return self.store.capacity > 0 or self.shared.breaker.closed

    async def blocks(self, series: Series, lo: int, hi: int, since: float = 0.0) -> list[Block] | None:
        """Blocks that hold all bars of [lo, hi) between them, none that is open out of memory if it was asked for
        before the monotonic time `since`; None where too much of it is not rolled up. ApiError 404, 503."""
        assert self.follower.look is not None
        interval = series.interval
        edge = interval.page_span(interval.page(closed_before(interval, self.follower.look)))[0]
        if hi > edge and interval.derived:
            end = self._tail_end(interval)  # up to there the tail is read, whatever is asked of it
            if hi > end or end > interval.after(edge, 4 * PAGE):
                return None
        have: list[Block] = []
        wanted: list[int | None] = []
        for number in range(interval.page(lo), interval.page(min(hi, edge) - 1) + 1):
            start, end = interval.page_span(number)
            block = self.store.get(series, start)
            if block is not None and block.hi == end:
                have.append(block)
            else:
                wanted.append(number)
        if hi > edge:
            tail, complete = self._tail(series, edge, hi, since)
            have += tail
            wanted += [] if complete else [TAIL]
        HITS["memory"].inc(len(have))
        MISSES["memory"].inc(len(wanted))
        for flight in self._flights(series, wanted, edge):
            have += await asyncio.shield(flight)
        return have

    def _tail_end(self, interval: Interval) -> int:
        """Up to where the tail is looked for."""
        return interval.after(int(self.follower.clock()) + AHEAD) if interval.derived else LAST

    def _tail(self, series: Series, edge: int, hi: int, since: float) -> tuple[list[Block], bool]:
        """What memory holds of the bars after the last whole page, and whether that reaches up to `hi`."""
        part = self.store.get(series, edge)
        end = part.hi if part else edge
        have = [part] if part else []
        if end >= hi:
            return have, True
        block, until = self.open.get(series, (None, 0.0))
        if block is not None and block.lo == end and block.asked >= since and time.monotonic() < until:
            return [*have, block], True
        return have, False

    def _flights(self, series: Series, wanted: Sequence[int | None], edge: int) -> Iterable[asyncio.Task[list[Block]]]:
        """The tasks that bring what is wanted, old and new."""
        missing = [item for item in wanted if (series, item) not in self.flights]
        flights = {self.flights[series, item] for item in wanted if item not in missing}
        if missing:
            part = self.store.get(series, edge)
            flight = asyncio.create_task(self._fetch(series, missing, part.hi if part else edge))
            for item in missing:
                self.flights[series, item] = flight
            flight.add_done_callback(lambda done: self._landed(series, missing, done))
            flights.add(flight)
        return flights

    def _landed(self, series: Series, items: list[int | None], flight: asyncio.Task[list[Block]]) -> None:
        for item in items:
            del self.flights[series, item]
        if not flight.cancelled():
            flight.exception()  # seen, also when everybody who waited has gone

    @retried
    async def _fetch(self, series: Series, items: list[int | None], tail: int) -> list[Block]:
        """Pages, and the tail from `tail` on where it is among the items, from one snapshot."""
        interval = series.interval
        pages = {number: interval.page_span(number) for number in items if number is not None}
        spans = [_range((lo, hi + interval.calendar.overhang)) for lo, hi in pages.values()]
        asked = time.monotonic()
        async with self.database.snapshot() as snapshot:
            first: list[Query] = [
                (Q["look"], {"seen": Int8(self.follower.rev)}),
                (Q["page_state"], {"symbol": series.symbol, "spans": spans}),
            ]
            if TAIL in items:
                first.append(_query(series, (tail, self._tail_end(interval))))
            if not (ask := bool(pages) and self.shared.breaker.closed) and pages:
                first.append(_query(series, _hull(pages.values())))
            [news], [(known, revs, late)], *rows = await snapshot.fetch_all(*first, last=not ask)
            if not known:
                raise unknown_symbol(series.symbol)
            seen = look(news)
            keys = {n: key(seen.epoch, series, n, rev) for n, rev in zip(pages, revs or (), strict=True)}
            found = await self._shared(series, pages, keys) if ask else {}
            missing = {number: span for number, span in pages.items() if number not in found}
            if ask and missing:
                rows.append(await self._page_rows(snapshot, series, missing))
        self.follower.hear(seen, asked)
        watermark = closed_before(interval, seen)
        blocks = list(found.values())
        if missing:
            made = split(series, *_hull(missing.values()), rows.pop(), watermark)
            clean = {span[0]: keys[n] for (n, span), dirty in zip(pages.items(), late or (), strict=True) if not dirty}
            self._share(made, clean, missing.values())
            blocks += made
        if TAIL in items:
            blocks += split(series, tail, LAST, rows.pop(), watermark)
        for block in blocks:
            block.asked = asked
        return self._keep(blocks, seen)

    async def _page_rows(self, snapshot: Snapshot, series: Series, missing: dict[int, Window]) -> list[Row]:
        [found] = await snapshot.fetch_all(_query(series, _hull(missing.values())), last=True)
        return found

    async def _shared(self, series: Series, pages: dict[int, Window], keys: dict[int, str]) -> dict[int, Block]:
        """The pages that Redis has, whole and under the right key."""
        found = {}
        for number, value in zip(pages, await self.shared.get(list(keys.values())), strict=True):
            if value is not None:
                try:
                    found[number] = parse(keys[number], series, pages[number], value)
                except SpoiledError:
                    continue
        HITS["redis"].inc(len(found))
        MISSES["redis"].inc(len(keys) - len(found))
        return found

    def _share(self, made: Iterable[Block], keys: dict[int, str], missing: Iterable[Window]) -> None:
        """Give whole pages that no late row touches to Redis."""
        spans = set(missing)
        self.shared.keep({
            keys[block.lo]: dump(keys[block.lo], block)
            for block in made
            if block.closed and block.lo in keys and (block.lo, block.hi) in spans
        })  # fmt: skip

    def _keep(self, blocks: list[Block], seen: Look) -> list[Block]:
        """Put blocks in memory, unless a revision has overtaken their snapshot; returns them as they are kept."""
        current = self.follower.look
        if current is None or (current.epoch, current.rev) != (seen.epoch, seen.rev):
            for block in blocks:
                block.alive = False
            return blocks
        return [self._keep_closed(block) if block.closed else self._keep_open(block) for block in blocks]

    def _keep_closed(self, block: Block) -> Block:
        """Keep a block that begins a page; one that begins inside makes the page's stored part longer."""
        interval = block.series.interval
        start = interval.page_span(interval.page(block.lo))[0]
        if start < block.lo:
            part = self.store.get(block.series, start)
            if part is None or part.hi != block.lo:
                return block
            block = extended(part, block)
        self.store.put(block)
        return block

    def _keep_open(self, block: Block) -> Block:
        if block.hi == LAST:
            now = time.monotonic()
            while self.open and next(iter(self.open.values()))[1] < now:
                self.open.popitem(last=False)
            self.open[block.series] = block, now + OPEN_FOR
            self.open.move_to_end(block.series)
        return block


def closed_before(interval: Interval, news: Look) -> int:
    """Buckets that begin before this are closed: their end lies at or below the watermark of their level."""
    return interval.closed_before(news.watermarks[interval.closed_by])


def key(epoch: str, series: Series, number: int, rev: int) -> str:
    """The name of a page in Redis; a change of its bars changes the name."""
    return f"ohlcv:{epoch}:{series.symbol}:{series.name}:{number}:{rev}"


def _query(series: Series, span: Window) -> Query:
    return bars_query(series.interval, series.symbol, span, None, False, NULL)


def _hull(spans: Iterable[Window]) -> Window:
    """From the first to the last of some spans."""
    spans = list(spans)
    return min(lo for lo, _ in spans), max(hi for _, hi in spans)


def _range(span: Window) -> TimestamptzRange:
    return TimestamptzRange(moment(span[0]), moment(span[1]))
