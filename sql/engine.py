"""The two engines behind one small interface: seal what is over, advance the levels, repair what late data touched.

Everything above sql/ knows an engine by this alone. A connection given here must be in autocommit: a TimescaleDB
refresh refuses a transaction, and each step is a transaction of its own.
"""

import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from psycopg.types.json import Jsonb

from barwright.sql import queries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection

Q = queries("maintain")
# A span of at most this many buckets (a day of 1m) is refreshed in one batch, which never shows less than before;
# longer ones go oldest first in batches of as many (the default, newest first by 10, hid 2,800 of 2,880 visible bars
# for 1.6 s).
BATCH = 1440
# Levels whose public view joins the aggregate with coarse bars (timescaledb/history.sql).
AGGREGATES = {"1h": "cagg_1h", "4h": "cagg_4h", "1d": "cagg_1d"}
MONDAY = datetime.fromisoformat("2000-01-03T00:00:00Z")


@dataclass(frozen=True)
class Level:
    """One level of bars: its name (`5m`), width, the level it is built from, and how far it is sealed and rolled up.

    Its buckets below `computable` are final: what they were made of was dropped. None: nothing was.
    """

    name: str
    width: timedelta
    parent: str | None
    sealed: datetime
    watermark: datetime
    computable: datetime | None = None

    def floor(self, ts: datetime) -> datetime:
        """The start of the bucket that holds `ts`."""
        return ts - (ts - MONDAY) % self.width

    def ceil(self, ts: datetime) -> datetime:
        """The first bucket start at or after `ts`."""
        return self.floor(ts + self.width - timedelta.resolution)


class Engine(Protocol):
    """What maintain needs of a database."""

    name: str

    def seal(self, lag: timedelta) -> None:
        """Move the seal to `lag` before the database's clock; psycopg's LockNotAvailable while ingest holds it."""

    def advance(self, level: str) -> None:
        """Roll a level up to its seal and its parent's watermark; its watermark follows."""

    def repair(self, budget: float = inf) -> int:
        """Put late data right at every level and write revisions; returns how many late ranges were answered.

        What would take longer than about `budget` seconds is left for the next call.
        """


class Postgres:
    """Rollup tables under a watermark: the work is two functions in the database."""

    name = "postgres"

    def __init__(self, connection: "Connection[Any]") -> None:
        self.connection = connection

    def seal(self, lag: timedelta) -> None:
        """See Engine."""
        with self.connection.transaction():
            self.connection.execute(Q["lock_timeout"])
            self.connection.execute(Q["move_seal"], {"lag": lag})

    def advance(self, level: str) -> None:
        """See Engine; step by step after an outage."""
        while _row(self.connection.execute(Q["advance"], {"level": level}))[0]:
            pass

    def repair(self, budget: float = inf) -> int:  # noqa: ARG002
        """See Engine; one transaction for all: 60 days of one symbol's minutes take 0.7 s."""
        return int(_row(self.connection.execute(Q["repair"]))[0])


class Citus(Postgres):
    """The same tables on several machines. The coordinator shows a commit before the workers do, so what was committed
    is waited for before it is computed with, and before anyone is told of it."""

    def advance(self, level: str) -> None:
        """See Engine."""
        *_, watermark, goal = _row(self.connection.execute(Q["goals"], {"level": level}))
        if goal > watermark:
            self.connection.execute(Q["settle"])
            super().advance(level)

    def repair(self, budget: float = inf) -> int:  # noqa: ARG002
        """See Engine; bars first, then, in a second transaction, the revisions. Killed between, it is begun again."""
        ids = _row(self.connection.execute(Q["begin_repair"]))[0]
        if ids:
            self.connection.execute(Q["settle"])
            self.connection.execute(Q["finish_repaired"], {"ids": ids})
        return len(ids)


class Timescale(Postgres):
    """Continuous aggregates, refreshed from our own watermarks."""

    name = "timescaledb"

    def __init__(self, connection: "Connection[Any]", version: tuple[int, ...]) -> None:
        super().__init__(connection)
        # A refresh may change any number of compressed bars (53400 else, for ever).
        connection.execute(Q["raise_decompression_limit"])
        self.takes_options = version >= (2, 28)

    def seal(self, lag: timedelta) -> None:
        """See Engine; first notes what a policy refreshed past the seal while no maintain ran."""
        self.connection.execute(Q["overtaken"])
        super().seal(lag)

    def advance(self, level: str) -> None:
        """See Engine. The watermark moves after the refresh has returned: a killed run is begun again."""
        with self._maintenance():
            name, width, watermark, goal = _row(self.connection.execute(Q["goals"], {"level": level}))
            if goal > watermark:
                self._refresh(name, watermark, goal, width)
                self.connection.execute(Q["move_watermark"], {"level": name, "watermark": goal})

    def repair(self, budget: float = inf) -> int:
        """See Engine; a few days at a time, so that late ticks need not wait for a year's import."""
        self.connection.execute(Q["forget_purged"])
        over, total = time.monotonic() + budget, 0
        while repaired := self._repair_some():
            total += repaired
            if time.monotonic() > over:
                break
        return total

    def _repair_some(self) -> int:
        """Whole buckets below the seal, bottom up: the extension's watermark stops at the last bucket with data, and
        clamping to that once left 2 of 61 bars. And above what was dropped: a refresh there would delete the bars."""
        with self._maintenance():
            ids, late, forced = _row(self.connection.execute(Q["late_spans"]))
            if not ids:
                return 0
            for level in levels(self.connection):
                for span, force in [*((span, False) for span in late or ()), *((span, True) for span in forced or ())]:
                    lo, hi = level.floor(span.lower), min(level.ceil(span.upper), level.floor(level.sealed))
                    lo = max(lo, level.computable or lo)
                    if lo < hi:
                        self._refresh(level.name, lo, hi, level.width, force)
            self.connection.execute(Q["finish_repair"], {"ids": ids})
            return len(ids)

    def _refresh(self, level: str, lo: datetime, hi: datetime, width: timedelta, force: bool = False) -> None:
        """Materialise [lo, hi) so that readers never see less than before; `force`: also what has not changed."""
        args = {"view": f"barwright.{AGGREGATES.get(level, f'ohlcv_{level}')}", "lo": lo, "hi": hi, "force": force}
        if not self.takes_options:
            self.connection.execute(Q["refresh_old"], args)
        elif (hi - lo) / width <= BATCH:
            self.connection.execute(Q["refresh"], {**args, "options": Jsonb({"buckets_per_batch": 0})})
        else:
            options = {"buckets_per_batch": BATCH, "refresh_newest_first": False}
            self.connection.execute(Q["refresh"], {**args, "options": Jsonb(options)})

    @contextmanager
    def _maintenance(self) -> "Iterator[None]":
        """The maintenance lock, by session since a refresh is several transactions; a lost connection frees it."""
        self.connection.execute(Q["lock_maintenance"])
        try:
            yield
        finally:
            if not self.connection.closed:
                self.connection.execute(Q["unlock_maintenance"])


def engine_of(connection: "Connection[Any]") -> Engine:
    """The engine this database was built with."""
    name, version, is_citus = _row(connection.execute(Q["engine"]))
    if name == "postgres":
        return Citus(connection) if is_citus else Postgres(connection)
    return Timescale(connection, tuple(int(part) for part in version.split("-")[0].split(".")))


def levels(connection: "Connection[Any]") -> list[Level]:
    """Every level, bottom up, as it stands now."""
    return [Level(*row) for row in connection.execute(Q["levels"])]


def _row(cursor: Any) -> tuple[Any, ...]:
    """The one row of a query that always has one."""
    row = cursor.fetchone()
    assert row is not None
    return tuple(row)
