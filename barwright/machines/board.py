"""What the machines of this process are doing: a board of their states, and a thread that tells it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import structlog

log = structlog.get_logger()
# Rows at most, the longest unchanged leave first: a leak of machines must not become one of memory.
MOST: Final = 2_000
# Seconds a subject that ended in an error is still shown, and how many such at most.
SHOWN: Final = 60.0
FAILED: Final = 100
# Seconds between two reports.
PERIOD: Final = 2.0


class Row(NamedTuple):
    """What one machine is doing: `since` when it is in this state (aware, UTC); `error` is empty where all is well."""

    machine: str
    subject: str
    state: str
    error: str
    since: datetime


class Board:
    """The current states of the machines of one process; for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[int, Row] = {}
        self._failed: dict[tuple[str, str], tuple[float, Row]] = {}

    def put(self, token: int, row: Row) -> None:
        """Show a row under its machine's token."""
        with self._lock:
            self._rows.pop(token, None)
            self._rows[token] = row
            if len(self._rows) > MOST:
                del self._rows[next(iter(self._rows))]

    def remove(self, token: int) -> None:
        """Take a finished machine's row away; one that ended in an error is shown for a while."""
        with self._lock:
            row = self._rows.pop(token, None)
            if row is not None and row.error:
                self._failed[row.machine, row.subject] = (time.monotonic(), row)
                if len(self._failed) > FAILED:
                    del self._failed[next(iter(self._failed))]

    def rows(self) -> list[Row]:
        """One row for each (machine, subject), the latest to change, sorted by these."""
        with self._lock:
            oldest = time.monotonic() - SHOWN
            self._failed = {key: kept for key, kept in self._failed.items() if kept[0] >= oldest}
            found = [row for _, row in self._failed.values()] + list(self._rows.values())
        return sorted({(row.machine, row.subject): row for row in found}.values())


BOARD: Final = Board()


def columns(rows: Iterable[Row]) -> dict[str, list[Any]]:
    """Rows as the columns that the query `tell_states` takes, beside `role` and `instance`."""
    table = list(rows)
    return {
        "machines": [row.machine for row in table],
        "subjects": [row.subject for row in table],
        "states": [row.state for row in table],
        "errors": [row.error or None for row in table],
        "since": [row.since for row in table],
    }


class Reporter(threading.Thread):
    """Gives the board's rows to `write` every `period` seconds, and none at the end: what has ended does nothing.

    `write` may raise: it is called again with the next rows.
    """

    def __init__(self, write: Callable[[list[Row]], None], board: Board = BOARD, period: float = PERIOD) -> None:
        super().__init__(name="reporter", daemon=True)
        self.write, self.board, self.period = write, board, period
        # When it was last told, by the monotonic clock: that whoever is told answers.
        self.told_at = float("-inf")
        self._closing = threading.Event()
        self._failing = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self) -> None:
        """See Reporter."""
        while not self._closing.is_set():
            self._tell(self.board.rows())
            self._closing.wait(self.period)
        self._tell([])

    def close(self, patience: float = 5.0) -> None:
        """Tell the end, and wait for that so many seconds at most."""
        self._closing.set()
        self.join(patience)

    def _tell(self, rows: list[Row]) -> None:
        try:
            self.write(rows)
        except Exception as error:
            # Once for each outage: the role itself says more about it.
            if not self._failing:
                log.warning("states are not told", error=f"{type(error).__name__}: {error}".strip())
            self._failing = True
        else:
            self._failing = False
            self.told_at = time.monotonic()

    @property
    def is_heard(self) -> bool:
        """Whether it could be told within the last three periods."""
        return time.monotonic() - self.told_at < 3 * self.period


def now() -> datetime:
    """This moment."""
    return datetime.now(UTC)
