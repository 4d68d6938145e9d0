"""Coverage as ingest lands it: by the database's own functions."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import psycopg
from psycopg.types.json import Jsonb
from psycopg.types.multirange import TimestamptzMultirange
from psycopg.types.range import TimestamptzRange

TOPIC_ID = "00000000-0000-0000-0000-000000000005"
Span = tuple[datetime, datetime]
_sessions = count(1)


class Vouched:
    """One symbol whose coverage a test decides."""

    def __init__(self, connection: psycopg.Connection[Any], symbol: str) -> None:
        self.connection = connection
        self.symbol = symbol

    def register(
        self, start: datetime, source: str = "simulator", history: str | None = "simulator", live: bool = True,
        grace: timedelta = timedelta(seconds=10),
    ) -> "Vouched":  # fmt: skip
        """Register the symbol; a start that no client could give too."""
        self.connection.execute(
            "select register_symbol(%s, %s, 'X~B~Q', 'B', 'Q', %s, %s, %s, %s)",
            (self.symbol, source, start, history, grace, live),
        )
        return self

    def imported(self, *spans: Span, interval: str = "1m") -> "Vouched":
        """Prove spans by an import."""
        proved = TimestamptzMultirange([TimestamptzRange(*span) for span in spans])
        self.connection.execute("select prove(%s, %s, 'simulator', %s)", (self.symbol, interval, proved))
        return self

    def live(self, *spans: Span) -> "Vouched":
        """Prove spans by a live session each, in which no trade came."""
        for lo, hi in spans:
            mark = {"n": 1, "from": lo.isoformat(), "to": hi.isoformat(), "count": 0, "seen": 0, "source": "simulator",
                    "symbols": [self.symbol]}  # fmt: skip
            self.connection.execute(
                "select land_session(%s, 'tick-data', 0, %s, %s, 0)",
                (f"test {next(_sessions)}", TOPIC_ID, Jsonb([mark])),
            )
        return self

    def cut(self, minutes: Iterable[datetime]) -> "Vouched":
        """Cut minutes out of live coverage."""
        minutes = list(minutes)
        self.connection.execute("select cut(%s, %s)", ([self.symbol] * len(minutes), minutes))
        return self

    def late(self, *spans: Span) -> "Vouched":
        """Let spans await repair."""
        for span in spans:
            self.connection.execute(
                "insert into late_range (symbol, span) values (%s, %s)", (self.symbol, TimestamptzRange(*span))
            )
        return self

    def repaired(self) -> "Vouched":
        """Nothing awaits repair any more."""
        self.connection.execute("delete from late_range where symbol = %s", (self.symbol,))
        return self

    def stop(self) -> "Vouched":
        """Follow it no more."""
        self.connection.execute("select stop_symbol(%s)", (self.symbol,))
        return self


def now(connection: psycopg.Connection[Any]) -> datetime:
    """The database's clock."""
    row = connection.execute("select clock_timestamp()").fetchone()
    assert row
    found: datetime = row[0]
    return found.astimezone(UTC)
