"""The coverage of the symbols that are asked about, each from a snapshot at most half a second ago.

A summary may stand beside bars of another snapshot only while no revision has come between, so that closed bars are the
same in both, and beside an open bar only where that was read later: trades land together with the mark that vouches for
them, so an older open bar could lack some that the summary already counts.
"""

import asyncio
import time

from psycopg.types.numeric import Int8

from barwright.api.coverage import Summary, summary
from barwright.api.database import Change, Database, Q, look, retried
from barwright.api.errors import unknown_symbol
from barwright.api.follower import Follower

LASTS = 0.5  # seconds after it was asked for
MOST = 10_000  # summaries kept


class Coverages:
    """What this process knows of coverage; a symbol is asked about once at a time."""

    def __init__(self, database: Database, follower: Follower) -> None:
        self.database = database
        self.follower = follower
        self.known: dict[str, Summary] = {}
        self.flights: dict[str, asyncio.Task[Summary]] = {}

    async def of(self, symbol: str) -> Summary:
        """A symbol's summary; it may be overtaken by a revision. ApiError 404, 503."""
        found = self.known.get(symbol)
        if found is not None and found.alive and time.monotonic() < found.until:
            return found
        flight = self.flights.get(symbol)
        if flight is None:
            flight = self.flights[symbol] = asyncio.create_task(self.fetch(symbol))
            flight.add_done_callback(lambda done: self._landed(symbol, done))
        return await asyncio.shield(flight)

    @retried
    async def fetch(self, symbol: str) -> Summary:
        """The summary of a new snapshot. ApiError 404, 503."""
        asked = time.monotonic()
        async with self.database.snapshot() as snapshot:
            [news], rows = await snapshot.fetch_all(
                (Q["look"], {"seen": Int8(self.follower.rev)}), (Q["coverage"], {"symbol": symbol}), last=True
            )
        heard = time.monotonic()
        if not rows:
            raise unknown_symbol(symbol)
        seen = look(news)
        self.follower.hear(seen, asked)
        found = summary(symbol, rows[0], seen)
        found.heard, found.until = heard, asked + LASTS
        current = self.follower.look
        found.alive = current is not None and (current.epoch, current.rev) == (seen.epoch, seen.rev)
        if found.alive:
            if len(self.known) >= MOST:
                self.known.clear()
            self.known[symbol] = found
        return found

    def changed(self, _: list[Change] | None) -> None:
        """A revision has come: no summary of before may stand beside bars any more."""
        for found in self.known.values():
            found.alive = False
        self.known.clear()

    def forget(self, symbol: str) -> None:
        """This process has just changed what is wanted of a symbol."""
        found = self.known.pop(symbol, None)
        if found is not None:
            found.alive = False

    def _landed(self, symbol: str, flight: asyncio.Task[Summary]) -> None:
        del self.flights[symbol]
        if not flight.cancelled():
            flight.exception()  # seen, also when everybody who waited has gone
