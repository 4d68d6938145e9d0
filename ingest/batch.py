"""What one transaction will write: records decoded, checked and turned into COPY text, and what goes along."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from barwright.ingest.decode import Decoder, Item, native, raw_of, split
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


@dataclass(slots=True)
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
        self._texts: dict[int, str] = {}
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
        decode, trades, bars, letters = chunk.claim.decoder, self.trades, self.bars, self.letters
        for n, (offset, value) in enumerate(chunk.records, 1):
            self._add(chunk.claim, offset, decode(value or b""), value or b"")
            if len(trades) + len(bars) + len(letters) >= most:
                return n
        return len(chunk.records)

    def _add(self, claim: Claim, offset: int, items: Sequence[Item], value: bytes, before: int = 0) -> None:
        """Add a record's items, `before` of which came already. One loop without calls for trades written the usual
        way: 1 us each is most of what a tick costs us; `_other` has every other item."""
        symbols, minutes, append, sides = self.symbols, self._minutes, self.trades.append, SIDES
        first, last = self._first_minute, self._last_minute
        place = before - 1
        for item in items:
            place += 1
            if type(item) is not Trade:
                self._other(claim, offset, place, item, value, len(items))
                continue
            rule: Rule = "seq"
            seq: int | str | None = item.seq
            if seq is None:
                seq, rule = item.id, "id"
                if seq is None or (type(seq) is str and not seq.isdigit()):
                    seq, rule = offset * ITEMS + place, "offset"
            ts = item.ts if isinstance(item.ts, str) else self._stamp_ms(item.ts)
            row = f"{ts}\t{item.symbol}\t{seq}\t{item.price}\t{item.size}\t{sides.get(item.side)}\n"
            minute = minutes.get(ts[:16])
            seen = symbols.get(item.symbol)
            if (
                seen is not None
                and seen.rule == rule
                and minute is not None
                and place < ITEMS
                and first <= minute < last
                and PLAIN_TRADE(row)
            ):
                append(row)
                seen.minutes.add(minute)
            else:
                self._minute(ts[:16])
                self._other(claim, offset, place, item, value, len(items), row)

    def _other(
        self, claim: Claim, offset: int, place: int, item: Item, value: bytes, items: int, row: str = ""
    ) -> None:
        """Add an item after looking at each part of it, or refuse it. `row` is a trade's as the loop wrote it."""
        try:
            if place >= ITEMS:
                raise RefusedError(f"more than {ITEMS:,} items in one record")
            if isinstance(item, Trade):
                self._trade(item, offset * ITEMS + place, row)
            elif isinstance(item, Bar):
                self._bar(item)
            else:
                self.letters.append(Letter(claim, offset, place, *item))
        except RefusedError as refused:
            self.letters.append(Letter(claim, offset, place, refused.message, raw_of(value, place, items)))

    def letters_of(self, row: str, reason: str) -> Iterator[Letter]:
        """Letters of the items that became this row, found by decoding again: so rare that nothing is kept for it."""
        for chunk in self.chunks:
            for offset, value in chunk.records:
                for place, raw in enumerate(split(value or b"")):
                    alone = Batch({symbol: seen.rule for symbol, seen in self.symbols.items()}, self.window)
                    alone._add(chunk.claim, offset, chunk.claim.decoder(raw), raw, before=place)
                    if row in alone.trades or row in alone.bars:
                        yield Letter(chunk.claim, offset, place, reason, raw)

    def _trade(self, trade: Trade, place: int, usual: str) -> None:
        row, time, rule = trade_row(trade, place, self.window)
        seen = self._seen(trade.symbol)
        if seen.rule not in (None, rule):
            raise RefusedError(f"numbered by {rule}, but the trades of this symbol are numbered by {seen.rule}")
        if seen.rule is None:
            seen.rule = self.registered[trade.symbol] = rule
        # The same text as in the loop above, so that a row can be found again by it.
        self.trades.append(usual if PLAIN_TRADE(usual) else row)
        seen.minutes.add(time // MINUTE)

    def _bar(self, bar: Bar) -> None:
        row, time = bar_row(bar, self.window)
        if bar.symbol not in self.rules:
            self.registered.setdefault(bar.symbol, None)
        self.bars.append(row)
        self._seen(bar.symbol).minutes.add(time // MINUTE)

    def _seen(self, symbol: str) -> _Seen:
        return self.symbols.setdefault(symbol, _Seen(self.rules.get(symbol)))

    def _minute(self, text: str) -> None:
        """Learn the minute of `2026-11-24T00:00`, counted from 1970; what is none is looked at closely each time."""
        with suppress(ValueError):
            self._minutes[text] = int(datetime.fromisoformat(f"{text}:00+00:00").timestamp()) // 60

    def _stamp_ms(self, ms: int) -> str:
        """Milliseconds since 1970 as RFC 3339, empty where that is no time we would take."""
        minute, rest = divmod(ms, 60_000)
        text = self._texts.get(minute)
        if text is None:
            if not 0 <= ms < 253_402_300_800_000:
                return ""
            text = self._texts[minute] = stamp(minute * MINUTE)[:17]
        return f"{text}{rest // 1000:02}.{rest % 1000:03}Z"

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
