"""What one live connection vouches for: sessions, their numbered marks, and the counts that prove them.

No input or output here: events go in, and what is to be sent comes out, in order. Times are microseconds since 1970.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from barwright.ingest.feed.publish import Item
from barwright.ingest.feed.source import Alive, Event, Missed, Subscribed, Trades, Unsubscribed
from barwright.ingest.ticks import stamp

# Sessions of one connection before some are merged: one more for each second in which symbols join.
MOST: Final = 8


@dataclass(eq=False)
class Session:
    """Symbols that are vouched for together, by partition. `until`: where the last mark ended, or where it begins."""

    symbols: dict[int, list[str]]
    until: int
    id: str = field(default_factory=lambda: secrets.token_hex(6))
    n: int = 0
    # It goes on where another ended; else it begins with what it joined, and nothing before that is known.
    goes_on: bool = True
    counts: dict[int, int] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """All its symbols."""
        return [symbol for symbols in self.symbols.values() for symbol in symbols]

    @property
    def size(self) -> int:
        """How many symbols it has."""
        return sum(map(len, self.symbols.values()))


class Sessions:
    """The sessions of one connection. Each symbol is in one at most; a trade of one that is in none has no session."""

    def __init__(self, source: str, partition_of: Callable[[str], int], margin: float) -> None:
        self.source, self.partition_of = source, partition_of
        self.margin = round(margin * 1_000_000)
        self.newest = 0
        self.open: list[Session] = []
        self._of: dict[str, Session] = {}
        self._fresh: Session | None = None

    def take(self, event: Event) -> Sequence[Item]:
        """What an event gives to be sent."""
        match event:
            case Trades(trades):
                return [self._trade(trade) for trade in trades]
            case Alive(at):
                # Never ahead of the clock: one trade with a wrong time would vouch for what is yet to come.
                self.newest = max(self.newest, min(at, time.time_ns() // 1000))
            case Subscribed(symbols, since):
                return self._join(symbols, since)
            case Unsubscribed(symbols):
                return self._leave(symbols)
            case Missed(symbol, start, end):
                return [self._missed(symbol, start, end)]
        return []

    def tick(self) -> list[Item]:
        """The marks that are due, each second; afterwards sessions are merged where there are many."""
        to = self.newest - self.margin
        marked = [session for session in self.open if session.until < to]
        items = [item for session in marked for item in self._mark(session, to)]
        self._fresh = None
        if len(marked) > MOST:
            self._merge(_alike(marked), to)
        return items

    def renew(self, symbols: Iterable[str]) -> list[Item]:
        """Vouch for symbols anew, from the next event time on: what was known of them is gone."""
        known = frozenset(self._of).intersection(symbols)
        return self._join(known, self.newest + 1) if known else []

    def _trade(self, trade: Any) -> Item:
        partition, session = self.partition_of(trade.symbol), self._of.get(trade.symbol)
        if session is not None:
            trade.session = session.id
            session.counts[partition] = session.counts.get(partition, 0) + 1
        return partition, trade.symbol, trade

    def _join(self, symbols: frozenset[str], since: int) -> list[Item]:
        """Symbols that join within the same second share a session; it begins where the last of them does."""
        items = self._leave(symbols)
        if self._fresh is None:
            self._fresh = self._start([], since)
            self._fresh.goes_on = False
        self._fresh.until = max(self._fresh.until, since)
        self._add(self._fresh, symbols)
        return items

    def _leave(self, symbols: frozenset[str]) -> list[Item]:
        """End the sessions of these symbols; the others of them go on in new ones, without a hole."""
        touched = {id(self._of[symbol]): self._of[symbol] for symbol in symbols if symbol in self._of}
        items: list[Item] = []
        for session in touched.values():
            others = [name for name in session.names if name not in symbols]
            items += self._last_mark(session)
            self._end(session)
            if others:
                self._start(others, session.until)
        return items

    def _last_mark(self, session: Session) -> list[Item]:
        """End what a session vouches for, so that all it sent is counted; `until` is then where another may go on."""
        to = self.newest - self.margin
        if session.n or session.goes_on:
            # Where no mark is due, a microsecond more makes one: no trade that is less than the margin late is in it.
            to = max(to, session.until + 1)
        if session.until < to <= self.newest:
            return self._mark(session, to)
        # What is after the newest time has not come yet, so nothing of it was sent uncounted.
        session.until = max(session.until, self.newest + 1)
        return []

    def _merge(self, sessions: list[Session], to: int) -> None:
        names = [name for session in sessions for name in session.names]
        for session in sessions:
            self._end(session)
        self._start(names, to)

    def _start(self, symbols: Iterable[str], since: int) -> Session:
        session = Session({}, since)
        self.open.append(session)
        self._add(session, symbols)
        return session

    def _add(self, session: Session, symbols: Iterable[str]) -> None:
        for symbol in sorted(symbols):
            session.symbols.setdefault(self.partition_of(symbol), []).append(symbol)
            self._of[symbol] = session

    def _end(self, session: Session) -> None:
        self.open.remove(session)
        if self._fresh is session:
            self._fresh = None
        for name in session.names:
            del self._of[name]

    def _mark(self, session: Session, to: int) -> list[Item]:
        """One mark for each partition that has symbols of the session; the first names them."""
        session.n += 1
        start, session.until = session.until, to
        counts, session.counts = session.counts, {}
        items: list[Item] = []
        for partition, symbols in session.symbols.items():
            mark = {
                "type": "mark", "event": "live", "session": session.id, "partition": partition, "n": session.n,
                "from": stamp(start), "to": stamp(to), "count": counts.get(partition, 0), "source": self.source,
            }  # fmt: skip
            if session.n == 1:
                mark["symbols"] = symbols
            items.append((partition, session.id, msgspec.json.encode(mark)))
        return items

    def _missed(self, symbol: str, start: int, end: int) -> Item:
        mark = {
            "type": "mark", "event": "missed", "symbol": symbol, "from": stamp(start), "to": stamp(end),
            "source": self.source,
        }  # fmt: skip
        return self.partition_of(symbol), symbol, msgspec.json.encode(mark)


def _alike(sessions: list[Session]) -> list[Session]:
    """Those to be merged: not one that is larger than all smaller ones together. So a symbol moves a few times in all,
    not each time another joins, and the marks that name the symbols stay few."""
    chosen = sorted(sessions, key=lambda session: session.size)
    total = sum(session.size for session in chosen)
    while len(chosen) > 2 and 2 * chosen[-1].size > total:
        total -= chosen.pop().size
    return chosen
