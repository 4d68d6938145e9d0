"""One batch's transaction: rows, dead letters, late ranges, coverage and positions together (design §4 and §5).

Locks are taken in one order everywhere: positions, tasks, the seal. A statement each: what is read in the statement
that waited for a lock may be what stood before the wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, LiteralString

import structlog
from psycopg import Connection, errors

from barwright import sql
from barwright.errors import BarwrightError
from barwright.ingest import columns, metrics
from barwright.ingest.batch import Batch
from barwright.ingest.claims import Claim, Letter
from barwright.ingest.imports import Import, Task
from barwright.ingest.late import late_ranges
from barwright.ingest.letters import letter_of, letters_of
from barwright.ingest.times import minute_of

log = structlog.get_logger()
Q: Final = sql.queries("ingest")
# Rows in one piece of COPY: the server parses one while we send the next. In one piece it was a quarter slower.
PIECE: Final = 500


class FencedError(BarwrightError):
    """Another process holds these partitions, or moved them: what is in hand of them must be dropped."""

    def __init__(self, claims: list[Claim]) -> None:
        super().__init__("lost " + ", ".join(f"{claim.topic}/{claim.partition}" for claim in claims))
        self.claims = claims


class Landing:
    """A batch in the transaction that lands it, by one of three ways. Leaves nothing open but where `open` alone was
    called; `has_duplicates` says, after `merge`, that something came that was there already."""

    def __init__(self, connection: Connection[Any], batch: Batch, seal: int) -> None:
        self.connection, self.batch = connection, batch
        # The last seal read. It never moves back: what lies below it is late, whatever happens meanwhile.
        self.seal = seal
        self.imports: list[Import] = []
        self.minutes: dict[str, set[int]] = {}
        self.letters: list[Letter] = list(batch.letters)
        self.cuts: set[tuple[str, int]] = set(batch.cuts)
        self.has_duplicates = False
        # For the metrics, by kind.
        self.arrived, self.inserted, self.late = (dict.fromkeys(metrics.KINDS, 0) for _ in range(3))

    def copy(self) -> None:
        """The fast way: rows straight into ticks, but for bars of which most are there already."""
        with self._undone():
            self._incoming()
            self.open()
            fresh = [one for one in self.imports if one.is_fine and not one.again]
            bars = self._bars(fresh)
            self.send(Q["copy_trades"], self.batch.trades)
            self.send(Q["copy_bars"], bars)
            self.minutes = {symbol: set(minutes) for symbol, minutes in self.batch.minutes().items()}
            for one in fresh:
                self.minutes.setdefault(one.symbol, set()).update(one.landed)
            self._copied(self.batch.trades, "trade")
            self._copied(bars, "bar")
            self._merge_again()
            self.close()

    def merge(self) -> None:
        """The slow way: only what is new or changed is inserted, and only that can be late."""
        with self._undone():
            self._incoming(always=True)
            self.open()
            bars = self._bars([one for one in self.imports if one.is_fine and not one.again])
            landed = self._merge_rows(self.batch.trades, bars)
            self.has_duplicates = landed < len(self.batch.trades) + len(bars)
            self._merge_again()
            self.close()

    def bisect(self) -> None:
        """Find the rows that the database refuses though we did not, and make dead letters of them."""
        with self._undone():
            self._incoming(always=True)
            self.open()
            for rows, is_trade in ((self.batch.trades, True), (self.batch.bars, False)):
                self._merge_halves(rows, is_trade)
            self.imports = [one for one in self.imports if self._bisect_import(one)]
            self.close(imports=False)

    def _copied(self, rows: list[str], kind: str) -> None:
        """Count what was copied."""
        self.arrived[kind] += len(rows)
        self.inserted[kind] += len(rows)
        if self.batch.newest_minute < self.seal:
            self.late[kind] += len(rows)
        elif any(min(minutes, default=self.seal) < self.seal for minutes in self.minutes.values()):
            self.late[kind] += metrics.late_rows(rows, self.seal)

    def _bisect_import(self, one: Import) -> bool:
        """Land an import by itself; what the database says of its rows or of all of it becomes letters."""
        counted = self.arrived.copy(), self.inserted.copy(), self.late.copy()
        try:
            with self.connection.transaction():
                if one.is_fine:
                    self._merge_halves(one.landing, False, one)
                self._land(one)
        except (errors.DataError, errors.IntegrityError) as error:
            self.letters.append(letter_of(self.batch, one, -1, str(error).strip()))
            self.arrived, self.inserted, self.late = counted
            return False
        return True

    def _merge_halves(self, rows: list[str], is_trade: bool, one: Import | None = None) -> None:
        """Merge rows; where that fails, each half by itself, down to the one that becomes a letter."""
        try:
            with self.connection.transaction():
                self._merge_rows(rows if is_trade else [], [] if is_trade else rows)
        except (errors.DataError, errors.IntegrityError) as error:
            if len(rows) > 1:
                for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
                    self._merge_halves(half, is_trade, one)
            elif one:
                self.letters.append(letter_of(self.batch, one, one.spoil(rows[0]), str(error).strip()))
            else:
                self.letters.extend(letters_of(self.batch, rows[0], str(error).strip()))
                ts, symbol = rows[0].split("\t")[:2]
                self.cuts.add((symbol, minute_of(ts)))

    def _merge_again(self) -> None:
        """Merge bars of which most are there already."""
        again = [row for one in self.imports if one.is_fine and one.again for row in one.landing]
        if self.imports:
            self._commit_together()
        self._merge_rows([], again)

    def _merge_rows(self, trades: list[str], bars: list[str]) -> int:
        """Notes the minutes of what was inserted or changed; returns how many rows that were."""
        landed = 0
        if trades or bars:
            self.connection.execute(Q["empty_incoming"])
        self.send(Q["copy_incoming_trades"], trades)
        self.send(Q["copy_incoming_bars"], bars)
        for kind, rows in (("trade", trades), ("bar", bars)):
            for symbol, minute, count in self.connection.execute(Q[f"merge_{kind}s"]) if rows else ():
                self.minutes.setdefault(symbol, set()).add(minute)
                landed += count
                self.inserted[kind] += count
                self.late[kind] += count if minute < self.seal else 0
            self.arrived[kind] += len(rows)
        return landed

    def _commit_together(self) -> None:
        """An empty COPY: on Citus it makes the commit one of two phases. What an import deletes is of one symbol, and a
        single worker's changes would be committed before the coordinator's: late ranges and position."""
        with self.connection.cursor() as cursor, cursor.copy(Q["copy_trades"]):
            pass

    def _bars(self, imports: list[Import]) -> list[str]:
        rows = list(self.batch.bars)
        for one in imports:
            rows += one.landing
        return rows

    def open(self) -> None:
        """Begin, hold the positions, the tasks and the seal; one round trip. Raises FencedError."""
        batch, claims = self.batch, columns.ordered(self.batch)
        tasks: dict[int, Task] = {}
        free: list[Task] = []
        has_bars: list[bool] = []
        with self.connection.pipeline():
            self.connection.execute(Q["begin"])
            positions = self.connection.execute(Q["lock_positions"], columns.keys(claims))
            if batch.imports:
                ids = sorted({one.task for one in batch.imports if one.task is not None})
                held_tasks = self.connection.execute(Q["lock_tasks"], {"ids": ids})
                untasked = self.connection.execute(Q["kept_live"], columns.asked(batch.imports))
                full = self.connection.execute(Q["has_bars"], columns.spans(batch.imports))
            if batch.newest_minute >= self.seal:
                self.connection.execute(Q["hold_seal"])
                seal = self.connection.execute(Q["late_below"])
                self.seal = (seal.fetchone() or [0])[0]
            if batch.imports:
                tasks = {row[0]: Task(*row) for row in held_tasks}
                free = [Task(*row) for row in untasked]
                has_bars = (full.fetchone() or [[]])[0]
            held = {(topic, partition): rest for topic, partition, *rest in positions}
        lost = [
            claim
            for claim in claims
            if position_of(claim, held.get((claim.topic, claim.partition))) != batch.spans[claim].begin
        ]
        if lost:
            raise FencedError(lost)
        unasked = iter(free)
        wanted = [(one, next(unasked) if one.task is None else tasks.get(one.task)) for one in batch.imports]
        self.imports = [one for (one, task), is_full in zip(wanted, has_bars, strict=True) if one.settle(task, is_full)]
        if len(self.imports) < len(wanted):
            log.info("imports of tasks that are gone or further are dropped", dropped=len(wanted) - len(self.imports))

    def send(self, statement: LiteralString, rows: list[str]) -> None:
        """COPY rows, if there are any."""
        if not rows:
            return
        with self.connection.cursor() as cursor, cursor.copy(statement) as copy:
            for first in range(0, len(rows), PIECE):
                copy.write("".join(rows[first : first + PIECE]))

    def close(self, imports: bool = True) -> None:
        """Dead letters, late ranges, coverage, positions, commit; one round trip."""
        late = late_ranges(self.minutes, self.seal)
        with self.connection.pipeline():
            if self.letters:
                self.connection.execute(Q["note_letters"], columns.letters(self.letters))
            if late:
                symbols, los, his = (list(column) for column in zip(*late, strict=True))
                self.connection.execute(Q["note_late"], {"symbols": symbols, "los": los, "his": his})
            if self.cuts:
                self.connection.execute(Q["cut"], columns.cuts(self.cuts))
            for claim in columns.ordered(self.batch):
                for heard in self.batch.tallies[claim].sessions():
                    self.connection.execute(Q["land_session"], columns.session(claim, heard))
            # By symbol: two batches that bring several of the same would else wait for each other.
            for one in sorted(self.imports, key=lambda one: one.symbol) if imports else ():
                self._land(one)
            # Each position was compared under its lock in `open`; the statement compares once more and moves none else.
            claims = columns.ordered(self.batch)
            self.connection.execute(Q["advance_positions"], columns.moves(self.batch, claims))
            self.connection.execute(Q["commit"])

    def _land(self, one: Import) -> None:
        """Say what an import proves; hours and days land with that."""
        runs = [] if one.is_fine else one.whole_days()
        for n, (lo, hi) in enumerate(runs, 1):
            self.connection.execute(Q["land_coarse"], columns.coarse(one, lo, hi, one.final and n == len(runs)))
        if not runs:
            self.connection.execute(Q["land_import"], columns.minutes(one))

    def _incoming(self, always: bool = False) -> None:
        """Have the table in which rows are merged, where they may have to be."""
        if always or self.batch.imports:
            self.connection.execute(Q["incoming"])

    @contextmanager
    def _undone(self) -> Iterator[None]:
        """Roll back what fails, as far as there is still a connection."""
        try:
            yield
        except BaseException:
            if not self.connection.broken:
                self.connection.rollback()
            raise


def position_of(claim: Claim, held: list[Any] | None) -> int | None:
    """The position of (topic id, generation, position), if it is this claim's."""
    return held[2] if held is not None and held[:2] == [claim.topic_id, claim.generation] else None
