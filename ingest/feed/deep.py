"""History as far back as a source has it: what its coarser rows say where its finer ones are silent.

A minute without a row, or with a row of zeros, may be a time before the listing, a time without trades, or a time that
the source no longer has by the minute. Its hours tell them apart, and its days tell that of its hours.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, NamedTuple, Protocol

from barwright.ingest.feed.rows import COARSER, SECONDS, Row
from barwright.ingest.feed.source import History, Market, MarketError, UnavailableError

# Buckets of one look at coarser rows: 42 days of hours, 2.7 years of days, one call each and good for many spans.
BLOCK: Final = 1_000
# Seconds such a look, and what was learned from it, stays good.
FRESH: Final = 600.0
# How much less finer rows may add up to than a coarser one: vendors round.
ROUNDING: Final = Decimal("0.000001")
LAG: Final = 300  # seconds the end of a vendor's rows may lie behind its clock


@dataclass(frozen=True)
class Fetched:
    """Rows of [start, end), `end` at most what was asked and closed. `open`: the row after them, that may still grow.

    `now`: the vendor's clock. `refusal`: why it gave nothing of what lies before the first row, if it said so. `holes`:
    where rows are missing after the first.
    """

    rows: list[Row]
    end: int
    now: float
    open: Row | None = None
    refusal: str = ""
    holes: Sequence[tuple[int, int]] = ()


class Vendor(Protocol):
    """A source's own calls; times are seconds since 1970, on whole buckets."""

    async def fetch(self, market: str, interval: str, start: int, end: int) -> Fetched:
        """Its rows, newest first as far back as it has them. Raises SourceError."""

    async def probe(self, market: str, interval: str) -> None:
        """Ask for the newest row. Raises MarketError where the market is unknown, UnavailableError."""


class _Sign(NamedTuple):
    """A coarser bucket [start, end) in which something was traded."""

    start: int
    end: int
    row: Row


@dataclass(frozen=True)
class _Block:
    """One look at coarser rows: the bars from `certain` on, before which the rows are silent; good up to `until`."""

    bars: list[Row]
    certain: int
    until: int
    seen: float


class Deep:
    """Histories of a vendor; remembers what its coarser rows said."""

    def __init__(self, vendor: Vendor) -> None:
        self._vendor = vendor
        self._blocks: dict[tuple[str, str, int], _Block] = {}
        self._locks: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._reached: dict[tuple[str, str], tuple[int, float]] = {}

    async def history(self, market: Market, interval: str, start: datetime, end: datetime) -> History:
        """See Source.history."""
        first, last = int(start.timestamp()), int(end.timestamp())
        found = await self._vendor.fetch(market.name, interval, first, last)
        if found.end <= first:
            if found.now - first > SECONDS[interval] + LAG:
                raise UnavailableError(f"{market.name}: the rows end before {start:%Y-%m-%d %H:%M}.")
            return History([], start, start)
        if found.refusal and not found.rows and interval not in COARSER:
            await self._vendor.probe(market.name, interval)
        certain = _certain(found, first, interval)
        begin = first
        if certain > first:
            begin = await self._begin(market.name, interval, first, certain)
        await self._demand_silence(market.name, interval, found, first)
        bars = [row.bar(market.symbol, interval) for row in found.rows if row.is_bar]
        return History(bars, datetime.fromtimestamp(begin, UTC), datetime.fromtimestamp(found.end, UTC))

    async def _demand_silence(self, market: str, interval: str, found: Fetched, first: int) -> None:
        """Where rows are missing nothing was traded, or what came is no answer: its coarser rows tell by their volume.
        Raises UnavailableError."""
        signs: set[_Sign] = set()
        for lo, hi in found.holes:
            if interval not in COARSER:
                raise UnavailableError(f"{market}: rows are missing between {lo} and {hi}.")
            signs.update(await self._signs(market, interval, lo, hi))
        for sign in sorted(signs):
            inside = first <= sign.start and sign.end <= found.end
            if not _tells(found.rows if inside else await self._rows(market, interval, sign), sign):
                raise UnavailableError(f"{market}: rows are missing between {sign.start} and {sign.end}.")

    async def _begin(self, market: str, interval: str, start: int, certain: int) -> int:
        """From where [start, certain), of which there is no bar, is proved empty: the end of the last trading that the
        rows of this interval leave out."""
        signs = await self._signs(market, interval, start, certain)
        while signs:
            sign = signs.pop()
            if start <= sign.start and sign.end <= certain:
                reach = sign.end
            elif _tells_from_its_first(await self._rows(market, interval, sign), sign):
                continue
            else:
                reach = min(certain, sign.end)
            await self._confirm(market, interval, start, reach)
            return reach
        return start

    async def _signs(self, market: str, interval: str, start: int, end: int) -> list[_Sign]:
        """Signs of trading in [start, end) in the rows coarser than an interval, oldest first."""
        coarser = COARSER.get(interval)
        if coarser is None:
            return []
        step, size = SECONDS[coarser], SECONDS[coarser] * BLOCK
        signs: list[_Sign] = []
        for number in range(start // size, (end - 1) // size + 1):
            block = await self._block(market, coarser, number, end)
            silent = max(start, number * size), min(end, block.certain)
            if silent[0] < silent[1]:
                signs += await self._signs(market, coarser, *silent)
            signs += [_Sign(row.time, row.time + step, row) for row in block.bars if start - step < row.time < end]
        return sorted(set(signs))

    async def _block(self, market: str, interval: str, number: int, end: int) -> _Block:
        """The look at a block, the last one if that is fresh and went as far as `end`."""
        size = BLOCK * SECONDS[interval]
        start, key = number * size, (market, interval, number)
        async with self._locks[key[:2]]:
            known = self._blocks.get(key)
            if known is None or time.monotonic() - known.seen > FRESH or known.until < min(end, start + size):
                self._forget()
                known = self._blocks[key] = await self._look(market, interval, start, start + size)
            if known.until < min(end, start + size):
                raise UnavailableError(f"{market}: the rows of {interval} end at {known.until}.")
        return known

    async def _look(self, market: str, interval: str, start: int, end: int) -> _Block:
        found = await self._vendor.fetch(market, interval, start, end)
        if found.refusal and not found.rows and interval not in COARSER:
            # Nothing at all of this time: an unknown market, or only too long ago, which it says twice.
            await self._vendor.probe(market, interval)
            found = await self._vendor.fetch(market, interval, start, end)
        rows = found.rows + [row for row in (found.open,) if row is not None and row.time < end]
        until = max(found.end, int(found.now)) if not rows else found.end
        if found.open is not None and found.open.time == found.end:
            # The open bucket speaks for what has passed of it.
            until = max(until, int(min(found.open.time + SECONDS[interval], found.now)))
        return _Block([row for row in rows if row.is_bar], _certain(found, start, interval), until, time.monotonic())

    async def _rows(self, market: str, interval: str, sign: _Sign) -> list[Row]:
        """This interval's rows, asked now, of a bucket that reaches out of the span."""
        found = await self._vendor.fetch(market, interval, sign.start, sign.end)
        return found.rows + ([found.open] if found.open is not None else [])

    async def _confirm(self, market: str, interval: str, start: int, reach: int) -> None:
        """Ask again before a whole past is given up by the minute: an outage can look the same. Raises
        UnavailableError."""
        known, seen = self._reached.get((market, interval), (0, 0.0))
        if reach <= known and time.monotonic() - seen < FRESH:
            return
        try:
            await self._vendor.probe(market, interval)
        except MarketError as error:
            # Its coarser rows know the market, so this is an outage of the finer ones.
            raise UnavailableError(error.message) from error
        again = await self._vendor.fetch(market, interval, max(start, reach - BLOCK * SECONDS[interval]), reach)
        if any(row.is_bar for row in again.rows):
            raise UnavailableError(f"{market}: two answers for the same time differ.")
        self._reached[market, interval] = (reach, time.monotonic())

    def _forget(self) -> None:
        """Drop looks that are no longer fresh."""
        now = time.monotonic()
        for key in [key for key, block in self._blocks.items() if now - block.seen > FRESH]:
            del self._blocks[key]


def _certain(found: Fetched, start: int, interval: str) -> int:
    """From where the rows speak for themselves: `start`, or the first bar where what is before it is silent.

    Filler rows with a price are believed for less than a coarser bucket: a quiet time, that needs no second look.
    """
    bar = next((row.time for row in found.rows if row.is_bar), found.end)
    coarser = COARSER.get(interval)
    if _is_covered(found.rows, start) and (coarser is None or bar - start < SECONDS[coarser]):
        return start
    return bar


def _tells(rows: Sequence[Row], sign: _Sign, rounding: Decimal = ROUNDING) -> bool:
    """Whether rows hold all the trading of a coarser bucket."""
    bars = _inside(rows, sign)
    volume = sum((Decimal(row.volume) for row in bars), Decimal(0))
    return bool(bars) and volume >= Decimal(sign.row.volume) * (1 - rounding)


def _tells_from_its_first(rows: Sequence[Row], sign: _Sign) -> bool:
    """The same where rows may begin at a horizon: before it may lie less than the rounding (a trade of 0.0000012 in an
    hour of 1.3 did), but then the coarser bucket opens with another price."""
    bars = _inside(rows, sign)
    begins = bool(bars) and Decimal(bars[0].open) == Decimal(sign.row.open)
    return _tells(rows, sign, ROUNDING if begins else Decimal(0))


def _inside(rows: Sequence[Row], sign: _Sign) -> list[Row]:
    return [row for row in rows if row.is_bar and sign.start <= row.time < sign.end]


def _is_covered(rows: Sequence[Row], start: int) -> bool:
    return bool(rows) and rows[0].time <= start and rows[0].is_known
