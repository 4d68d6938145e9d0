"""A symbol whose last day a test knows: imported, a gap, and live to this minute."""

from datetime import datetime, timedelta
from typing import Any

import psycopg

from tests.api.vouched import Vouched, now
from tests.sql.market import INSERT, Market

MINUTE = timedelta(minutes=1)
LENGTH, IMPORTED, GAP = 1300, 1200, (1240, 1252)  # minutes from the start


class Story:
    """Bars of a minute each: imported ones up to `IMPORTED`, then one trade a minute, none in `GAP`."""

    def __init__(self, connection: psycopg.Connection[Any], symbol: str) -> None:
        self.end = now(connection).replace(second=0, microsecond=0)
        self.start = self.end - LENGTH * MINUTE
        self.market = Market(connection, symbol, era=iter([self.start.year]))
        self.vouched = Vouched(connection, symbol).register(self.start)
        rows = [self._row(n) for n in range(LENGTH) if not GAP[0] <= n < GAP[1]]
        connection.execute("select prepare_ticks(%s)", ([row["ts"] for row in rows],))
        connection.cursor().executemany(INSERT, rows)
        self.vouched.imported((self.start, self.minute(GAP[0])), (self.minute(GAP[1]), self.end))
        self.vouched.live((self.end, self.end + timedelta(hours=1)))
        self.market.seal(self.end)

    def minute(self, n: int) -> datetime:
        """The nth minute."""
        return self.start + n * MINUTE

    def _row(self, n: int) -> dict[str, Any]:
        price = f"{1000 + (n * 37) % 53 + n / 1000:.3f}"
        if n < IMPORTED:
            high, low = float(price) + 5, float(price) - 5
            return self.market.bar(self.minute(n), f"{price} {high:.3f} {low:.3f} {price}", "2.5")
        return self.market.trade(self.minute(n), price, "1.25")

    def trade(self, price: str, at: datetime | None = None) -> None:
        """A trade lands now, or late in an earlier minute."""
        self.market.insert(self.market.trade(at or now(self.market.connection), price, "0.000000000000000001"))

    def fill(self) -> None:
        """The gap's history lands."""
        self.market.insert(*(
            self.market.bar(self.minute(n), "1000 1001 999 1000.5") for n in range(*GAP)
        ))  # fmt: skip
        self.market.repair()
        self.vouched.imported((self.minute(GAP[0]), self.minute(GAP[1])))
