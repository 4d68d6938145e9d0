"""What one transaction will write: records decoded, checked and turned into COPY text, and what goes along."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from sys import maxsize
from typing import Final

import structlog

from barwright.ingest.claims import Chunk, Claim, Letter, Span, Unreadable
from barwright.ingest.decode import Bad, Item, Raws, lost_of, native, native_lines
from barwright.ingest.imports import Import
from barwright.ingest.marks import Mark, Tally, missed_minutes
from barwright.ingest.records import read_import
from barwright.ingest.ticks import (
    ITEMS,
    MINUTE,
    PLAIN_TRADE,
    PLAIN_TRADES,
    SIDES,
    Bar,
    RefusedError,
    Rule,
    Timed,
    Trade,
    Window,
    bar_row,
    trade_row,
)
from barwright.ingest.times import Times

log = structlog.get_logger()
# Trades that are looked at together. One that is not written the usual way sends the others of its run through `take`.
RUN: Final = 500
_ALONE = "not in one record with the mark that covers it"
# Bytes of records in a batch: what a decoder skips, marks and dead letters are no rows, and would fill a batch with all
# that comes while it is decoded. A full batch of rows has 1 to 2 MB, of 100,000 15.
MOST_BYTES: Final = 16 * 1024 * 1024
# Minutes that missed marks of a record may cut: a mark of 70 bytes names 1,440 of them, a record 20 million.
MOST_CUTS: Final = 100_000


@dataclass(slots=True)
class _Seen:
    """What a batch holds of a symbol: the rule that numbers its trades and the minutes it touches."""

    rule: Rule | None
    minutes: set[int] = field(default_factory=set)


class Batch:
    """Rows, dead letters and positions that are committed together.

    `rules` are the known symbols and the rules that number them; `registered` collects what is new in this batch.
    `tallies` is what live sessions sent, `cuts` (symbol, minute) what their coverage loses. `most_symbols`: once
    so many are known, trades and bars of others are refused.
    """

    def __init__(self, rules: Mapping[str, Rule | None], window: Window, most_symbols: int = 100_000) -> None:
        self.rules = rules
        self.window = window
        self.most_symbols = most_symbols
        self.bytes = 0
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
        self._raws = Raws(b"", 1)
        self._missed = 0  # minutes of the missed marks of a record
        self._times = Times()

    @property
    def window(self) -> Window:
        """In which times must lie, for what is added from now on."""
        return self._window

    @window.setter
    def window(self, window: Window) -> None:
        self._window = window
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

    @property
    def full(self) -> bool:
        """Whether what is no row is as much as a batch may hold."""
        return self.bytes >= MOST_BYTES or len(self.cuts) >= MOST_CUTS

    def add(self, chunk: Chunk, most: int) -> Chunk | None:
        """Take records until the batch is of size `most` (sys.maxsize: all there are), or `full`, or before an import
        of bars that it already has some of. Returns what is left of the chunk."""
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
        """Turn records into rows, run by run; returns how many records that were."""
        claim, records, taken = chunk.claim, chunk.records, 0
        self._tally = self.tallies[claim]
        while taken < len(records):
            run = records[taken : taken + max(1, min(RUN, most - self.size))]
            whole = claim.decoder is native and self._usual(native_lines([value for _, value in run]))
            done = len(run) if whole else self._each(claim, run, most)
            taken += done
            self.bytes += sum(len(value or b"") for _, value in run[:done])
            if done < len(run) or self.size >= most or (self.full and most < maxsize):
                break
        return taken

    def _each(self, claim: Claim, records: Sequence[tuple[int, bytes | None]], most: int) -> int:
        """Turn records into rows, decoding each by itself; returns how many records that were."""
        decode = claim.decoder
        held: list[tuple[int, bytes, Sequence[Item]]] = []
        count = 0
        for n, (offset, given) in enumerate(records):
            value = b"" if given is None else given  # one that is unreadable may be empty
            items = decode(value) if type(value) is not Unreadable else (Bad(value.reason, value),)
            covers = bool(items) and type(items[-1]) is Mark and items[-1].event == "covered"
            if covers or self.imports:
                self._take_all(claim, held)
                count = 0
            if covers:
                if not self._import(claim, offset, items, value):
                    return n
            elif self.imports and any(type(item) is Bar and self._has_import(item.symbol) for item in items):
                return n
            else:
                held.append((offset, value, items))
                count += len(items)
            if count >= RUN or self.size + count >= most:
                self._take_all(claim, held)
                count = 0
                if self.size >= most:
                    return n + 1
        self._take_all(claim, held)
        return len(records)

    def _take_all(self, claim: Claim, held: list[tuple[int, bytes, Sequence[Item]]]) -> None:
        """Add the items of records and forget those: together where all are usual, else one by one."""
        fits = all(len(items) <= ITEMS for _, _, items in held)
        if not fits or not self._usual([item for _, _, items in held for item in items]):
            for offset, value, items in held:
                self.take(claim, offset, items, value)
        held.clear()

    def _usual(self, items: Sequence[Item]) -> bool:
        """Add trades, if each is written the usual way and numbered by the rule that its symbol has already; False, and
        nothing is added, where one is not. Looking at all of them at once costs 0.6 us a tick; `take` 1.2."""
        kinds = set(map(type, items))
        if kinds not in ({Trade}, {Timed}):
            return False
        trades: Sequence[Trade] = items  # type: ignore[assignment]
        by_id = trades[0].seq is None
        rule: Rule = "id" if by_id else "seq" if kinds == {Trade} else "time"
        try:
            rows = [
                f"{t.ts}\t{t.symbol}\t{t.id if by_id else t.seq}\t{t.price}\t{t.size}\t{SIDES[t.side]}\n"
                for t in trades
            ]
        except KeyError:
            return False
        text = "".join(rows)
        # As many lines as trades: else a symbol with a newline could pass for two rows.
        if text.count("\n") != len(rows) or not PLAIN_TRADES(text):
            return False
        touched = {(t.symbol, t.ts[:16], t.seq is None) for t in trades}  # type: ignore[index]
        found = [(self._seen(symbol), self._minute(start), same is by_id) for symbol, start, same in touched]
        if not all(seen.rule == rule and minute is not None and same for seen, minute, same in found):
            return False
        for seen, minute, _ in found:
            seen.minutes.add(minute)  # type: ignore[arg-type]
        self.trades += rows
        for session, count in Counter(t.session for t in trades).items():
            if session is not None:
                self._tally.counts[session] += count
        return True

    def _minute(self, start: str) -> int | None:
        """The minute of a time that starts so, if all of it lies in the window."""
        if start not in self._times.minutes:
            self._times.learn(start)
        minute = self._times.minutes.get(start)
        return minute if minute is not None and self._first_minute <= minute < self._last_minute else None

    def take(
        self, claim: Claim, offset: int, items: Sequence[Item], value: bytes, before: int = 0, reason: str = _ALONE
    ) -> None:
        """Add a record's items, `before` of which came already. One loop without calls for trades written the usual
        way: 1 us each is most of what a tick costs us; `_other` has every other item. `reason` is what is wrong with
        bars of a task here."""
        symbols, minutes, append, sides = self.symbols, self._times.minutes, self.trades.append, SIDES
        first, last, counts = self._first_minute, self._last_minute, self._tally.counts
        self._missed = 0
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
            raw = item.raw if isinstance(item, Bad) else self._raw(value, place, items)
            self.letters.append(Letter(claim, offset, place, refused.message, raw))
            self._cut(item)

    def _raw(self, value: bytes, place: int, items: int) -> bytes:
        """The bytes of a record's item; the record is split once, however many of its items are refused."""
        if self._raws.value is not value:
            self._raws = Raws(value, items)
        return self._raws.of(place)

    def _demand_room(self, symbol: str) -> None:
        """RefusedError for a symbol that would be one too many: every process keeps the names of all."""
        if symbol not in self.rules and symbol not in self.registered:
            known = len(self.rules) + len(self.registered)
            if known >= self.most_symbols:
                raise RefusedError(f"symbol: there are {self.most_symbols:,} already (BARWRIGHT_MOST_SYMBOLS)")

    def _trade(self, trade: Trade, place: int, usual: str) -> None:
        row, time, rule = trade_row(trade, place, self.window)
        self._demand_room(trade.symbol)
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
        self._demand_room(bar.symbol)
        if bar.symbol not in self.rules:
            self.registered.setdefault(bar.symbol, None)
        self.bars.append(row)
        self._with_bars.add(bar.symbol)
        self._seen(bar.symbol).minutes.add(time // MINUTE)

    def _mark(self, claim: Claim, mark: Mark, reason: str) -> None:
        if mark.event == "missed":
            symbol, minutes = missed_minutes(mark)
            self._missed += len(minutes)
            if self._missed > MOST_CUTS:
                raise RefusedError(f"from, to: more than {MOST_CUTS:,} minutes missed in one record")
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
            if found.task is None:
                self._demand_room(found.symbol)
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
