"""The roles of `barwright run`: one process each, started again when it dies."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path

from barwright.embedded.process import Child

SIMULATOR = "simulator"  # none where the environment names one
# The order in which they start; they stop in this order too, so that what feed has sent is landed and what is landed
# is rolled up. Only the simulator stops last, as the exchange whose end feed need not see.
NAMES = (SIMULATOR, "feed", "ingest", "maintain", "serve")
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 30.0
_HEALTHY = 60.0


class Role:
    """One role's process. One that dies is started again after 0.5 s, then 1 s … 30 s until it lives for a minute."""

    def __init__(self, name: str, home: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.environment = environment
        self.child = Child(home / "roles" / name, home / "logs" / f"{name}.log", "barwright")
        self.restarts = 0
        self._delay = _FIRST_DELAY
        self._started = 0.0
        self._due: float | None = None

    @property
    def state(self) -> str:
        """`running`, or how it ended and that it waits to start again."""
        return "running" if self.child.pid else f"ended ({self.child.status}), starts again"

    def start(self) -> None:
        """Start it. -P: what lies in its working directory is not to be imported."""
        self.child.start([sys.executable, "-P", "-m", "barwright", self.name], self.environment)
        self._started, self._due = time.monotonic(), None

    def tend(self) -> bool:
        """Start it again when it is dead and its delay is over; true when that has just been found out."""
        now = time.monotonic()
        if self.child.pid:
            return False
        if self._due is None:
            if now - self._started > _HEALTHY:
                self._delay = _FIRST_DELAY
            self._due, self._delay = now + self._delay, min(2 * self._delay, _LONGEST_DELAY)
            return True
        if now >= self._due:
            self.restarts += 1
            self.start()
        return False
