"""All checks in order, whatever is away."""

from __future__ import annotations

from typing import NamedTuple

from barwright import sql
from barwright.commands.common import connected
from barwright.doctor import broker, cache, database, replica, running, setup
from barwright.doctor.finding import Finding, problem
from barwright.doctor.look import Connection, Look, look
from barwright.errors import BarwrightError
from barwright.settings import Settings

Positions = dict[tuple[str, int], int]  # topic and partition: the next offset to land
POSITIONS = sql.queries("run")["positions"]


class Examination(NamedTuple):
    """What was found, the look at the database (None: it is away or not migrated), records that wait for ingest, the
    standby (None: there is none, or nothing to compare it with)."""

    findings: list[Finding]
    look: Look | None
    lag: int | None
    standby: replica.Standby | None = None

    @property
    def problems(self) -> list[Finding]:
        """What is wrong."""
        return [finding for finding in self.findings if finding.state == "problem"]

    @property
    def warnings(self) -> list[Finding]:
        """What is worth a look."""
        return [finding for finding in self.findings if finding.state == "warning"]


def examine(settings: Settings, thoroughly: bool = True) -> Examination:
    """Look at everything; not `thoroughly`: only at what changes while Barwright runs."""
    standby = replica.Standby(settings)
    findings, seen, positions = _database(settings, standby, thoroughly)
    kafka = broker.Broker(settings, positions)
    findings += kafka.checks(thoroughly)
    findings += cache.checks(settings)
    if seen:
        findings += running.checks(seen, kafka.lag)
    if thoroughly:
        findings += setup.checks(settings)
    return Examination(findings, seen, kafka.lag, standby if standby.state else None)


def _database(
    settings: Settings, standby: replica.Standby, thoroughly: bool
) -> tuple[list[Finding], Look | None, Positions]:
    """What the database says; one problem where it says nothing."""
    try:
        with connected(settings, "doctor") as connection:
            seen = look(connection)
            found = [*database.checks(connection, seen, settings)] if thoroughly else []
            found = found or [*database.revision(seen.server)]
            return [*found, *standby.checks(connection, thoroughly)], seen, _positions(connection)
    except BarwrightError as error:
        return [problem("database", error.message, error.hint)], None, {}


def _positions(connection: Connection) -> Positions:
    return {(topic, partition): at for topic, partition, at, _ in connection.execute(POSITIONS)}
