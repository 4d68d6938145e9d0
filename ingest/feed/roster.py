"""What one socket follows: asked for, acknowledged, active, refused, and what did not fit."""

from __future__ import annotations

import re
from typing import Final

from barwright.errors import BarwrightError
from barwright.ingest.feed.source import Market

ANSWER: Final = 5.0  # seconds to wait for what answers a SubAdd
_is_full = re.compile(r"TOO_MANY_SUBSCRIPTIONS(?:_MAX_(\d+))?").match


class FullError(BarwrightError):
    """The socket takes no more subscriptions."""


class Roster:
    """The markets of one socket by name, `names` with our symbols of each. One question at a time: LOADCOMPLETE does
    not say which it answers. `has_news`: something may go elsewhere or be asked now."""

    def __init__(self) -> None:
        self.names: dict[str, set[str]] = {}
        self.active: set[str] = set()
        self.pending: set[str] = set()
        self.has_news = False
        self._asked: set[str] = set()
        self._acknowledged: set[str] = set()
        self._refused: dict[str, float] = {}
        self._capacity: int | None = None
        self._acknowledges = self._is_loaded = self._overflows = False
        self._pending_at = 0.0

    def add(self, market: Market) -> bool:
        """Follow a market as well; whether its trades come already. Raises FullError."""
        if market.name in self.names:
            self.names[market.name].add(market.symbol)
            return market.name in self.active
        if self._capacity is not None and len(self.names) >= self._capacity:
            raise FullError(f"No more than {self._capacity} subscriptions.")
        self.names[market.name] = {market.symbol}
        self._asked.add(market.name)
        return False

    def keep(self, kept: dict[str, set[str]]) -> tuple[set[str], set[str]]:
        """Follow no other symbols; returns the symbols that go, and the markets to be unsubscribed from."""
        gone = {symbol for name, symbols in self.names.items() for symbol in symbols - kept.get(name, set())}
        dropped = self.names.keys() - kept.keys()
        heard = dropped & (self.active | self.pending)
        for name in dropped:
            self.drop(name)
        for symbols in self.names.values():
            symbols -= gone
        return gone, heard

    def question(self, now: float) -> set[str]:
        """The markets to ask for now."""
        self.has_news = False
        if self.pending or not self._asked:
            return set()
        self.pending, self._asked = self._asked, set()
        self._acknowledged, self._is_loaded, self._overflows = set(), False, False
        self._pending_at = now
        return self.pending

    def acknowledged(self, name: str) -> set[str]:
        """A subscription is complete; returns what became active by it."""
        self._acknowledges = True
        if name not in self.pending:
            return set()
        self._acknowledged.add(name)
        return self._activate({name}) if self._is_loaded else set()

    def loaded(self) -> set[str]:
        """LOADCOMPLETE: what was acknowledged, or all that was asked where the server acknowledges nothing."""
        self._is_loaded = True
        done = self._activate(set(self._acknowledged if self._acknowledges else self.pending))
        if self._overflows:
            self._overflow()
        return done

    def overdue(self, now: float) -> tuple[set[str], set[str]]:
        """Where no answer came in time: what was acknowledged is taken for active, the rest is refused."""
        if not self.pending or now - self._pending_at <= ANSWER:
            return set(), set()
        done = set() if self._is_loaded else self.loaded()
        return done, self.refuse(set(self.pending), now)

    def refuse(self, names: set[str], now: float) -> set[str]:
        """These are not there; they are asked for again some time."""
        for name in names:
            self._refused[name] = now
            for known in (self.pending, self.active, self._acknowledged):
                known.discard(name)
        self.has_news = True
        return names

    def retry(self, now: float, again: float) -> None:
        """Ask once more for what was refused so long ago."""
        for name in [name for name, at in self._refused.items() if now - at > again]:
            del self._refused[name]
            self._asked.add(name)
            self.has_news = True

    def meant(self, *texts: str) -> set[str]:
        """The markets that an error names; where it names none, the one that was asked for."""
        named = {name for name in self.pending | self.active if f"0~{name}" in texts}
        return named or (set(self.pending) if len(self.pending) == 1 else set())

    def full(self, message: str, names: set[str]) -> bool:
        """Whether a message says that no more fit; what did not fit goes elsewhere."""
        match = _is_full(message)
        if not match:
            return False
        self._capacity = max(int(match[1]) if match[1] else len(self.active | self._acknowledged), 1)
        self._overflows = self.has_news = True
        for name in names & self.pending:
            self.drop(name)
        if self._is_loaded:
            self._overflow()
        return True

    def drop(self, name: str) -> None:
        """Forget a market."""
        for names in (self._asked, self.pending, self.active, self._acknowledged):
            names.discard(name)
        self.names.pop(name, None)
        self._refused.pop(name, None)

    def symbols(self, names: set[str]) -> set[str]:
        """Our symbols of these markets."""
        return {symbol for name in names for symbol in self.names.get(name, ())}

    def _activate(self, names: set[str]) -> set[str]:
        self.pending -= names
        self.active |= names
        self.has_news = self.has_news or not self.pending
        return names

    def _overflow(self) -> None:
        for name in list(self.pending):
            self.drop(name)
        self.has_news = True
