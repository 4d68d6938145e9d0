"""What one transaction will write: records decoded, checked and turned into COPY text, and what goes along."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from barwright.ingest.claims import Chunk, Claim, Letter, Span
from barwright.ingest.decode import Bad, Item, lost_of, raw_of
from barwright.ingest.imports import Import
from barwright.ingest.marks import Mark, Tally, missed_minutes
from barwright.ingest.records import read_import
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
    trade_row,
)
from barwright.ingest.times import Times

log = structlog.get_logger()
_ALONE = "not in one record with the mark that covers it"


@dataclass(slots=True)
class _Seen:
    """What a batch holds of a symbol: the rule that numbers its trades and the minutes it touches."""

    rule: Rule | None
    minutes: set[int] = field(default_factory=set)


class Batch:
    """Rows, dead letters and positions that are committed together.

    `rules` are the known symbols and the rules that number them; `registered` collects what is new in this batch.
    `tallies` is what live sessions sent, `cuts` (symbol, minute) what their coverage loses.
    """

    def __init__(self, rules: Mapping[str, Rule | None], window: Window) -> None:
        self.rules = rules
        self.window = window
        self.chunks: list[Chunk] = []
        self.spans: dict[Claim, Span] = {}
        self.trades: list[str] = []
        self.bars: list[str] = []
        self.imports: list[Import] = []
        self.letters: list[Letter] = []
        self.registered: dict[str, Rule | None] = {}
        self.symbols: dict[str, _Seen] = {}
        self.tallies: defaultdict[Claim, Tally] = defaultdict(Tally)
        self.cuts: set[tuple[str, int]] = set()
        self._imported = 0
        self._with_bars: set[str] = set()
        self._tally = Tally()
        self._times = Times()
        # In this minute and later ones the window's end must be looked at closely.
        self._first_minute = -(-window.oldest // MINUTE)
        self._last_minute = (window.newest + 1) // MINUTE

    @property
    def rows(self) -> int:
        """Rows so far."""
        return len(self.trades) + len(self.bars) + self._imported

    @property
    def size(self) -> int:
        """Rows and dead letters so far."""
        return self.rows + len(self.letters)

    def add(self, chunk: Chunk, most: int) -> Chunk | None:
        """Take records until the batch is full: of size `most`, or before an import of bars that it already has some
        of. Returns what is left of the chunk."""
        before = self.rows
        taken = self._decode(chunk, most)
        rest = chunk.records[taken:]
        if not taken:
            return chunk
        self.chunks.append(chunk if not rest else Chunk(chunk.claim, chunk.begin, chunk.records[:taken]))
        end = self.chunks[-1].end
        span = self.spans.setdefault(chunk.claim, Span(chunk.begin, end))
        span.end = end
        span.rows += self.rows - before
        return Chunk(chunk.claim, end, rest) if rest else None

    def _decode(self, chunk: Chunk, most: int) -> int:
        """Turn records into rows; returns how many records that were."""
        claim, decode, trades, bars, letters = chunk.claim, chunk.claim.decoder, self.trades, self.bars, self.letters
        self._tally = self.tallies[claim]
        for n, (offset, value) in enumerate(chunk.records, 1):
            items = decode(value or b"")
            if items and type(items[-1]) is Mark and items[-1].event == "covered":
                if not self._import(claim, offset, items, value or b""):
                    return n - 1
            elif self.imports and any(type(item) is Bar and self._has_import(item.symbol) for item in items):
                return n - 1
            else:
                self.take(claim, offset, items, value or b"")
            if len(trades) + len(bars) + len(letters) + self._imported >= most:
                return n
        return len(chunk.records)

    def take(
        self, claim: Claim, offset: int, items: Sequence[Item], value: bytes, before: int = 0, reason: str = _ALONE
    ) -> None:
        """Add a record's items, `before` of which came already. One loop without calls for trades written the usual
        way: 1 us each is most of what a tick costs us; `_other` has every other item. `reason` is what is wrong with
        bars of a task here."""
        symbols, minutes, append, sides = self.symbols, self._times.minutes, self.trades.append, SIDES
        first, last, counts = self._first_minute, self._last_minute, self._tally.counts
        place = before - 1
        for item in items:
            place += 1
            if not isinstance(item, Trade):
                self._other(claim, offset, place, item, value, len(items), reason=reason)
                continue
            rule: Rule = "seq" if type(item) is Trade else "time"
            seq: int | str | None = item.seq
            if seq is None:
                seq, rule = item.id, "id"
                if seq is None or (type(seq) is str and not seq.isdigit()):
                    seq, rule = offset * ITEMS + place, "offset"
            ts = item.ts if isinstance(item.ts, str) else self._times.stamp_ms(item.ts)
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
                if item.session is not None:
                    counts[item.session] += 1
            else:
                self._times.learn(ts[:16])
                self._other(claim, offset, place, item, value, len(items), row)

    def _other(
        self, claim: Claim, offset: int, place: int, item: Item, value: bytes, items: int, row: str = "",
        reason: str = _ALONE,
    ) -> None:  # fmt: skip
        """Add an item after looking at each part of it, or refuse it. `row` is a trade's as the loop wrote it."""
        try:
            if place >= ITEMS:
                raise RefusedError(f"more than {ITEMS:,} items in one record")
            if isinstance(item, Trade):
                self._trade(item, offset * ITEMS + place, row)
            elif isinstance(item, Bar):
                self._bar(item, reason)
            elif isinstance(item, Mark):
                self._mark(claim, item, reason)
            else:
                raise RefusedError(item.reason)
        except RefusedError as refused:
            raw = item.raw if isinstance(item, Bad) else raw_of(value, place, items)
            self.letters.append(Letter(claim, offset, place, refused.message, raw))
            self._cut(item)

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
        if trade.session is not None:
            self._tally.counts[trade.session] += 1

    def _bar(self, bar: Bar, reason: str) -> None:
        if bar.task is not None or bar.interval != "1m":
            raise RefusedError(f"bar: {reason}")
        row, time = bar_row(bar, self.window)
        if bar.symbol not in self.rules:
            self.registered.setdefault(bar.symbol, None)
        self.bars.append(row)
        self._with_bars.add(bar.symbol)
        self._seen(bar.symbol).minutes.add(time // MINUTE)

    def _mark(self, claim: Claim, mark: Mark, reason: str) -> None:
        if mark.event == "missed":
            symbol, minutes = missed_minutes(mark)
            self.cuts.update((symbol, minute) for minute in minutes)
        elif mark.event == "covered":
            raise RefusedError(f"mark: {reason}")
        elif mark.partition != claim.partition:
            log.warning("a mark of another partition", session=mark.session, says=mark.partition, is_in=claim.partition)
        else:
            self._tally.mark(mark, self.window)

    def _import(self, claim: Claim, offset: int, items: Sequence[Item], value: bytes) -> bool:
        """Add a record that a covered mark ends; False where the batch holds bars that it may replace."""
        try:
            found, letters = read_import(claim, offset, items, value, self.window)
        except RefusedError as refused:
            self.take(claim, offset, items, value, reason=refused.message)
            return True
        if found.symbol in self._with_bars or self._has_import(found.symbol, found.lo, found.hi):
            return False
        if found.task is None and found.symbol not in self.rules:
            self.registered.setdefault(found.symbol, None)
        self.imports.append(found)
        self.letters += letters
        self._imported += len(found.rows)
        return True

    def _has_import(self, symbol: str, lo: int = -(2**62), hi: int = 2**62) -> bool:
        """Whether an import of a symbol overlaps these minutes."""
        return any(one.symbol == symbol and one.lo < hi and lo < one.hi for one in self.imports)

    def _cut(self, item: Item) -> None:
        """What was refused is lost for its minute. A trade whose minute cannot be told is not counted either: then its
        session's next mark proves nothing. Bars of a task were promised to nobody yet."""
        lost = lost_of(item)
        if lost is not None:
            symbol, minute, session = lost
            self.cuts.add((symbol, minute))
            if session is not None:
                self._tally.counts[session] += 1

    def _seen(self, symbol: str) -> _Seen:
        return self.symbols.setdefault(symbol, _Seen(self.rules.get(symbol)))

    @property
    def newest_minute(self) -> int:
        """The last minute it touches; -1 without rows."""
        newest = max((max(seen.minutes) for seen in self.symbols.values() if seen.minutes), default=-1)
        return max([newest, *(one.hi - 1 for one in self.imports)])

    def minutes(self) -> dict[str, set[int]]:
        """The minutes its rows touch, by symbol, but for those of imports."""
        return {symbol: seen.minutes for symbol, seen in self.symbols.items() if seen.minutes}
