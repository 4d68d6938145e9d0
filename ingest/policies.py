"""Compression and retention, beside the rounds of the active maintain: at its start and every hour.

In a thread with a connection of its own: to compress a chunk takes seconds, and what is over must be closed meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg
import structlog
from psycopg import Connection, errors
from psycopg.types.json import Jsonb

from barwright import sql
from barwright.settings import Settings

log = structlog.get_logger()
Q: Final = sql.queries("policies")
HOUR: Final = 3600.0
# Seconds until the next try where something was in the way: a reader, a repair, another process, no database.
AGAIN: Final = 60.0


@contextmanager
def applied(settings: Settings) -> Iterator[None]:
    """Apply the policies in the background for as long as this lasts; a chunk that is being compressed then is left."""
    stop, held = threading.Event(), list[Connection[Any]]()
    thread = threading.Thread(target=_keep, args=(settings, stop, held), name="policies", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        for connection in held:
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=2)
        thread.join(5)


def _keep(settings: Settings, stop: threading.Event, held: list[Connection[Any]]) -> None:
    """Apply them now and every hour."""
    while not stop.is_set():
        done = False
        try:
            with sql.connect(settings.database_url, "policies", autocommit=True) as connection:
                held[:] = [connection]
                row = connection.execute(Q["hold"]).fetchone()
                done = bool(row and row[0]) and apply(connection, settings, stop)
        except psycopg.Error as error:
            if not stop.is_set():
                log.warning("policies failed", error=str(error).strip())
        held.clear()
        stop.wait(HOUR if done else AGAIN)


def apply(connection: Connection[Any], settings: Settings, stop: threading.Event | None = None) -> bool:
    """Take the settings over, drop what is too old, compress what is due; True when all of that is done. Each chunk is
    a transaction of its own. psycopg.Error: something is left as it was."""
    connection.execute(
        Q["apply"],
        {
            "compress_days": settings.compress_after_days or None,
            "tick_days": settings.raw_retention_days,
            "level_days": Jsonb(settings.level_days),
            "chunk_hours": settings.chunk_hours,
        },
    )
    connection.execute(Q["set_refresh_floor"], {"floor_days": settings.refresh_floor})
    try:
        _drop(connection, "ticks", stop)
        for (level,) in connection.execute(Q["levels"]).fetchall():
            _drop(connection, level, stop)
        _compress(connection, stop)
    except errors.LockNotAvailable as error:
        log.info("policies wait", error=str(error).strip())
        return False
    return True


def _drop(connection: Connection[Any], name: str, stop: threading.Event | None) -> None:
    """Drop piece after piece; what a level is made of goes before it."""
    query = Q["drop_ticks" if name == "ticks" else "drop_bars"]
    total = 0
    while not (stop and stop.is_set()):
        row = connection.execute(query, {"level": name}).fetchone()
        if not row or not row[0]:
            break
        total += row[0]
    if total:
        log.info("dropped", what=name, count=total)


def _compress(connection: Connection[Any], stop: threading.Event | None) -> None:
    for name, chunk, end in connection.execute(Q["compressible"]).fetchall():
        if stop and stop.is_set():
            return
        connection.execute(Q["compress_ticks" if name == "ticks" else "compress_bars"], {"name": name, "chunk": chunk})
        log.info("compressed", what=name, until=end.isoformat())
