"""The ticks that all peers get: ten symbols, twenty trades of each a minute, from START on; in each peer's own form."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from bench import ingest, quest
from bench.ingest import BATCH, COLUMNS, START
from bench.quest import row

SYMBOLS, STEP = 10, timedelta(milliseconds=300)
SYMBOL = "SYM1USD"
NUMBERS = "open, high, low, close, volume, quote_volume, trades, buy_volume"
ALL = ",".join(f"SYM{n}USD" for n in range(SYMBOLS))
Row = tuple[str, ...]
__all__ = ["row"]


class Market(NamedTuple):
    """So many ticks, and the times that are asked for. The last minute is open: it has not been rolled up."""

    ticks: int

    @property
    def end(self) -> datetime:
        """The end of the last minute."""
        return (START + self.ticks * STEP + timedelta(minutes=1)).replace(second=0, microsecond=0)

    @property
    def sealed(self) -> datetime:
        """Until here all is closed."""
        return self.end - timedelta(minutes=1)

    @property
    def bars(self) -> int:
        """How many bars a page has: 500, or half of all minutes."""
        return min(500, (self.sealed - START) // timedelta(minutes=2))

    @property
    def times(self) -> dict[str, datetime]:
        """What questions name: `a` to `b` is a page of closed bars, `page` to `end` one with the open bar."""
        first = START + timedelta(minutes=min(60, self.bars // 2))
        span = timedelta(minutes=self.bars)
        return {"start": START, "end": self.end, "near": self.sealed - timedelta(minutes=10), "closed": self.sealed,
                "a": first, "b": first + span, "page": self.end - span}  # fmt: skip


def tick(n: int) -> dict[str, Any]:
    """The n-th message's tick."""
    return ingest.message(n) | {
        "symbol": f"SYM{n % SYMBOLS}USD", "ts": f"{START + n * STEP:%Y-%m-%dT%H:%M:%S.%f}Z",
        "side": "buy" if n // SYMBOLS % 3 else "sell",
    }  # fmt: skip


class Batches(NamedTuple):
    """The same ticks, 10,000 in each part, ready to be sent: what a bare limit is made of."""

    text: list[bytes]
    binary: list[bytes]
    lines: list[bytes]


def batches(connection: Any, rows: list[Row]) -> Batches:
    """As text and binary of COPY, and as QuestDB's lines."""
    parts = [rows[first : first + BATCH] for first in range(0, len(rows), BATCH)]
    texts = ["".join("\t".join(one) + "\n" for one in part).encode() for part in parts]
    return Batches(texts, _binary(connection, texts), [b"".join(map(quest.line, part)) for part in parts])


def _binary(connection: Any, texts: list[bytes]) -> list[bytes]:
    """In PostgreSQL's binary format, as the server writes it itself."""
    connection.execute(f"create temp table given as select {COLUMNS} from ticks limit 0")
    found = []
    for text in texts:
        connection.execute("truncate given")
        with connection.cursor().copy(f"copy given ({COLUMNS}) from stdin") as copy:
            copy.write(text)
        with connection.cursor().copy("copy given to stdout (format binary)") as copy:
            found.append(b"".join(copy))
    connection.execute("drop table given")
    return found


def shown(at: datetime) -> str:
    """A time as every peer reads it."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
