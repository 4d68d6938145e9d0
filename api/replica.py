"""Whether a standby may be read from: it answers, is one, is not far behind, and has all that this process has read.

How far behind is measured by the log itself: positions that the primary had written, and when they were seen, against
the position that the standby has replayed. That is right where nothing is written, and where the standby was cut off.
"""

import asyncio
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog
from psycopg import AsyncConnection

from barwright.api.database import Database, Q, Row, Server
from barwright.settings import Settings

PERIOD = 0.25  # seconds between two looks
PATIENCE = 1.0  # seconds a server has to answer one
NEAR = 1.0  # seconds the standby may be behind when reads go (back) to it
HOLD = 0.5  # seconds that reads may wait for it to have all that was read from the primary
TURN = 2.0  # seconds until a standby that is not to be read from is looked for anew: its name may be that of several
REST = 5.0  # seconds until that is tried again
MOST = 2000  # positions of the primary's that are remembered
FOUND = f"select position.*, ({Q['epoch']}) from ({Q['position']}) as position"
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Found:
    """A server as one look found it; `position` is how far its log was written, or replayed, and `epoch` tells whose
    database it holds."""

    start: float
    standby: bool
    position: int
    epoch: str


class Probe:
    """A connection of its own to one server, so that no queue of requests delays what it says."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.connection: AsyncConnection[Row] | None = None

    async def look(self) -> Found | None:
        """None where it does not answer."""
        try:
            async with asyncio.timeout(PATIENCE):
                if self.connection is None:
                    options: dict[str, Any] = {**self.server.options, "application_name": "barwright serve-lag"}
                    self.connection = await AsyncConnection.connect(
                        self.server.url, **{**options, "autocommit": True, "prepare_threshold": None}
                    )
                [row] = await (await self.connection.execute(FOUND)).fetchall()
        except (psycopg.Error, OSError, TimeoutError):
            await self.close()
            return None
        return Found(*row)

    async def close(self) -> None:
        """End the connection."""
        if self.connection is not None:
            with suppress(psycopg.Error):
                await self.connection.close()
            self.connection = None


class Replica:
    """Has the database read from its standby, or not; `lag` in seconds, None while it is not known."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.database = database
        self.most = settings.replica_lag
        self.lag: float | None = None
        self.against = "was not looked at yet"
        self.epoch = ""  # the primary's, as it was last seen
        self.written: deque[tuple[int, float]] = deque()
        self.probes = [Probe(database.primary)]
        if database.replica is not None:
            self.probes.append(Probe(database.replica))
        self.rested = 0.0
        self.turned = time.monotonic() + TURN
        self.answered = time.monotonic()  # the primary's last answer

    @property
    def used(self) -> bool:
        """Whether reads go to the standby."""
        return self.database.current is self.database.replica

    @property
    def reads(self) -> dict[str, bool]:
        """Whether reads go to the primary, and to the standby, where there is one."""
        return {"primary": True} if self.database.replica is None else {"primary": not self.used, "standby": self.used}

    @property
    def state(self) -> str:
        """`up`, `lagging` or `down`."""
        return "up" if self.used else "lagging" if self.lag is not None and self.lag > min(NEAR, self.most) else "down"

    async def run(self) -> None:
        """Look for ever; returns at once where there is no standby."""
        if self.database.replica is None:
            return
        try:
            while True:
                try:
                    await self._look(self.database.replica)
                except Exception:
                    log.exception("the standby was not looked at")
                await asyncio.sleep(PERIOD)
        finally:
            for probe in self.probes:
                await probe.close()

    async def _look(self, replica: Server) -> None:
        asked = time.monotonic()
        primary, standby = await asyncio.gather(*(probe.look() for probe in self.probes))
        if primary is not None:
            self.answered = asked
            self.database.primary.start = primary.start
            self.epoch = primary.epoch
            if len(self.written) < MOST:
                self.written.append((primary.position, asked))
        self.lag = self._measured(standby)
        self.against = self._against(primary, standby, replica)
        if not self.used:
            if not self.against and standby is not None and time.monotonic() > self.rested:
                await self._join(replica, standby, asked - self.answered > self.most)
            elif self.against and asked > self.turned:
                self.turned = asked + TURN
                await self.probes[1].close()
        elif self.against and primary is not None:
            self.database.use(self.database.primary, self.against)

    def _measured(self, standby: Found | None) -> float | None:
        """For how long the primary has had what the standby has not replayed."""
        if standby is None:
            return None
        while self.written and self.written[0][0] <= standby.position:
            self.written.popleft()
        return time.monotonic() - self.written[0][1] if self.written else 0.0

    def _against(self, primary: Found | None, standby: Found | None, replica: Server) -> str:
        """Why the standby is not to be read from; empty where it may be."""
        if standby is None:
            return "the standby is away"
        if not standby.standby and (primary is None or standby.start != primary.start):
            return "DATABASE_READ_URL names no standby"
        if self.epoch and standby.epoch != self.epoch:
            return "DATABASE_READ_URL names another Barwright's database"
        if self.used and standby.start != replica.start:
            return "the standby is another server than before"
        if primary is None:
            return ""  # what there is, is better than nothing
        lag, most = self.lag or 0.0, self.most if self.used else min(NEAR, self.most)
        return f"the standby is {lag:.1f} s behind" if lag > most else ""

    async def _join(self, replica: Server, standby: Found, alone: bool) -> None:
        """Read from the standby once it has all that was read; new reads wait for that, a moment. Where the primary has
        been away for long, what was not replayed is lost."""
        database, begun = self.database, time.monotonic()
        database.free.clear()
        try:
            while standby.position < database.seen and time.monotonic() - begun < HOLD:
                await asyncio.sleep(0.005)
                found = await self.probes[1].look()
                if found is None or found.start != standby.start:
                    return
                standby = found
            if standby.position >= database.seen or alone:
                replica.start = standby.start
                database.use(replica, "the primary is away" if alone else "the standby has caught up")
            else:
                self.rested = time.monotonic() + REST
        finally:
            database.free.set()
