"""Figures about the whole database, which no process can count: lags, gaps, tasks, the auditor's findings.

Whoever exports them says the same, so they are never added up over processes.
"""

from __future__ import annotations

import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

import psycopg
import structlog
from prometheus_client import Metric

from barwright import sql
from barwright.metrics.families import Family, Labels
from barwright.settings import Settings

log = structlog.get_logger()
Q: Final = sql.queries("metrics")
# What was read is told again for so many times as long as reading took (0.3 ms a symbol), and for a second.
REST: Final = 20
LEAST: Final = 1.0
# Seconds that who asks waits for them.
PATIENCE: Final = 5.0
POSITIONS: Final = (
    Family("positions", "Sum of the Kafka positions: records read and committed.", ("topics",)),
    Family("position_rows", "Rows landed from the topics that are there.", ("topics",)),
    Family("position_skipped", "Records that were gone from the log before they were read.", ("topics",)),
    Family("position_age_seconds", "Time since a position moved.", ("topics",)),
)
FAMILIES: Final = (
    Family("watermark_lag_seconds", "How far a level's watermark is behind the database's clock.", ("level",)),
    Family("seal_lag_seconds", "How far a level's seal is behind the database's clock.", ("level",)),
    Family("watermark_overdue_seconds", "For how long a level's next bucket is over and not rolled up.", ("level",)),
    Family("watermark_ahead_seconds", "How far the newest watermark, the extension's own too, is ahead of the clock."),
    Family("gaps", "Spans of registered symbols that are missing or await repair."),
    Family("gap_missing_seconds", "Length of all gaps."),
    Family("gap_oldest_age_seconds", "For how long the oldest gap has been there; 0 where there is none."),
    Family("late_ranges", "Spans of late ticks that await repair."),
    Family("late_range_oldest_age_seconds", "For how long the oldest of them has waited; 0 where there is none."),
    Family("backfill_tasks", "Open backfill tasks.", ("status",)),
    Family("backfill_oldest_age_seconds", "Time since the oldest open task was filed; 0 where there is none."),
    Family("backfill_failing_tasks", "Open tasks whose last attempt failed."),
    Family("symbols", "Symbols.", ("state",)),
    *POSITIONS,
    Family("revisions", "Changes of closed bars.", kind="counter"),
    Family("audited_bars", "Closed bars that the auditor looked at.", kind="counter"),
    Family("audit_findings", "Wrong bars, and trades that share a number, found by the auditor.", kind="counter"),
    Family("audit_findings_open", "Wrong bars that are not repaired yet."),
    Family("audit_age_seconds", "Time since the auditor looked at a bar."),
    Family("actors", "State machines of all roles, as they told the database.", ("role", "machine", "state")),
)
AGE: Final = Family("overview_age_seconds", "Time since the figures about the whole database were read.")


def metrics(figures: Iterable[Sequence[Any]], positions: Iterable[Sequence[Any]], dynamic: str) -> list[Metric]:
    """The rows of the queries `overview` and `positions`; `dynamic` is the pattern of topics with history."""
    found: dict[str, dict[Labels, float]] = defaultdict(dict)
    for name, labels, value in figures:
        found[name][tuple(labels)] = value
    fits = re.compile(dynamic).match
    for topic, *values in positions:
        topics = ("dynamic" if fits(topic) else "fixed",)
        for family, value in zip(POSITIONS, values, strict=True):
            old = found[family.name].get(topics)
            is_age = family is POSITIONS[-1]
            found[family.name][topics] = value if old is None else min(old, value) if is_age else old + value
    return [family.of(found[family.name]) for family in FAMILIES]


class Overview:
    """Reads them when it is asked, on a connection of its own; says nothing while the database does not answer."""

    families = (*FAMILIES, AGE)

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None
        self._metrics: list[Metric] = []
        self._read_at = self._rest_until = 0.0
        self._reading: threading.Event | None = None

    def collect(self) -> Iterable[Metric]:
        """See Collector."""
        with self._lock:
            if self._reading is None and time.monotonic() >= self._rest_until:
                self._reading = threading.Event()
                # In a thread, since a frozen database would hold up everything else that is asked.
                threading.Thread(target=self._read, args=(self._reading,), name="overview", daemon=True).start()
            reading, found = self._reading, self._metrics
        if reading is not None:
            found = self._metrics if reading.wait(PATIENCE) else []
        return [*found, AGE.of({(): time.monotonic() - self._read_at})] if found else []

    def _read(self, done: threading.Event) -> None:
        began = time.monotonic()
        try:
            found = self._found()
        except Exception as error:
            # Whatever it was: who asks next must not wait for this thread.
            log.warning("the figures about the whole database were not read", error=f"{type(error).__name__}: {error}")
            found = []
            if self._connection is not None:
                self._connection.close()
        with self._lock:
            self._metrics, self._read_at, self._reading = found, time.monotonic(), None
            self._rest_until = self._read_at + max(LEAST, REST * (self._read_at - began))
        done.set()

    def _found(self) -> list[Metric]:
        if self._connection is None or self._connection.closed:
            self._connection = sql.connect(self.settings.database_url, "metrics", autocommit=True)
            self._connection.execute("set statement_timeout = '8s'")
        figures, positions = (self._connection.execute(Q[name]).fetchall() for name in ("overview", "positions"))
        return metrics(figures, positions, self.settings.dynamic_pattern)
