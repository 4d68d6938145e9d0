"""A writer that lands trades, imports, late ticks and corrections as ingest does, and remembers what was true when."""

import random
import time
from collections import defaultdict
from datetime import datetime, timedelta
from decimal import Decimal
from math import inf
from typing import Any, NamedTuple

from tests.api.vouched import Vouched
from tests.sql.market import INSERT, Market

MINUTE = timedelta(minutes=1)
LATE = """
insert into late_range (symbol, span)
select %(symbol)s, tstzrange(m, m + interval '1 minute') from date_bin('1 minute', %(ts)s, '2000-01-03Z') as m
where m < late_below()
"""
Bar = tuple[Decimal, ...] | None  # open, high, low, close, volume; None: no trades


class Version(NamedTuple):
    """A minute as it was from a moment on: it became visible between two monotonic times."""

    before: float
    after: float
    bar: Bar


class Lander:
    """One symbol. Its live connection begins at `base` and breaks now and then; what it missed, and six hours before,
    is imported; time runs some thousand times faster than ours."""

    def __init__(self, market: Market, base: datetime, seed: int) -> None:
        self.market, self.base, self.dice = market, base, random.Random(seed)
        self.vouched = Vouched(market.connection, market.symbol)
        self.start = base - timedelta(hours=6)
        self.at = self.live_since = base + timedelta(seconds=30)  # the first minute is a part of one
        self.holes = [self.start + n * MINUTE for n in range(361)]
        self.trades: dict[datetime, list[dict[str, Any]]] = defaultdict(list)
        self.imports: dict[datetime, dict[str, Any]] = {}
        self.versions: dict[datetime, list[Version]] = defaultdict(list)

    def step(self) -> None:
        """One transaction of any kind."""
        kind = self.dice.random()
        if kind < 0.55:
            self._live()
        elif kind < 0.85:
            self._import(self._next_holes())
        elif kind < 0.95 and self.versions:
            self._late(self.dice.choice(list(self.versions)))
        elif self.imports:
            self._import([self.dice.choice(list(self.imports))])

    def _live(self) -> None:
        """Some seconds of trades and the mark that counts them; now and then they are missed."""
        lo, self.at = self.at, self.at + timedelta(seconds=self.dice.randrange(5, 90))
        if self.dice.random() < 0.04:
            self.live_since = self.at
            first = lo.replace(second=0)
            self.holes += [
                first + n * MINUTE for n in range(int((self.at - first) / MINUTE) + 1)
                if first + n * MINUTE < self.at and not self.versions.get(first + n * MINUTE)
            ]  # fmt: skip
            return
        times = sorted(lo + (self.at - lo) * self.dice.random() for _ in range(self.dice.randrange(4)))
        trades = [self._trade(ts) for ts in times]
        done, minute = [], lo.replace(second=0)
        while minute + MINUTE <= self.at:
            if minute >= self.live_since and minute not in self.versions:
                done.append(minute)
            minute += MINUTE
        self._land(trades, done, live=(lo, self.at))

    def _next_holes(self) -> list[datetime]:
        """Up to an hour of what is missing, newest first, of one piece."""
        self.holes = sorted(set(self.holes))
        part: list[datetime] = []
        while self.holes and len(part) < self.dice.randrange(1, 60):
            if part and self.holes[-1] != part[-1] - MINUTE:
                break
            if self.holes[-1] + MINUTE > self.at:
                break
            part.append(self.holes.pop())
        return part

    def _import(self, minutes: list[datetime]) -> None:
        bars = []
        for minute in minutes:
            if self.dice.random() < 0.8:
                prices = [Decimal(self.dice.randrange(100, 200)) for _ in range(4)]
                text = f"{prices[0]} {max(prices)} {min(prices)} {prices[3]}"
                bars.append(self.market.bar(minute, text, str(self.dice.randrange(1, 50))))
        known = {bar["ts"] for bar in bars}
        # An imported minute that is not sent again stays here; ingest would delete it.
        minutes = [minute for minute in minutes if minute in known or minute not in self.imports]
        if minutes:
            self._land(bars, minutes, proved=(min(minutes), max(minutes) + MINUTE))

    def _late(self, minute: datetime) -> None:
        self._land([self._trade(minute + timedelta(seconds=self.dice.randrange(60)))], [minute])

    def _trade(self, ts: datetime) -> dict[str, Any]:
        return self.market.trade(ts, str(self.dice.randrange(100, 200)), str(self.dice.randrange(1, 9)))

    def _land(self, rows: list[dict[str, Any]], done: list[datetime], **coverage: Any) -> None:
        """Rows and coverage in one transaction, the seal held; remembers the minutes that are true after it."""
        connection = self.market.connection
        with connection.transaction():
            connection.execute("select hold_seal()")
            for row in rows:
                connection.execute(INSERT, row)
                connection.execute(LATE, row)
            if "live" in coverage:
                self.vouched.live(coverage["live"])
            if "proved" in coverage:
                self.vouched.imported(coverage["proved"])
            self._remember(rows)
            before = time.monotonic()
            # Told before it is true: somebody may see it before we have heard that it is.
            for minute in done:
                self.versions[minute].append(Version(before, inf, self._bar(minute)))
        after = time.monotonic()
        for minute in done:
            self.versions[minute][-1] = Version(before, after, self._bar(minute))

    def _remember(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            minute = row["ts"].replace(second=0, microsecond=0)
            if row["seq"] == -1:
                self.imports[minute] = row
            else:
                self.trades[minute].append(row)

    def _bar(self, minute: datetime) -> Bar:
        if minute in self.imports:
            row = self.imports[minute]
            return row["open"], row["high"], row["low"], row["price"], row["size"]
        rows = sorted(self.trades[minute], key=lambda row: row["seq"])
        if not rows:
            return None
        prices = [row["price"] for row in rows]
        return prices[0], max(prices), min(prices), prices[-1], sum(row["size"] for row in rows)

    def possible(self, minute: datetime, asked: float, answered: float, stale: float) -> list[Bar]:
        """What a minute can have been for a request between two times, given how old what it saw may be; empty while
        it was not covered."""
        found = list(self.versions.get(minute, ()))
        if not found:
            return []
        return [
            version.bar for version, following in zip(found, [*found[1:], None], strict=True)
            if version.before <= answered and (following is None or following.after >= asked - stale)
        ]  # fmt: skip
