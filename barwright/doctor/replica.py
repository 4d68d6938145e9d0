"""Whether the standby of DATABASE_READ_URL can be read from, and is what it should be."""

from __future__ import annotations

import time
from typing import Any, Final, NamedTuple

import psycopg

from barwright import sql
from barwright.doctor.finding import Findings, problem, warning, well
from barwright.doctor.look import Connection, Q
from barwright.links.database import pooled
from barwright.settings import Settings

POSITION: Final = sql.queries("api")["position"]
PATIENCE: Final = 1.0  # seconds in which it should come to where the primary is
READ: Final = 5.0  # seconds that a read of the API may take


class Lag(NamedTuple):
    """How far the standby is behind its primary: seconds, and bytes of the log."""

    seconds: float
    size: int

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s ({self.size / 1e6:,.1f} MB)"


class Here(NamedTuple):
    """What speaks for and against reading from a standby; `age` in seconds, `patience` in milliseconds, -1: endless."""

    age: float | None
    paused: bool
    fed: bool
    patience: int
    tells: bool
    user: str
    is_superuser: bool
    denied: list[str] | None


class Standby:
    """The server of DATABASE_READ_URL. `state` is up, lagging, or down, as at /health/ready; `lag` None where it is not
    known; both empty where there is none."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lag: Lag | None = None
        self.state = ""

    def __str__(self) -> str:
        return f"{self.state}, {self.lag} behind" if self.lag else self.state

    def checks(self, primary: Connection, thoroughly: bool) -> Findings:
        """All of them, or whether it keeps up."""
        if not self.settings.database_read_url:
            return
        self.state = "down"
        try:
            with sql.connect(
                self.settings.database_read_url, "doctor", pooled(self.settings), autocommit=True
            ) as connection:
                yield from self._looked_at(primary, connection, thoroughly)
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedTable) as error:
            yield problem(
                "replica", f"Its user may not read what the API reads: {_first(error)}.",
                "Let DATABASE_READ_URL log in as DATABASE_URL of serve does, to the same database.",
            )  # fmt: skip
        except psycopg.Error as error:
            yield warning(
                "replica", f"It does not answer: {_first(error)}",
                "Start it, or correct DATABASE_READ_URL. All reads go to the primary meanwhile.",
            )  # fmt: skip

    def _looked_at(self, primary: Connection, standby: Connection, thoroughly: bool) -> Findings:
        ours, theirs = (_one(each, Q["identity"]) for each in (primary, standby))
        (start, _, _), (there, is_standby, _) = (_one(each, POSITION) for each in (primary, standby))
        if ours[0] != theirs[0]:
            yield problem("replica", "It belongs to another cluster than DATABASE_URL's.", "Correct DATABASE_READ_URL.")
        elif ours[1] != theirs[1] and start == there:
            yield problem("replica", "It names another database than DATABASE_URL.", "Correct DATABASE_READ_URL.")
        elif not is_standby and start == there:
            self.state, self.lag = "up", Lag(0.0, 0)
            yield warning("replica", "DATABASE_READ_URL names the primary: nothing is taken off it.", "Name a standby.")
        elif not is_standby:
            yield problem(
                "replica", "It was promoted: it takes writes of its own, and has nothing of DATABASE_URL's any more.",
                "Let DATABASE_URL name it, or make it a standby again (pg_rewind, pg_basebackup).",
            )  # fmt: skip
        else:
            yield from self._follows(primary, standby, thoroughly)

    def _follows(self, primary: Connection, standby: Connection, thoroughly: bool) -> Findings:
        here = Here(*_one(standby, Q["standby"]))
        lag = self.lag = _behind(primary, standby, here)
        self.state = "lagging" if lag.seconds > self.settings.replica_lag else "up"
        if self.state == "lagging":
            yield warning("replica", f"It is {lag} behind: reads go to the primary.", _why(here))
        elif _one(primary, Q["identity"]) != _one(standby, Q["identity"]):
            # All rows of its server are there, so these are another database's.
            yield problem("replica", "It names another database than DATABASE_URL.", "Correct DATABASE_READ_URL.")
            return
        else:
            yield well("replica", f"a standby, {lag} behind")
        if thoroughly:
            yield from _suits(here)


def _suits(here: Here) -> Findings:
    """Its user and its settings are those that reads need."""
    if here.denied:
        yield problem(
            "replica", f"{here.user} may not read {', '.join(here.denied)} there.",
            "Let DATABASE_READ_URL log in as DATABASE_URL of serve does.",
        )  # fmt: skip
    if here.is_superuser:
        yield warning("replica", f"It is read as the superuser {here.user}.",
                      "Give it the role of the API: docs/security.md")  # fmt: skip
    if not here.tells and 0 <= here.patience < READ * 1000:
        yield warning(
            "replica", f"It cuts off reads that are in the way of the log after {here.patience / 1000:g} s "
            "(max_standby_streaming_delay); they are asked again.",
            "Set hot_standby_feedback = on there, or let it wait for longer than a read takes, 5 s.",
        )  # fmt: skip


def _behind(primary: Connection, standby: Connection, here: Here) -> Lag:
    """Measured by the log: until the standby has what the primary has now, or else since what it has last replayed."""
    began = time.monotonic()
    goal = at = _one(primary, POSITION)[2]
    while True:
        found = _one(standby, POSITION)[2]
        passed = time.monotonic() - began
        at = min(goal, found)
        if at == goal:
            return Lag(passed, 0)
        if passed > PATIENCE:
            return Lag(max(passed, here.age or 0.0), goal - at)
        time.sleep(0.02)


def _why(here: Here) -> str:
    if here.paused:
        return "Its replay is paused: select pg_wal_replay_resume();"
    if not here.fed:
        return "It receives no log: can it reach the primary (primary_conninfo), and has that kept the log for it?"
    return "Is its disk or its network slow, or does a long read hold it up? See docs/operations.md#replicanotread"


def _one(connection: Connection, query: Any) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    assert row is not None
    return tuple(row)


def _first(error: psycopg.Error) -> str:
    return str(error).strip().partition("\n")[0]
