"""The Coordinator: seals what is over, rolls the levels up, repairs what late ticks touched. One is active."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import psycopg
import structlog
import tenacity
from psycopg import Connection

from barwright import sql
from barwright.settings import Settings
from barwright.sql.engine import Engine, engine_of, levels

log = structlog.get_logger()
Q = sql.queries("maintain")


def run(settings: Settings, stop: threading.Event) -> None:
    """Work until `stop` is set; a lost database is waited for, with growing pauses."""
    patient = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(psycopg.Error),
        wait=tenacity.wait_random_exponential(multiplier=0.2, max=5),
        sleep=tenacity.sleep_using_event(stop),
        stop=tenacity.stop_when_event_set(stop),
        before_sleep=lambda state: log.warning("no database", error=str(state.outcome and state.outcome.exception())),
        retry_error_callback=lambda _: None,
    )
    while not stop.is_set():
        patient(_session, settings, stop)


def _session(settings: Settings, stop: threading.Event) -> None:
    """Connect, wait to become the active one, then one round every interval; ends when the connection does."""
    with sql.connect(settings.database_url, "maintain", autocommit=True) as connection:
        while not _leads(connection):
            if stop.wait(settings.maintain_interval):
                return
        engine = engine_of(connection)
        log.info("maintaining", engine=engine.name)
        while not stop.is_set():
            try:
                round_of(engine, connection, timedelta(seconds=settings.seal_lag))
                connection.execute(Q["forget_revisions"], {"age": timedelta(days=settings.revision_days)})
            except psycopg.Error as error:
                log.warning("round failed", error=str(error))
                if connection.broken:
                    return
            stop.wait(settings.maintain_interval)


def round_of(engine: Engine, connection: Connection[Any], lag: timedelta) -> int:
    """Seal, advance every level bottom up, repair. Returns how many late ranges were repaired."""
    try:
        engine.seal(lag)
    except psycopg.errors.LockNotAvailable:
        # Ingest passes first; the seal tries again in the next round, and what is sealed already can be rolled up.
        log.debug("seal postponed")
    for level in levels(connection):
        engine.advance(level.name)
    repaired = engine.repair()
    if repaired:
        log.info("repaired", late_ranges=repaired)
    return repaired


def _leads(connection: Connection[Any]) -> bool:
    """Whether this process is the active one."""
    row = connection.execute(Q["lead"]).fetchone()
    return bool(row and row[0])
