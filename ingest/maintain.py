"""The Coordinator: seals what is over, rolls the levels up, repairs what late ticks touched, asks for what is missing,
and audits. One is active; others stand by."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from math import inf
from typing import Any, Final

import psycopg
import structlog
import tenacity
from psycopg import Connection

from barwright import sql
from barwright.ingest import maintain_metrics as metrics
from barwright.ingest import policies
from barwright.links.database import demand_sessions
from barwright.machines.coordinator import Coordinator
from barwright.metrics.health import Health, Loop
from barwright.metrics.listener import listening
from barwright.metrics.overview import Overview
from barwright.reporting import reporter
from barwright.settings import Settings
from barwright.sql.engine import Engine, engine_of, levels

log = structlog.get_logger()
Q = sql.queries("maintain")
# Symbols that tasks are filed for in one round: 0.3 ms each, and what is filed.
SYMBOLS: Final = 200
# The look for symbols that miss something rests 10 times as long as it took: 9 % of a core at most.
LOOK_REST: Final = 10
# Seconds between two looks at what is done once in a while: corrections that are due, what is to be forgotten.
SELDOM: Final = 60.0
# Seconds of repairs after which a round goes on: what is over must be closed meanwhile.
BUDGET: Final = 1.0
# The auditor rests 100 times as long as it worked: 1 % of a core at most.
REST: Final = 100


def run(settings: Settings, stop: threading.Event) -> None:
    """Work until `stop` is set; a lost database is waited for, with growing pauses."""
    demand_sessions(settings, "maintain")
    health = Health(settings, "maintain")
    loop = health.loop("round")

    def away(state: tenacity.RetryCallState) -> None:
        loop.rest()
        log.warning("no database", error=str(state.outcome and state.outcome.exception()))

    patient = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(psycopg.Error),
        wait=tenacity.wait_random_exponential(multiplier=0.2, max=5),
        sleep=tenacity.sleep_using_event(stop),
        stop=tenacity.stop_when_event_set(stop),
        before_sleep=away,
        retry_error_callback=lambda _: None,
    )
    with (
        reporter(settings, "maintain", health),
        listening(settings, health, Overview(settings)),
        Coordinator("") as machine,
    ):
        while not stop.is_set():
            patient(_session, settings, stop, machine, loop)


def _session(settings: Settings, stop: threading.Event, machine: Coordinator, loop: Loop) -> None:
    """Connect, wait to become the active one, then one round every interval; ends when the connection does."""
    loop.turn("connecting")
    with sql.connect(settings.database_url, "maintain", autocommit=True) as connection:
        while not _leads(connection):
            loop.rest()
            if stop.wait(settings.maintain_interval):
                return
            loop.turn("standing by")
        machine.lead()
        maintenance = Maintenance(connection, settings, machine, loop)
        log.info("maintaining", engine=maintenance.engine.name)
        metrics.LEADER.set(1)
        try:
            with policies.applied(settings):
                _rounds(maintenance, settings.maintain_interval, stop)
        finally:
            metrics.LEADER.set(0)
            machine.resign()


def _rounds(maintenance: Maintenance, interval: float, stop: threading.Event) -> None:
    """A round every interval, until `stop` is set or the connection is gone."""
    while not stop.is_set():
        begun = time.monotonic()
        try:
            with maintenance.machine.guard():
                maintenance.round()
            metrics.ROUNDS["done"].inc()
        except psycopg.Error as error:
            metrics.ROUNDS["failed"].inc()
            log.warning("round failed", error=str(error))
            if maintenance.connection.broken:
                return
        maintenance.loop.rest()
        stop.wait(max(0.0, interval - (time.monotonic() - begun)))


class Maintenance:
    """The rounds of the active process."""

    def __init__(self, connection: Connection[Any], settings: Settings, machine: Coordinator, loop: Loop) -> None:
        self.connection, self.settings, self.machine, self.loop = connection, settings, machine, loop
        self.engine = engine_of(connection)
        self._missing: list[str] = []
        self._look_at = self._seldom_at = self._audit_at = 0.0

    def round(self) -> None:
        """One round: what is sealed is rolled up, only what is rolled up is repaired; then what else is due."""
        now = time.monotonic()
        with self._step("seal"):
            seal(self.engine, timedelta(seconds=self.settings.seal_lag))
        with self._step("advance"):
            advance(self.engine, self.connection)
        with self._step("repair"):
            repair(self.engine, BUDGET)
        with self._step("file"):
            self._file()
        if now >= self._seldom_at:
            self._seldom_at = now + min(SELDOM, 3600 * self.settings.correction_hours)
            with self._step("correct"):
                self._seldom()
        if now >= self._audit_at:
            began = time.monotonic()
            with self._step("audit"):
                audit(self.connection)
            self._audit_at = began + REST * (time.monotonic() - began)
        with self._step("notify"):
            metrics.LANDED.inc(self._number(Q["finish_tasks"], {}))
        self.machine.rest()

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        """A step of the round: an event of the machine."""
        self.loop.turn(name)
        self.machine.send(name)
        with metrics.STEPS[name].time():
            yield

    def _file(self) -> None:
        """File tasks for symbols that miss something: all are looked at together, then filed some in each round."""
        began = time.monotonic()
        if not self._missing and began >= self._look_at:
            self._missing = [symbol for (symbol,) in self.connection.execute(Q["wanted"])]
            self._look_at = began + LOOK_REST * (time.monotonic() - began)
        some, self._missing = self._missing[:SYMBOLS], self._missing[SYMBOLS:]
        filed = self._number(Q["file_tasks"], {"symbols": some}) if some else 0
        if filed:
            log.info("filed", tasks=filed)
            metrics.FILED["gap"].inc(filed)

    def _seldom(self) -> None:
        every = timedelta(hours=self.settings.correction_hours)
        filed = self._number(Q["file_corrections"], {"every": every})
        if filed:
            log.info("asks for corrections", tasks=filed)
            metrics.FILED["correction"].inc(filed)
        age = timedelta(days=self.settings.revision_days)
        self.connection.execute(Q["forget_revisions"], {"age": age})
        self.connection.execute(Q["forget_tasks"], {"age": age})
        self.connection.execute(Q["fold_sessions"])

    def _number(self, query: Any, args: dict[str, Any]) -> int:
        row = self.connection.execute(query, args).fetchone()
        return int(row[0]) if row else 0


def round_of(engine: Engine, connection: Connection[Any], lag: timedelta) -> int:
    """Seal, advance every level bottom up, repair. Returns how many late ranges were repaired."""
    seal(engine, lag)
    advance(engine, connection)
    return repair(engine)


def seal(engine: Engine, lag: timedelta) -> None:
    """Seal what is over."""
    try:
        engine.seal(lag)
    except psycopg.errors.LockNotAvailable:
        # Ingest passes first; the seal tries again in the next round, and what is sealed already can be rolled up.
        log.debug("seal postponed")
        metrics.POSTPONED.inc()


def advance(engine: Engine, connection: Connection[Any]) -> None:
    """Roll every level up, bottom up."""
    for level in levels(connection):
        engine.advance(level.name)


def repair(engine: Engine, budget: float = inf) -> int:
    """Repair what late ranges touch, for about `budget` seconds; returns how many there were."""
    began = time.perf_counter()
    repaired = engine.repair(budget)
    if repaired:
        log.info("repaired", late_ranges=repaired)
        metrics.REPAIRED.inc(repaired)
        metrics.REPAIR_SECONDS.observe(time.perf_counter() - began)
    return repaired


def audit(connection: Connection[Any]) -> None:
    """Compare one closed bucket, chosen by chance, with its ticks; a difference is repaired by the next round."""
    row = connection.execute(Q["audit"], {"symbol": None}).fetchone()
    if row and row[3] is False:
        log.error("the auditor found a wrong bar", symbol=row[0], interval=row[1], bucket=row[2].isoformat())


def _leads(connection: Connection[Any]) -> bool:
    """Whether this process is the active one."""
    row = connection.execute(Q["lead"]).fetchone()
    return bool(row and row[0])
