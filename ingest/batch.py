"""What one transaction will write: records decoded, checked and turned into COPY text, and what goes along."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from barwright.ingest.decode import Bad, Decoder, Item, native, raw_of, split
from barwright.ingest.ticks import (
    ITEMS,
    MINUTE,
    PLAIN_TRADE,
    SIDES,
    Bar,
    RefusedError,
    Rule,
    Trade,
    Window,
    bar_row,
    stamp,
    trade_row,
)

# Late minutes of a symbol less than this many apart are one late range: a repair of a few quiet minutes costs less
# than another range, but one very late tick must not dirty the days between.
GAP = 15
_Record = tuple[int, bytes | None]


@dataclass(eq=False)
class Claim:
    """This process's hold on a partition from one assignment to its end.

    `generation` fences it in the database; `next` is the offset to be read next; `lost` says that what is still in hand
    must be dropped. `slow_until` is the monotonic time up to which its batches take the slow path.
    """

    topic: str
    partition: int
    topic_id: UUID
    generation: int
    next: int
    decoder: Decoder = native
    lost: bool = False
    landed: int = 0
    slow_until: float = 0.0


@dataclass(frozen=True)
class Chunk:
    """Consecutive records (offset, value) of one claim: `begin` is where the one before ended."""

    claim: Claim
    begin: int
    records: Sequence[_Record]

    @property
    def end(self) -> int:
        """The offset after the last record."""
        return self.records[-1][0] + 1


@dataclass(frozen=True)
class Letter:
    """An item that became no row."""

    claim: Claim
    offset: int
    item: int
    reason: str
    raw: bytes


@dataclass
class _Seen:
    """What a batch holds of a symbol: the rule that numbers its trades and the minutes it touches."""

    rule: Rule | None
    minutes: set[int] = field(default_factory=set)


@dataclass
class Span:
    """How far a batch carries one claim: positions from `begin` to `end`, and the rows found between."""

    begin: int
    end: int
    rows: int = 0


class Batch:
    """Rows, dead letters and positions that are committed together.

    `rules` are the known symbols and the rules that number them; `registered` collects what is new in this batch.
    """

    def __init__(self, rules: Mapping[str, Rule | None], window: Window) -> None:
        self.rules = rules
        self.window = window
        self.chunks: list[Chunk] = []
        self.spans: dict[Claim, Span] = {}
        self.trades: list[str] = []
        self.bars: list[str] = []
        self.letters: list[Letter] = []
        self.registered: dict[str, Rule | None] = {}
        self.symbols: dict[str, _Seen] = {}
        self._minutes: dict[str, int] = {}
        # In this minute and later ones the window's end must be looked at closely.
        self._first_minute = -(-window.oldest // MINUTE)
        self._last_minute = (window.newest + 1) // MINUTE

    @property
    def rows(self) -> int:
        """Rows so far."""
        return len(self.trades) + len(self.bars)

    @property
    def size(self) -> int:
        """Rows and dead letters so far."""
        return self.rows + len(self.letters)

    def add(self, chunk: Chunk, most: int) -> Chunk | None:
        """Take records until the batch's size is `most`; returns what is left of the chunk."""
        before = self.rows
        taken = self._decode(chunk, most)
        rest = chunk.records[taken:]
        self.chunks.append(chunk if not rest else Chunk(chunk.claim, chunk.begin, chunk.records[:taken]))
        end = self.chunks[-1].end
        span = self.spans.setdefault(chunk.claim, Span(chunk.begin, end))
        span.end = end
        span.rows += self.rows - before
        return Chunk(chunk.claim, end, rest) if rest else None

    def _decode(self, chunk: Chunk, most: int) -> int:
        """Turn records into rows; returns how many records that were."""
        claim, trades, bars, letters = chunk.claim, self.trades, self.bars, self.letters
        for n, (offset, value) in enumerate(chunk.records, 1):
            items = claim.decoder(value or b"")
            if len(items) == 1 and type(items[0]) is Trade:
                self._trade(claim, offset, 0, items[0], value or b"", 1)
            else:
                self._items(claim, offset, items, value or b"")
            if len(trades) + len(bars) + len(letters) >= most:
                return n
        return len(chunk.records)

    def _items(self, claim: Claim, offset: int, items: Sequence[Item], value: bytes) -> None:
        for place, item in enumerate(items):
            if type(item) is Trade:
                self._trade(claim, offset, place, item, value, len(items))
            elif isinstance(item, Bad):
                self.letters.append(Letter(claim, offset, place, item.reason, item.raw))
            elif isinstance(item, Bar):
                self._bar(claim, offset, place, item, value, len(items))

    def letters_of(self, row: str, reason: str) -> Iterator[Letter]:
        """Letters of the items that became this row, found by decoding again: so rare that nothing is kept for it."""
        for chunk in self.chunks:
            for offset, value in chunk.records:
                for place, raw in enumerate(split(value or b"")):
                    alone = Batch({symbol: seen.rule for symbol, seen in self.symbols.items()}, self.window)
                    alone._items(chunk.claim, offset, chunk.claim.decoder(raw), raw)
                    if row in alone.trades or row in alone.bars:
                        yield Letter(chunk.claim, offset, place, reason, raw)

    def _trade(self, claim: Claim, offset: int, place: int, trade: Trade, value: bytes, items: int) -> None:
        """Add a trade that is written the usual way; `_second_look` has every other."""
        rule: Rule = "seq"
        seq: int | str | None = trade.seq
        if seq is None:
            seq, rule = trade.id, "id"
            if seq is None or (type(seq) is str and not seq.isdigit()):
                seq, rule = offset * ITEMS + place, "offset"
        ts = trade.ts if isinstance(trade.ts, str) else _stamp_ms(trade.ts)
        row = f"{ts}\t{trade.symbol}\t{seq}\t{trade.price}\t{trade.size}\t{SIDES.get(trade.side)}\n"
        minute = self._minute(ts[:16])
        seen = self.symbols.get(trade.symbol) or self._seen(trade.symbol)
        if (
            (seen.rule == rule or seen.rule is None)
            and self._first_minute <= minute < self._last_minute
            and place < ITEMS
            and PLAIN_TRADE(row)
        ):
            if seen.rule is None:
                seen.rule = self.registered[trade.symbol] = rule
            self.trades.append(row)
            seen.minutes.add(minute)
        else:
            self._second_look(claim, offset, place, trade, value, items)

    def _second_look(self, claim: Claim, offset: int, place: int, trade: Trade, value: bytes, items: int) -> None:
        """Add a trade after looking at each part of it, or refuse it."""
        try:
            if place >= ITEMS:
                raise RefusedError(f"more than {ITEMS:,} items in one record")
            row, time, rule = trade_row(trade, offset * ITEMS + place, self.window)
            seen = self._seen(trade.symbol)
            if seen.rule not in (None, rule):
                raise RefusedError(f"numbered by {rule}, but the trades of this symbol are numbered by {seen.rule}")
        except RefusedError as refused:
            self.letters.append(Letter(claim, offset, place, refused.message, raw_of(value, place, items)))
            return
        if seen.rule is None:
            seen.rule = self.registered[trade.symbol] = rule
        self.trades.append(row)
        seen.minutes.add(time // MINUTE)

    def _bar(self, claim: Claim, offset: int, place: int, bar: Bar, value: bytes, items: int) -> None:
        try:
            row, time = bar_row(bar, self.window)
        except RefusedError as refused:
            self.letters.append(Letter(claim, offset, place, refused.message, raw_of(value, place, items)))
            return
        seen = self._seen(bar.symbol)
        if bar.symbol not in self.rules:
            self.registered.setdefault(bar.symbol, None)
        self.bars.append(row)
        seen.minutes.add(time // MINUTE)

    def _seen(self, symbol: str) -> _Seen:
        return self.symbols.setdefault(symbol, _Seen(self.rules.get(symbol)))

    def _minute(self, text: str) -> int:
        """The minute of `2026-11-24T00:00`, counted from 1970; -1 for what is none."""
        minute = self._minutes.get(text)
        if minute is None:
            try:
                minute = int(datetime.fromisoformat(f"{text}:00+00:00").timestamp()) // 60
            except ValueError:
                minute = -1
            self._minutes[text] = minute
        return minute

    @property
    def newest_minute(self) -> int:
        """The last minute it touches; -1 without rows."""
        return max((max(seen.minutes) for seen in self.symbols.values() if seen.minutes), default=-1)

    def minutes(self) -> dict[str, set[int]]:
        """The minutes its rows touch, by symbol."""
        return {symbol: seen.minutes for symbol, seen in self.symbols.items() if seen.minutes}


def late_ranges(minutes: Mapping[str, Iterable[int]], seal: int) -> list[tuple[str, str, str]]:
    """(symbol, first minute, minute after the last) of runs below the seal, itself a minute counted from 1970."""
    found: list[tuple[str, int, int]] = []
    for symbol in sorted(minutes):
        late = sorted(minute for minute in minutes[symbol] if minute < seal)
        first = 0
        for n, minute in enumerate(late):
            if n + 1 == len(late) or late[n + 1] - minute > GAP:
                found.append((symbol, late[first], minute + 1))
                first = n + 1
    return [(symbol, stamp(lo * MINUTE), stamp(hi * MINUTE)) for symbol, lo, hi in found]


def _stamp_ms(ms: int) -> str:
    """Milliseconds since 1970 as RFC 3339, empty where that is no time we would take."""
    return stamp(ms * 1000) if 0 <= ms < 253_402_300_800_000 else ""
