"""The database's side of ingest: one batch is one transaction, exactly once (design §4 and §5).

Rows, dead letters, late ranges and Kafka positions are committed together, so a crash loses or keeps them together.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, LiteralString

import psycopg
import structlog
from psycopg import Connection, errors

from barwright import sql
from barwright.errors import BarwrightError
from barwright.ingest.batch import Batch, Claim, Letter, late_ranges
from barwright.ingest.ticks import MINUTE, Rule, stamp

log = structlog.get_logger()
Q: Final = sql.queries("ingest")
# Rows in one piece of COPY: the server parses one while we send the next. In one piece it was a quarter slower.
PIECE: Final = 500
# Seconds a partition stays on the slow path after a duplicate: two feeds of one market are a lasting state, and a batch
# that fails half-way costs more (251,000 rows/s fell to 116,000 with one duplicate in every other batch).
SLOW: Final = 10.0
_WEEK: Final = 7 * 24 * 60
_MONDAY: Final = 4 * 24 * 60  # 1970-01-05, in minutes
_RETRIES: Final = 20


class FencedError(BarwrightError):
    """Another process holds these partitions, or moved them: what is in hand of them must be dropped."""

    def __init__(self, claims: list[Claim]) -> None:
        super().__init__("lost " + ", ".join(f"{claim.topic}/{claim.partition}" for claim in claims))
        self.claims = claims


class Clock:
    """The database's time, told from the difference measured last."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time() + self.ahead

    def set(self, now: float, asked: float, answered: float) -> None:
        """Take the database's answer to a question asked and answered at these local times."""
        self.ahead = now - (asked + answered) / 2


# The symbols the database knows and the rule that numbers each one's trades; shared by the writers.
Rules = dict[str, Rule | None]


class Store:
    """A connection that lands batches. Not for more than one thread."""

    def __init__(self, url: str, clock: Clock, rules: Rules) -> None:
        self.clock, self.rules = clock, rules
        self.connection: Connection[Any] = sql.connect(url, "ingest", autocommit=True)
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
        rules.update(self.connection.execute(Q["known_symbols"]).fetchall())

    def close(self) -> None:
        """End the connection; an open transaction is undone."""
        self.connection.close()

    def set_clock(self) -> None:
        """Measure the clock again once a minute."""
        if time.monotonic() - self._clock_at > 60:
            asked = time.time()
            row = self.connection.execute(Q["clock"]).fetchone()
            self.clock.set(row[0] if row else asked, asked, time.time())
            self._clock_at = time.monotonic()

    def standing(self, claims: Iterable[Claim]) -> dict[Claim, int | None]:
        """Where each claim's position stands; None where it is no longer ours."""
        claims = list(claims)
        rows = self.connection.execute(Q["positions"], _keys(claims)).fetchall()
        held = {(topic, partition): rest for topic, partition, *rest in rows}
        return {claim: _position(claim, held.get((claim.topic, claim.partition))) for claim in claims}

    def register(self, batch: Batch) -> bool:
        """Make the batch's new symbols known; False where another process numbered one of them by another rule."""
        if not batch.registered:
            return True
        new = batch.registered
        rows = self.connection.execute(Q["register"], {"symbols": list(new), "rules": list(new.values())}).fetchall()
        self.rules.update(rows)
        return all(rule in (None, self.rules[symbol]) for symbol, rule in new.items())

    def land(self, batch: Batch) -> None:
        """Commit a batch. Raises FencedError; psycopg's errors where the outcome may be unknown."""
        self._prepare(batch)
        for attempt in range(_RETRIES):
            slow = any(claim.slow_until > time.monotonic() for claim in batch.spans)
            try:
                with self._undone():
                    (self._merge if slow else self._copy)(batch)
                return
            except errors.UniqueViolation:
                for claim in batch.spans:
                    claim.slow_until = time.monotonic() + SLOW
            except (errors.DeadlockDetected, errors.SerializationFailure, errors.LockNotAvailable) as error:
                if attempt == _RETRIES - 1:
                    raise
                log.info("batch is tried again", error=str(error).strip())
                time.sleep(0.01 * (attempt + 1))
            except errors.CheckViolation as error:
                if error.diag.constraint_name:
                    self._bisect(batch, error)
                    return
                # No partition: someone dropped it after we had seen it.
                self._weeks.clear()
                self._prepare(batch)
            except (errors.DataError, errors.IntegrityError) as error:
                self._bisect(batch, error)
                return

    def _prepare(self, batch: Batch) -> None:
        """Partitions for weeks not met before, in a transaction of their own; a missing one is never a dead letter."""
        minutes = {minute for touched in batch.minutes().values() for minute in touched}
        weeks = {(minute - _MONDAY) // _WEEK for minute in minutes} - self._weeks
        if weeks:
            times = [stamp((week * _WEEK + _MONDAY) * MINUTE) for week in sorted(weeks) if week >= 0] or [stamp(0)]
            self.connection.execute(Q["prepare_ticks"], {"times": times})
            self._weeks |= weeks

    def _copy(self, batch: Batch) -> None:
        """The fast path: rows straight into ticks."""
        self._open(batch)
        self._send(Q["copy_trades"], batch.trades)
        self._send(Q["copy_bars"], batch.bars)
        self._close(batch, batch.minutes(), batch.letters)

    def _merge(self, batch: Batch) -> None:
        """The slow path: only what is new or changed is inserted, and only that can be late."""
        self.connection.execute(Q["incoming"])
        self._open(batch)
        minutes, landed = self._merge_rows(batch.trades, batch.bars)
        if landed < batch.rows:
            for claim in batch.spans:
                claim.slow_until = time.monotonic() + SLOW
        self._close(batch, minutes, batch.letters)

    def _bisect(self, batch: Batch, error: psycopg.Error) -> None:
        """Find the rows that the database refuses though we did not, and make dead letters of them."""
        log.warning("the database refused a row", error=str(error).strip())
        self.connection.execute(Q["incoming"])
        letters = list(batch.letters)
        with self._undone():
            self._open(batch)
            minutes: dict[str, set[int]] = {}
            for rows, is_trade in ((batch.trades, True), (batch.bars, False)):
                self._merge_halves(rows, is_trade, batch, minutes, letters)
            self._close(batch, minutes, letters)

    def _merge_halves(
        self, rows: list[str], is_trade: bool, batch: Batch, minutes: dict[str, set[int]], letters: list[Letter]
    ) -> None:
        """Merge rows; where that fails, each half by itself, down to the one that becomes a letter."""
        try:
            with self.connection.transaction():
                self.connection.execute(Q["empty_incoming"])
                touched, _ = self._merge_rows(rows if is_trade else [], [] if is_trade else rows)
        except (errors.DataError, errors.IntegrityError) as error:
            if len(rows) > 1:
                for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
                    self._merge_halves(half, is_trade, batch, minutes, letters)
            else:
                letters.extend(batch.letters_of(rows[0], str(error).strip()))
        else:
            for symbol, found in touched.items():
                minutes.setdefault(symbol, set()).update(found)

    def _merge_rows(self, trades: list[str], bars: list[str]) -> tuple[dict[str, set[int]], int]:
        """Returns the minutes of what was inserted or changed, by symbol, and how many rows that were."""
        minutes: dict[str, set[int]] = {}
        landed = 0
        self._send(Q["copy_incoming_trades"], trades)
        self._send(Q["copy_incoming_bars"], bars)
        for name in [*(["merge_trades"] if trades else []), *(["merge_bars"] if bars else [])]:
            for symbol, minute, count in self.connection.execute(Q[name]):
                minutes.setdefault(symbol, set()).add(minute)
                landed += count
        return minutes, landed

    def _open(self, batch: Batch) -> None:
        """Begin, hold the positions and the seal, a statement each; one round trip. Raises FencedError."""
        claims = _ordered(batch)
        with self.connection.pipeline():
            self.connection.execute(Q["begin"])
            positions = self.connection.execute(Q["lock_positions"], _keys(claims))
            if batch.newest_minute >= self._seal:
                self.connection.execute(Q["hold_seal"])
                seal = self.connection.execute(Q["late_below"])
                self._seal = (seal.fetchone() or [0])[0]
            held = {(topic, partition): rest for topic, partition, *rest in positions}
        lost = [
            claim
            for claim in claims
            if _position(claim, held.get((claim.topic, claim.partition))) != batch.spans[claim].begin
        ]
        if lost:
            raise FencedError(lost)

    def _send(self, statement: LiteralString, rows: list[str]) -> None:
        if not rows:
            return
        with self.connection.cursor() as cursor, cursor.copy(statement) as copy:
            for first in range(0, len(rows), PIECE):
                copy.write("".join(rows[first : first + PIECE]))

    def _close(self, batch: Batch, minutes: Mapping[str, Iterable[int]], letters: list[Letter]) -> None:
        """Dead letters, late ranges, positions, commit; one round trip."""
        claims = _ordered(batch)
        late = late_ranges(minutes, self._seal)
        with self.connection.pipeline():
            if letters:
                self.connection.execute(Q["note_letters"], _letter_columns(letters))
            if late:
                symbols, los, his = (list(column) for column in zip(*late, strict=True))
                self.connection.execute(Q["note_late"], {"symbols": symbols, "los": los, "his": his})
            # Each position was compared under its lock in _open; the statement compares once more and moves none else.
            self.connection.execute(Q["advance_positions"], _moves(batch, claims))
            self.connection.execute(Q["commit"])

    @contextmanager
    def _undone(self) -> Iterator[None]:
        """Roll back what fails, as far as there is still a connection."""
        try:
            yield
        except BaseException:
            if not self.connection.broken:
                self.connection.rollback()
            raise


def _ordered(batch: Batch) -> list[Claim]:
    return sorted(batch.spans, key=lambda claim: (claim.topic, claim.partition))


def _keys(claims: list[Claim]) -> dict[str, list[Any]]:
    return {"topics": [claim.topic for claim in claims], "partitions": [claim.partition for claim in claims]}


def _moves(batch: Batch, claims: list[Claim]) -> dict[str, list[Any]]:
    """The columns of advance_positions."""
    spans = [batch.spans[claim] for claim in claims]
    return {
        **_keys(claims),
        "generations": [claim.generation for claim in claims],
        "begins": [span.begin for span in spans],
        "ends": [span.end for span in spans],
        "rows": [span.rows for span in spans],
    }


def _letter_columns(letters: list[Letter]) -> dict[str, list[Any]]:
    """The columns of note_letters."""
    return {
        "topic_ids": [letter.claim.topic_id for letter in letters],
        "partitions": [letter.claim.partition for letter in letters],
        "offsets": [letter.offset for letter in letters],
        "items": [letter.item for letter in letters],
        "topics": [letter.claim.topic for letter in letters],
        "reasons": [letter.reason.replace("\0", "\\0") for letter in letters],
        "raws": [letter.raw for letter in letters],
    }


def _position(claim: Claim, held: list[Any] | None) -> int | None:
    """The position of (topic id, generation, position), if it is this claim's."""
    return held[2] if held is not None and held[:2] == [claim.topic_id, claim.generation] else None
