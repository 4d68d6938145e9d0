"""What items become, one by one: rows of COPY text, imports, dead letters, and minutes that are no longer covered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from sys import maxsize
from typing import Final

import structlog

from barwright.ingest.claims import Claim, Letter
from barwright.ingest.decode import Bad, Item, Raws, lost_of
from barwright.ingest.imports import Import
from barwright.ingest.marks import Mark, Tally, missed_minutes
from barwright.ingest.records import read_import
from barwright.ingest.ticks import (
    ITEMS,
    MINUTE,
    PLAIN_TRADE,
    SIDES,
    YEAR_10000,
    Bar,
    RefusedError,
    Rule,
    Trade,
    Window,
    bar_row,
    stamp,
    trade_row,
)
from barwright.ingest.times import Times

log = structlog.get_logger()
_ALONE = "not in one record with the mark that covers it"
# Minutes that missed marks of a record may cut: a mark of 70 bytes names 1,440 of them, a record 20 million.
MOST_CUTS: Final = 100_000


@dataclass(slots=True)
class _Seen:
    """What a batch holds of a symbol: the rule that numbers its trades and the minutes it touches."""

    rule: Rule | None
    minutes: set[int] = field(default_factory=set)


class Items:
    """Rows and dead letters, and what they say of symbols, minutes and live sessions.

    `rules` are the known symbols and the rules that number them; `registered` collects what is new here.
    `tallies` is what live sessions sent, `cuts` (symbol, minute) what their coverage loses. `most_symbols`: once
    so many are known, trades and bars of others are refused.
    """

    def __init__(self, rules: Mapping[str, Rule | None], window: Window, most_symbols: int = maxsize) -> None:
        self.rules = rules
        self.window = window
        self.most_symbols = most_symbols
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
        # From the first minute on all lies in it, up to this second of the last minute, which is that of now. Other
        # times are looked at closely.
        self._first_minute = -(-window.oldest // MINUTE)
        self._last_minute = (window.newest + 1) // MINUTE
        self._last_second = stamp(min(window.newest, YEAR_10000 - 1))[:19]

    @property
    def rows(self) -> int:
        """Rows so far."""
        return len(self.trades) + len(self.bars) + self._imported

    @property
    def size(self) -> int:
        """Rows and dead letters so far."""
        return self.rows + len(self.letters)

    def take(
        self, claim: Claim, offset: int, items: Sequence[Item], value: bytes, before: int = 0, reason: str = _ALONE
    ) -> None:
        """Add a record's items, `before` of which came already. One loop without calls for trades written the usual
        way, since it is most of what a tick costs us; `_other` has every other item. `reason` is what is wrong with
        bars of a task here."""
        symbols, minutes, append, sides = self.symbols, self._times.minutes, self.trades.append, SIDES
        first, last, end, counts = self._first_minute, self._last_minute, self._last_second, self._tally.counts
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
                and first <= minute <= last
                and (minute < last or ts[:19] < end)
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
