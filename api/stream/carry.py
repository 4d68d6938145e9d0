"""What a lane carries from one look at its open minutes to the next, so that each look adds up only ticks that are new.

The sums are the database's (query `open`): here they are texts that it gave and is given again.
"""

import json
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

from psycopg import sql as psql

from barwright import sql
from barwright.api.database import Database, Row
from barwright.api.encode import COLUMNS, NULL
from barwright.api.intervals import moment
from barwright.api.span import Query

Q = sql.queries("stream")
RUN = psql.SQL(Q["run"])
OPEN_SQL = psql.SQL(Q["open"])
MOMENT_SQL = psql.SQL(Q["moment"]).format(run=RUN)
PAUSE = 60.0  # seconds without it, where ticks have no transactions' ids: somebody compressed the chunk of now


class Held(NamedTuple):
    """The sums of the minutes of one symbol from `lo` on, by bucket, of ticks of transactions below `cursor`."""

    cursor: str
    lo: int
    sums: dict[int, str]


class Holder(Protocol):
    """A series."""

    symbol: str
    held: Held | None


class Carry:
    """Of the series of one lane of minutes."""

    def __init__(self) -> None:
        self.run = ""
        self.able: bool | None = None  # None: not asked yet
        self.again = 0.0  # the monotonic time from which on it is tried

    async def ready(self, database: Database) -> bool:
        """Whether query `open` can be asked for now. ApiError 503."""
        if self.able is None:
            [[self.able]] = await database.fetch(Q["carries"])
        return self.able and time.monotonic() >= self.again

    def pause(self) -> None:
        """Do without for a while."""
        self.again = time.monotonic() + PAUSE

    def queries(self, series: Iterable[Holder], lo: int) -> list[Query]:
        """What to ask in one snapshot."""
        held = {one.symbol: _usable(one.held, lo) for one in series}
        told = [
            f'{{"symbol":{json.dumps(symbol)},"parts":[{",".join(one.sums.values())}]}}'
            for symbol, one in held.items()
            if one
        ]
        args = {
            "symbols": list(held), "cursors": [one and one.cursor for one in held.values()], "run": self.run,
            "held": f"[{','.join(told)}]", "lo": moment(lo), "null": NULL,
        }  # fmt: skip
        return [(MOMENT_SQL, {"lo": moment(lo)}), (_open(lo), args)]

    def take(
        self, series: Iterable[Holder], lo: int, now: Sequence[Row], rows: Iterable[Row]
    ) -> tuple[list[Row], list[str]]:
        """Bars as query `tails` gives them, and the symbols of which it has to be asked: they have no ticks, or some
        have gone, or they have imported bars; all of them while minutes close."""
        [(cursor, self.run, live)] = now
        if not live:
            return [], [one.symbol for one in series]
        sums: dict[str, dict[int, str]] = {}
        bars: dict[str, list[Row]] = {}
        for symbol, part, *bar in rows:
            if part is not None:
                sums.setdefault(symbol, {})[bar[0]] = part
            else:
                bars.setdefault(symbol, []).append((symbol, *bar))
        found, others = list[Row](), list[str]()
        for one in series:
            mine = bars.get(one.symbol, [])
            if not mine or any(bar[-1] == "true" for bar in mine):
                one.held = None
                others.append(one.symbol)
            else:
                one.held = Held(cursor, lo, sums.get(one.symbol, {}))
                found += mine
        return found, others


@lru_cache(maxsize=8)
def _open(lo: int) -> psql.Composed:
    return OPEN_SQL.format(columns=COLUMNS, run=RUN, since=psql.Literal(moment(lo)))


def _usable(held: Held | None, lo: int) -> Held | None:
    """None where it says nothing of the minutes from `lo` on."""
    return held if held and held.lo <= lo <= max(held.sums, default=lo - 1) else None
