"""What one transaction will write: records decoded, checked and turned into COPY text, and what goes along."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from operator import attrgetter
from sys import maxsize
from typing import Any, Final

from barwright.ingest.claims import Chunk, Claim, Span, Unreadable
from barwright.ingest.decode import Bad, Item, native, native_lines
from barwright.ingest.items import MOST_CUTS, Items
from barwright.ingest.marks import Mark
from barwright.ingest.ticks import ITEMS, PLAIN_TRADES, SIDES, Bar, Rule, Timed, Trade, Window

# Trades that are looked at together. One that is not written the usual way sends the others of its run through `take`.
RUN: Final = 500
# Bytes of records in a batch: what a decoder skips, marks and dead letters are no rows, and would fill a batch with all
# that comes while it is decoded. A full batch of rows has 1 to 2 MB, of 100,000 15.
MOST_BYTES: Final = 16 * 1024 * 1024
_TS, _SEQ, _ID, _SYMBOL, _SESSION = (attrgetter(name) for name in ("ts", "seq", "id", "symbol", "session"))


class Batch(Items):
    """Items of records, and the positions that are committed with them. See Items."""

    def __init__(self, rules: Mapping[str, Rule | None], window: Window, most_symbols: int = maxsize) -> None:
        super().__init__(rules, window, most_symbols)
        self.bytes = 0
        self.chunks: list[Chunk] = []
        self.spans: dict[Claim, Span] = {}

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
        nothing is added, where one is not. All of them at once take 1.2 us a tick, one by one (`take`) 1.8."""
        kinds = set(map(type, items))
        if kinds not in ({Trade}, {Timed}):
            return False
        trades: Sequence[Trade] = items  # type: ignore[assignment]
        times: list[Any] = list(map(_TS, trades))  # texts, or milliseconds that become texts
        numbers = list(map(_SEQ, trades))
        by_id = numbers[0] is None
        rule: Rule = "id" if by_id else "seq" if kinds == {Trade} else "time"
        if by_id:
            if numbers.count(None) < len(numbers):
                return False
            numbers = list(map(_ID, trades))
        try:
            if type(times[0]) is int:
                times = [self._times.stamp_ms(ms) for ms in times]
            rows = [
                f"{ts}\t{t.symbol}\t{number}\t{t.price}\t{t.size}\t{SIDES[t.side]}\n"
                for ts, number, t in zip(times, numbers, trades, strict=True)
            ]
        except (KeyError, TypeError):
            return False
        text = "".join(rows)
        # As many lines as trades: else a symbol with a newline could pass for two rows.
        if text.count("\n") != len(rows) or not PLAIN_TRADES(text):
            return False
        symbols, starts = set(map(_SYMBOL, trades)), {ts[:16] for ts in times}
        touched: Iterable[tuple[str, str]] = product(symbols, starts)
        if len(symbols) > 1 and len(starts) > 1:
            touched = {(t.symbol, ts[:16]) for ts, t in zip(times, trades, strict=True)}
        found = [(self._seen(symbol), self._minute(start)) for symbol, start in touched]
        if not all(seen.rule == rule and minute is not None for seen, minute in found):
            return False
        if any(minute == self._last_minute for _, minute in found) and max(times)[:19] >= self._last_second:
            return False
        for seen, minute in found:
            seen.minutes.add(minute)  # type: ignore[arg-type]
        self.trades += rows
        for session, count in Counter(map(_SESSION, trades)).items():
            if session is not None:
                self._tally.counts[session] += count
        return True

    def _minute(self, start: str) -> int | None:
        """The minute of a time that starts so, if it lies in the window, the last one as far as the window goes."""
        if start not in self._times.minutes:
            self._times.learn(start)
        minute = self._times.minutes.get(start)
        return minute if minute is not None and self._first_minute <= minute <= self._last_minute else None
