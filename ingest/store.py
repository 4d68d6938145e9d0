"""The database's side of ingest: a connection that lands batches, each in one transaction (landing.py), exactly once.

Rows, dead letters, late ranges, coverage and Kafka positions are committed together, so a crash loses or keeps them
together.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final

import psycopg
import structlog
from psycopg import Connection, errors

from barwright import sql
from barwright.ingest import columns, metrics
from barwright.ingest.batch import Batch
from barwright.ingest.claims import Claim
from barwright.ingest.landing import Landing, position_of
from barwright.ingest.ticks import MINUTE, Rule, stamp

log = structlog.get_logger()
Q: Final = sql.queries("ingest")
# Seconds a partition stays on the slow path after a duplicate: two feeds of one market are a lasting state, and a batch
# that fails half-way costs more (251,000 rows/s fell to 116,000 with one duplicate in every other batch).
SLOW: Final = 10.0
# Seconds within which the database's clock must answer to be believed; off by half of it at most.
PROMPT: Final = 0.25
_WEEK: Final = 7 * 24 * 60
_MONDAY: Final = 4 * 24 * 60  # 1970-01-05, in minutes
_RETRIES: Final = 20
_UNNAMED: Final = 3


class Clock:
    """The database's time, told from the difference measured last."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time() + self.ahead

    def set(self, now: float, asked: float, answered: float) -> None:
        """Take the database's answer to a question asked and answered at these local times.

        A slow one (a stalled connection, a frozen process) says only between which two differences the truth lies: what
        is known is kept, or moved as little as that demands. Half-way between them it would be wrong by half the wait.
        """
        least, most = now - answered, now - asked
        self.ahead = (least + most) / 2 if most - least <= PROMPT else min(max(self.ahead, least), most)


# The symbols the database knows and the rule that numbers each one's trades; shared by the writers.
Rules = dict[str, Rule | None]


class Store:
    """A connection that lands batches. Not for more than one thread."""

    def __init__(self, url: str, clock: Clock, rules: Rules) -> None:
        self.clock, self.rules = clock, rules
        self.connection: Connection[Any] = sql.connect(url, "ingest", autocommit=True)
        self.backend = self.connection.info.backend_pid
        self.connection.execute(Q["raise_decompression_limit"])
        asked = time.time()
        row = self.connection.execute(Q["engine"]).fetchone()
        assert row is not None, "the database is not migrated"
        self.engine, now = row
        clock.set(now, asked, time.time())
        self._clock_at = time.monotonic()
        self._weeks: set[int] = set()
        # The last seal read. It never moves back: what lies below it is late, whatever happens meanwhile.
        self._seal = -1
        self._know()

    def close(self) -> None:
        """End the connection; an open transaction is undone."""
        self.connection.close()

    def set_clock(self) -> None:
        """Measure the clock again once a minute, and look which symbols there are: some were purged or registered."""
        if time.monotonic() - self._clock_at > 60:
            asked = time.time()
            row = self.connection.execute(Q["clock"]).fetchone()
            self.clock.set(row[0] if row else asked, asked, time.time())
            self._clock_at = time.monotonic()
            self._know()

    def _know(self) -> None:
        """Know the symbols there are, and no others: what was purged, or came after the copy that a database was
        restored from, has to be registered again when it comes again."""
        known = dict(self.connection.execute(Q["known_symbols"]).fetchall())
        for symbol in list(self.rules.keys() - known.keys()):
            self.rules.pop(symbol, None)
        self.rules.update(known)

    def standing(self, claims: Iterable[Claim]) -> dict[Claim, int | None]:
        """Where each claim's position stands; None where it is no longer ours."""
        claims = list(claims)
        rows = self.connection.execute(Q["positions"], columns.keys(claims)).fetchall()
        held = {(topic, partition): rest for topic, partition, *rest in rows}
        return {claim: position_of(claim, held.get((claim.topic, claim.partition))) for claim in claims}

    def register(self, batch: Batch) -> bool:
        """Make the batch's new symbols known; False where another process numbered one of them by another rule."""
        if not batch.registered:
            return True
        new = batch.registered
        rows = self.connection.execute(Q["register"], {"symbols": list(new), "rules": list(new.values())}).fetchall()
        held = dict(rows)
        self.rules.update(held)
        # Not by `rules`: another writer that looked before this may just have taken them out again.
        return all(rule in (None, held[symbol]) for symbol, rule in new.items())

    def land(self, batch: Batch) -> dict[str, int]:
        """Commit a batch; returns the newest minute of each symbol that it brought something for.

        Raises FencedError; psycopg's errors where the outcome may be unknown.
        """
        self._prepare(batch)
        began = time.perf_counter()
        unnamed = 0
        for attempt in range(_RETRIES):
            landing = Landing(self.connection, batch, self._seal)
            slow = any(claim.slow_until > time.monotonic() for claim in batch.spans)
            try:
                (landing.merge if slow else landing.copy)()
            except errors.UniqueViolation as error:
                if slow:
                    return self._bisect(batch, error, began)
                _slow_down(batch)
            except (errors.DeadlockDetected, errors.SerializationFailure, errors.LockNotAvailable) as error:
                if attempt == _RETRIES - 1:
                    raise
                log.info("batch is tried again", error=str(error).strip())
                time.sleep(0.01 * (attempt + 1))
            except errors.InternalError_:
                # Citus says why a COPY failed on a worker in words only; on the slow path by its code.
                if slow:
                    raise
                _slow_down(batch)
            except errors.CheckViolation as error:
                unnamed += not error.diag.constraint_name
                if error.diag.constraint_name or unnamed == _UNNAMED:
                    return self._bisect(batch, error, began)
                # No partition: someone dropped it after we had seen it. Citus names no constraint either.
                self._weeks.clear()
                self._prepare(batch)
            except (errors.DataError, errors.IntegrityError) as error:
                return self._bisect(batch, error, began)
            else:
                if landing.has_duplicates:
                    _slow_down(batch)
                return self._landed(landing, "merge" if slow else "copy", began)
        raise AssertionError("a batch is landed or fails")

    def _bisect(self, batch: Batch, error: psycopg.Error, began: float) -> dict[str, int]:
        log.warning("the database refused a row", error=str(error).strip())
        landing = Landing(self.connection, batch, self._seal)
        landing.bisect()
        return self._landed(landing, "bisect", began)

    def _landed(self, landing: Landing, path: str, began: float) -> dict[str, int]:
        metrics.landed(landing, path, time.perf_counter() - began, self.clock.now())
        self._seal = landing.seal
        news = {symbol: max(minutes) for symbol, minutes in landing.batch.minutes().items()}
        for one in landing.imports:
            if one.landed:
                news[one.symbol] = max(news.get(one.symbol, -1), *one.landed)
        return news

    def _prepare(self, batch: Batch) -> None:
        """Partitions for weeks not met before, in a transaction of their own; a missing one is never a dead letter."""
        weeks = {(minute - _MONDAY) // _WEEK for touched in batch.minutes().values() for minute in touched}
        for one in batch.imports:
            if one.is_fine and one.buckets:
                weeks.update(range((min(one.buckets) - _MONDAY) // _WEEK, (max(one.buckets) - _MONDAY) // _WEEK + 1))
        weeks -= self._weeks
        if weeks:
            times = [stamp((week * _WEEK + _MONDAY) * MINUTE) for week in sorted(weeks) if week >= 0] or [stamp(0)]
            self.connection.execute(Q["prepare_ticks"], {"times": times})
            self._weeks |= weeks


def _slow_down(batch: Batch) -> None:
    for claim in batch.spans:
        claim.slow_until = time.monotonic() + SLOW
