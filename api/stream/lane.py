"""The series of one interval that somebody follows, read together, each round from one snapshot."""

import asyncio
import time
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

import structlog
from psycopg import errors
from psycopg import sql as psql
from psycopg.types.numeric import Int8

from barwright import sql
from barwright.api.cover import AHEAD, closed_before
from barwright.api.database import Look, Row, Snapshot, look
from barwright.api.database import Q as READING
from barwright.api.encode import COLUMNS, NULL
from barwright.api.errors import ApiError, unavailable, unknown_symbol
from barwright.api.intervals import LEVELS, Interval, moment
from barwright.api.span import Query, derived_many_query, rest
from barwright.api.stream.carry import Carry, Held
from barwright.api.stream.state import Bar, State, following

if TYPE_CHECKING:
    from barwright.api.stream.hub import Hub

Q = sql.queries("stream")
AT_ONCE = 1000  # series read in one round
REST = 0.005  # seconds between two rounds at least; more where a round takes longer, so that it works half the time
PATIENCE = 10.0  # seconds somebody who comes waits for a first state
MOST = 2000  # buckets that a query of a derived interval names
MOST_BARS = 10_000  # open bars of a series
RETRY = 0.25  # seconds until the database is asked again after it was away
TAILS_SQL = {
    name: psql.SQL(Q["tails"]).format(columns=COLUMNS, view=psql.Identifier(f"ohlcv_{name}")) for name in LEVELS
}
log = structlog.get_logger()


class Series:
    """A symbol in a lane, and those who follow it."""

    def __init__(self, lane: "Lane", symbol: str) -> None:
        self.lane = lane
        self.symbol = symbol
        self.followers = 0
        self.state: State | None = None
        self.held: Held | None = None  # see Carry
        self.error: ApiError | None = None  # it is gone, or the first read of it failed
        self.moved = asyncio.Event()

    async def since(self, asked: float) -> State:
        """A state whose snapshot was taken after the monotonic time `asked`. ApiError 404, 503."""
        try:
            async with asyncio.timeout(PATIENCE):
                while self.state is None or self.state.asked < asked:
                    moved = self.moved
                    self.lane.look_at([self.symbol])
                    await moved.wait()
                    if self.error is not None:
                        raise self.error
        except TimeoutError:
            raise unavailable("The database does not answer.") from None
        return self.state

    def publish(self, state: State) -> None:
        """A newer state."""
        old, self.state, self.error = self.state, state, None
        self._move()
        if old is not None and old.newer is not state.newer:
            old.newer.set()

    def fail(self, error: ApiError) -> None:
        """There is no such symbol (any more), or it cannot be read for now."""
        self.error = error
        self._move()
        if self.state is not None:
            self.state.newer.set()

    def _move(self) -> None:
        self.moved, moved = asyncio.Event(), self.moved
        moved.set()


class Lane:
    """One interval: a task that reads the series about which there may be something new."""

    def __init__(self, hub: "Hub", interval: Interval) -> None:
        self.hub = hub
        self.interval = interval
        self.series: dict[str, Series] = {}
        self.dirty: dict[str, None] = {}  # in order of asking
        self.edge: int | None = None
        self.carry = Carry() if interval.name == "1m" and not interval.derived else None
        self.wake = asyncio.Event()
        self.task = asyncio.create_task(self.run(), name=f"lane {interval.key}")

    def look_at(self, symbols: Iterable[str] | None) -> None:
        """There may be something new of these symbols; of all with None."""
        chosen = self.series if symbols is None else [symbol for symbol in symbols if symbol in self.series]
        if chosen:
            self.dirty.update(dict.fromkeys(chosen))
            self.wake.set()

    def looked(self, news: Look) -> None:
        """The follower knows more: bars may have closed."""
        edge = closed_before(self.interval, news)
        if edge != self.edge:
            self.edge = edge
            self.look_at(None)

    async def run(self) -> None:
        """Read, rest, and again."""
        while True:
            await self.wake.wait()
            begun = time.monotonic()
            symbols = list(islice(self.dirty, AT_ONCE))
            for symbol in symbols:
                del self.dirty[symbol]
            try:
                async with self.hub.reading:
                    begun = time.monotonic()
                    await self._read(symbols)
            except ApiError as error:
                self._failed(symbols, error)
                await asyncio.sleep(RETRY)
            except Exception as error:
                log.exception("reading failed", interval=self.interval.key)
                self._failed(symbols, ApiError(500, "internal_error", "Something went wrong on our side.", str(error)))
                await asyncio.sleep(RETRY)
            if not self.dirty:
                self.wake.clear()
            await asyncio.sleep(max(REST, time.monotonic() - begun))

    def _failed(self, symbols: list[str], error: ApiError) -> None:
        """Who already follows a series goes on when it can be read again; who has just come is told."""
        for series in self._present(symbols):
            if series.state is None:
                series.fail(error)
        self.look_at(symbols)

    async def _read(self, symbols: list[str]) -> None:
        """A new state for each, from one snapshot; as far as possible from what is carried."""
        if self.hub.follower.look is None:
            await self.hub.follower.ask()
        if self.carry and await self.carry.ready(self.hub.database):
            try:
                await self._look(symbols, self.carry)
            except errors.InvalidColumnReference:  # of compressed ticks
                self.carry.pause()
            else:
                return
        await self._look(symbols, None)

    async def _look(self, symbols: list[str], carry: Carry | None) -> None:
        follower = self.hub.follower
        assert follower.look is not None
        present = self._present(symbols)
        lo = min((one.state.edge for one in present if one.state), default=closed_before(self.interval, follower.look))
        lo = min(lo, closed_before(self.interval, follower.look))
        asked = time.monotonic()
        query = None if carry else self._query(symbols, lo)
        queries = carry.queries(present, lo) if carry else [query] if query else []
        async with self.hub.database.snapshot() as snapshot:
            [news], known, *rows = await snapshot.fetch_all(
                (READING["look"], {"seen": Int8(follower.rev)}),
                (READING["known"], {"symbols": symbols}),
                *queries,
                last=query is not None,
            )
            if carry:
                found, others = carry.take(present, lo, *rows)
                if others:
                    [more] = await snapshot.fetch_all(self._tails(others, lo), last=True)
                    found += more
            else:
                found = rows[0] if query else await self._stalled(snapshot, known, lo)
        seen = look(news)
        self.hub.follower.hear(seen, asked)
        bars: dict[str, list[Bar]] = {symbol: [] for (symbol,) in known}
        for row in found:
            if row[0] in bars:
                bars[row[0]].append(Bar(row[1:]))
        for series in self._present(symbols):
            self._publish(series, bars.get(series.symbol), seen, lo, asked)

    def _query(self, symbols: list[str], lo: int) -> Query | None:
        """The bars from a time on; None where a query that names every bucket would be too long."""
        if not self.interval.derived:
            return self._tails(symbols, lo)
        end = self._end()
        return derived_many_query(self.interval, symbols, (lo, end)) if end <= self.interval.after(lo, MOST) else None

    def _tails(self, symbols: list[str], lo: int) -> Query:
        return TAILS_SQL[self.interval.name], {"symbols": symbols, "lo": moment(lo), "null": NULL}

    async def _stalled(self, snapshot: Snapshot, symbols: list[Row], lo: int) -> list[Row]:
        """The same while the watermark is far behind: where there are days that have bars."""
        span, found = (lo, self._end()), list[Row]()
        for (symbol,) in symbols:
            rows = await rest(snapshot, self.interval, symbol, span, MOST_BARS, False, "null")
            found += [(symbol, *row) for row in rows]
        return found

    def _end(self) -> int:
        """Up to where bars can be, a little more."""
        return self.interval.after(int(self.hub.follower.clock()) + AHEAD)

    def _publish(self, series: Series, bars: list[Bar] | None, seen: Look, lo: int, asked: float) -> None:
        if bars is None:
            series.fail(unknown_symbol(series.symbol))
            return
        old, edge = series.state, closed_before(self.interval, seen)
        if edge < lo:  # the watermark went back: what lies below `lo` was not read
            self.look_at([series.symbol])
            return
        new = State(seen.epoch, seen.rev, edge, lo, tuple(bars), asked)
        changes = self.hub.log.between(series.symbol, old.rev, seen.rev) if old else None
        touched = changes is None or any(self.interval.floor(start) < edge for _, start, _ in changes)
        series.publish(following(old, new, touched))

    def _present(self, symbols: Iterable[str]) -> list[Series]:
        return [series for symbol in symbols if (series := self.series.get(symbol)) is not None]
