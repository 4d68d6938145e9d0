"""One look at a database: what the checks judge, and what `barwright status` shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg

from barwright import sql

Q = sql.queries("doctor")
OVERVIEW = sql.queries("metrics")
ROLES = ("feed", "ingest", "maintain", "serve")
Connection = psycopg.Connection[Any]


class Server(NamedTuple):
    """The database server; `revision` is the schema's, `clock` in seconds, `collation` what text is sorted by."""

    engine: str
    number: int
    postgres: str
    timescaledb: str | None
    edition: str | None
    revision: str | None
    clock: float
    is_standby: bool
    user: str
    connections: int
    most_connections: int
    collation: str
    collation_has_changed: bool


class Process(NamedTuple):
    """Connections of one of our programs as one user."""

    program: str
    user: str
    connections: int
    is_superuser: bool


class State(NamedTuple):
    """How many of a process's machines are in a state, and an error among them."""

    role: str
    instance: str
    machine: str
    state: str
    machines: int
    error: str | None


class Position(NamedTuple):
    """Where ingest stands in a topic: the sum of its partitions' positions, rows landed, records lost to it, and the
    seconds since it moved."""

    topic: str
    next: float
    rows: float
    skipped: float
    age: float


class Letters(NamedTuple):
    """Dead letters that nobody sent again: all, of the last hour, the newest one's reason."""

    total: int
    lately: int
    reason: str | None


class Job(NamedTuple):
    """A background job of TimescaleDB."""

    procedure: str
    on: str | None
    status: str | None
    failures: int | None
    next_start: Any


@dataclass(frozen=True)
class Look:
    """All of it. `figures` are those of the metrics (metrics/overview.py): by name, then by label."""

    server: Server
    processes: list[Process]
    states: list[State]
    figures: Mapping[str, Mapping[tuple[str, ...], float]]
    positions: list[Position]
    letters: Letters
    failing: tuple[str, str] | None
    blind: list[str]
    jobs: list[Job]

    def figure(self, name: str, *labels: str) -> float:
        """One figure; 0 where there is none."""
        return self.figures.get(name, {}).get(labels, 0.0)

    def running(self, role: str) -> bool:
        """Whether a process of a role is connected."""
        return any(process.program == role for process in self.processes)


def look(connection: Connection) -> Look:
    """Look at a migrated database. Raises psycopg.Error, UndefinedTable where it is not migrated."""
    figures: dict[str, dict[tuple[str, ...], float]] = defaultdict(dict)
    for name, labels, value in connection.execute(OVERVIEW["overview"]):
        figures[name][tuple(labels)] = value
    server = Server(*_rows(connection, "server")[0])
    extended = server.engine == "timescaledb" and server.timescaledb is not None
    return Look(
        server=server,
        processes=[Process(*row) for row in _rows(connection, "processes")],
        states=[State(*row) for row in _rows(connection, "states")],
        figures=figures,
        positions=[Position(*row) for row in connection.execute(OVERVIEW["positions"])],
        letters=Letters(*_rows(connection, "letters")[0]),
        failing=next(iter(_rows(connection, "failing")), None),
        blind=[name for (name,) in _rows(connection, "aggregates")] if extended else [],
        jobs=[Job(*row) for row in _rows(connection, "jobs")] if extended else [],
    )


def _rows(connection: Connection, query: str) -> list[tuple[Any, ...]]:
    return connection.execute(Q[query]).fetchall()
