"""Tells the database, every two seconds, what this process's state machines are doing: /v1/status shows it."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import psycopg

from barwright import sql
from barwright.machines.board import Reporter, Row, columns
from barwright.settings import Settings

Q = sql.queries("machines")


class Told:
    """The table `actor` as one process writes it; a connection that is lost is made again by the next report."""

    def __init__(self, settings: Settings, role: str) -> None:
        self.settings, self.role = settings, role
        self.instance = f"{socket.gethostname()}:{os.getpid()}:{int(time.time())}"
        self._connection: psycopg.Connection[Any] | None = None

    def write(self, rows: list[Row]) -> None:
        """Replace what the table says of this process. Raises psycopg.Error."""
        if self._connection is None or self._connection.closed:
            self._connection = sql.connect(self.settings.database_url, f"{self.role}-states", autocommit=True)
        names = {"role": self.role, "instance": self.instance}
        try:
            self._connection.execute(Q["tell_states"], {**names, **columns(rows)})
        except psycopg.Error:
            self._connection.close()
            raise
        if not rows:
            self._connection.close()


def reporter(settings: Settings, role: str) -> Reporter:
    """A reporter of this process's board, to be used as a context."""
    return Reporter(Told(settings, role).write)
