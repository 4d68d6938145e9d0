"""Tells the database, every two seconds, what this process's state machines are doing: /v1/status shows it."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import psycopg

from barwright import sql
from barwright.links.database import pooled
from barwright.machines.board import Reporter, Row, columns
from barwright.metrics.health import Health
from barwright.settings import Settings

Q = sql.queries("machines")
ENGINE = sql.queries("metrics")["engine"]


class Told:
    """The table `actor` as one process writes it; a connection that is lost is made again by the next report."""

    def __init__(self, settings: Settings, role: str) -> None:
        self.settings, self.role = settings, role
        self.instance = f"{socket.gethostname()}:{os.getpid()}:{int(time.time())}"
        self.engine = ""
        self._connection: psycopg.Connection[Any] | None = None

    def write(self, rows: list[Row]) -> None:
        """Replace what the table says of this process. Raises psycopg.Error."""
        if self._connection is None or self._connection.closed:
            self._connection = sql.connect(
                self.settings.database_url, f"{self.role}-states", pooled(self.settings), autocommit=True
            )
            row = self._connection.execute(ENGINE).fetchone()
            self.engine = str(row[0]) if row else ""
        names = {"role": self.role, "instance": self.instance}
        try:
            self._connection.execute(Q["tell_states"], {**names, **columns(rows)})
        except psycopg.Error:
            self._connection.close()
            raise
        if not rows:
            self._connection.close()


def reporter(settings: Settings, role: str, health: Health) -> Reporter:
    """A reporter of this process's board, to be used as a context; it is how `health` knows of the database."""
    told = Told(settings, role)
    found = Reporter(told.write)
    health.engine = lambda: told.engine
    health.check("database", lambda: found.is_heard, kept=0)
    return found
