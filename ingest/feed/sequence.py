"""Holes in a market's trade numbers: the trades that never came."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

log = structlog.get_logger()
# Seconds a number may come after a later one, and how long a list of holes may become.
PATIENCE = 2.0
MOST = 1_000
# A market with so many holes among its first steps does not count by one.
STEPS, HOLES = 40, 20


@dataclass
class _Hole:
    """Numbers first…last, between two trades at these event times (microseconds); given up at `deadline`."""

    first: int
    last: int
    start: int
    end: int
    deadline: float


class Tail(NamedTuple):
    """Where a connection's numbers of a market ended: the last one, its event time, and what the connection had reached
    (microseconds)."""

    number: int
    at: int
    reached: int


@dataclass
class Sequence:
    """One market's numbers, which grow by one for each trade and may arrive out of order. `before`: the tail of the
    connection before, which may have lost its last trades."""

    market: str
    before: Tail | None = None
    is_dense: bool = True
    _last: int | None = None
    _last_at: int = 0
    _steps: int = 0
    _jumps: int = 0
    _holes: list[_Hole] = field(default_factory=list)

    def came(self, number: int, at: int, now: float) -> None:
        """A trade with this number and event time; `now` is monotonic."""
        if not self.is_dense:
            return
        if self._last is None and self.before is None:
            self._last, self._last_at = number, at
        elif self._last is None:
            self._resume(number, at, now)
        elif number > self._last:
            self._step(number, at, now)
        else:
            self._fill(number, at)

    @property
    def has_holes(self) -> bool:
        """Whether something is still waited for."""
        return bool(self._holes)

    @property
    def safe(self) -> int:
        """Up to which event time nothing is waited for; meaningful where something is."""
        return min(min(hole.start, hole.end) for hole in self._holes)

    def tail(self, reached: int) -> Tail | None:
        """What the next connection must know of this one."""
        if not self.is_dense:
            return None
        return self.before if self._last is None else Tail(self._last, self._last_at, max(reached, self._last_at))

    def given_up(self, now: float) -> list[tuple[int, int]]:
        """Event times (microseconds) around the holes that nothing fills any more."""
        gone = [hole for hole in self._holes if hole.deadline <= now]
        self._holes = [hole for hole in self._holes if hole.deadline > now]
        return [(min(hole.start, hole.end), max(hole.start, hole.end)) for hole in gone]

    def _resume(self, number: int, at: int, now: float) -> None:
        """The first number of a connection that follows another: replayed ones fill what that one lost at its end."""
        assert self.before is not None
        tail = self.before
        if number > tail.number + 1:
            # Only what the one before vouched for can have been lost: between the two nobody vouches.
            self._holes.append(_Hole(tail.number + 1, number - 1, tail.at, min(at, tail.reached), now + PATIENCE))
        self._last, self._last_at = max((number, at), (tail.number, tail.at))

    def _step(self, number: int, at: int, now: float) -> None:
        assert self._last is not None
        self._steps += 1
        if number > self._last + 1:
            self._jumps += 1
            self._holes.append(_Hole(self._last + 1, number - 1, self._last_at, at, now + PATIENCE))
            self._look(now)
        self._last, self._last_at = number, at

    def _fill(self, number: int, at: int) -> None:
        for hole in self._holes:
            if hole.first <= number <= hole.last:
                self._holes.remove(hole)
                if hole.first < number:
                    self._holes.append(_Hole(hole.first, number - 1, hole.start, at, hole.deadline))
                if number < hole.last:
                    self._holes.append(_Hole(number + 1, hole.last, at, hole.end, hole.deadline))
                return

    def _look(self, now: float) -> None:
        """Leave a market alone whose numbers are no count; give holes up early rather than keep too many."""
        if self._steps <= STEPS and self._jumps >= HOLES:
            log.warning("trade numbers are no count; holes in them mean nothing", market=self.market)
            self.is_dense, self._holes = False, []
        elif len(self._holes) > MOST:
            self._holes[0].deadline = now
