"""Whether a role lives (its loops turn) and can work (what it needs answers)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import structlog
from prometheus_client import Metric

from barwright import __version__
from barwright.machines.board import BOARD
from barwright.metrics.families import Family
from barwright.settings import Settings

log = structlog.get_logger()
# A loop that is longer in one place while the database answers others has much to do: a roll-up after an outage.
PATIENCE: Final = 20
# Seconds an answer about what a role needs is believed.
KEPT: Final = 2.0
BUILD: Final = Family(
    "build_info", "Always 1: which Barwright this is, and on which engine.", ("role", "version", "engine")
)
MACHINES: Final = Family("machines", "State machines of this process in each state.", ("role", "machine", "state"))
UP: Final = Family("dependency_up", "Whether what the role works with answers.", ("dependency",))
LOOPS: Final = Family(
    "loop_age_seconds", "Time since a loop of the role turned; 0 while it has nothing to do.", ("loop",)
)


class Loop:
    """One of a role's loops, as it says itself; from any thread."""

    def __init__(self, name: str) -> None:
        self.name, self.doing = name, ""
        self._since: float | None = None

    def turn(self, doing: str = "") -> None:
        """It goes on, by `doing` this."""
        self._since, self.doing = time.monotonic(), doing

    def rest(self) -> None:
        """It waits until there is something to do."""
        self._since = None

    @property
    def age(self) -> float:
        """Seconds since it turned; 0 while it rests."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since


class Check:
    """Whether something answers, an answer being believed for `kept` seconds; `needed`: without it no work is done."""

    def __init__(self, ask: Callable[[], bool], needed: bool, kept: float) -> None:
        self.ask, self.needed, self.kept = ask, needed, kept
        self._lock, self._asked, self._up = threading.Lock(), float("-inf"), False

    @property
    def up(self) -> bool:
        """The answer."""
        with self._lock:
            if time.monotonic() - self._asked > self.kept:
                try:
                    self._up = self.ask()
                except Exception as error:
                    log.warning("a check failed", error=f"{type(error).__name__}: {error}")
                    self._up = False
                self._asked = time.monotonic()
            return self._up


class Health:
    """Of one role in one process. `engine` is empty until the database was heard of."""

    families = (BUILD, MACHINES, UP, LOOPS)

    def __init__(self, settings: Settings, role: str) -> None:
        self.role, self.stuck_after = role, settings.stuck_after
        self.loops: list[Loop] = []
        self.checks: dict[str, Check] = {}
        self.engine: Callable[[], str] = str

    def loop(self, name: str) -> Loop:
        """Watch one more loop."""
        self.loops.append(Loop(name))
        return self.loops[-1]

    def check(self, name: str, ask: Callable[[], bool], needed: bool = True, kept: float = KEPT) -> None:
        """Ask one more thing; with `kept` 0 each time."""
        self.checks[name] = Check(ask, needed, kept)

    def live(self) -> tuple[bool, dict[str, Any]]:
        """Whether every loop turns; else which one is stuck, and where."""
        stuck = [loop for loop in self.loops if loop.age > self.stuck_after]
        if stuck and (database := self.checks.get("database")) and database.up:
            stuck = [loop for loop in stuck if loop.age > PATIENCE * self.stuck_after]
        if not stuck:
            return True, {"status": "live"}
        said = [f"{loop.name}{loop.doing and f' ({loop.doing})'} for {loop.age:.0f} s" for loop in stuck]
        return False, {"status": "stuck", "message": f"{self.role} is stuck: {', '.join(said)}."}

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """Whether it can work, and what is down."""
        up = {name: check.up for name, check in self.checks.items()}
        down = [name for name, is_up in up.items() if not is_up and self.checks[name].needed]
        told = {"checks": {name: "up" if is_up else "down" for name, is_up in up.items()}}
        if down:
            return False, {"status": "down", **told, "message": f"{self.role}: {' and '.join(down)} cannot be reached."}
        return True, {"status": "ready" if all(up.values()) else "degraded", **told}

    def collect(self) -> Iterable[Metric]:
        """See Collector."""
        states: dict[tuple[str, ...], float] = {}
        for row in BOARD.rows():
            key = (self.role, row.machine, row.state)
            states[key] = states.get(key, 0) + 1
        yield BUILD.of({(self.role, __version__, self.engine()): 1})
        yield MACHINES.of(states)
        yield UP.of({(name,): check.up for name, check in self.checks.items()})
        yield LOOPS.of({(loop.name,): loop.age for loop in self.loops})
