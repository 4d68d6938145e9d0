"""Rate limits: what answers say of them, and one gate for all of a source's calls that obeys it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from barwright.ingest.feed.source import RateLimitedError

# Seconds of a vendor's windows; each turns at a whole multiple of UTC (a month at its first day).
WINDOWS: Final = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "month": 2_678_400}
# A wait longer than this is the caller's: its task goes back to the queue.
LONGEST: Final = 70.0


class Limiter:
    """The gate: calls pass one by one, at the vendor's pace, and none while it wants to be left alone."""

    def __init__(self, longest: float = LONGEST) -> None:
        self.longest = longest
        self._open_at = self._next_at = 0.0
        self._spacing = 0.0

    @property
    def left(self) -> float:
        """Seconds for which nobody passes."""
        return max(self._open_at - time.monotonic(), 0.0)

    async def passage(self) -> None:
        """Wait for one's turn. Raises RateLimitedError where that is far off."""
        while (wait := max(self._open_at, self._next_at) - time.monotonic()) > 0:
            if wait > self.longest:
                raise RateLimitedError(f"The rate limit is used up for {wait:.0f} s.", retry_after=wait)
            # Those who waited together do not come back in the same instant.
            await asyncio.sleep(wait + random.uniform(0, 0.05))
        self._next_at = time.monotonic() + self._spacing

    def hold(self, seconds: float) -> None:
        """Let nobody pass for so long."""
        self._open_at = max(self._open_at, time.monotonic() + seconds)

    def learn(self, said: Mapping[str, Any], now: float) -> None:
        """Take in the `RateLimit` of an answer; `now` is the vendor's clock in seconds since 1970."""
        most = said.get("max_calls")
        if isinstance(most, Mapping) and (pace := _number(most.get("second"), 0)) > 0:
            self._spacing = 1 / pace
        wait = wait_of(said, now)
        if wait:
            self.hold(wait)


def wait_of(said: Mapping[str, Any], now: float) -> float:
    """Seconds until the longest window that is used up turns; 0 where none is. Says `max_calls` or `calls_left`."""
    made, most, left = (_mapping(said.get(name)) for name in ("calls_made", "max_calls", "calls_left"))
    waits = [0.0]
    for window, seconds in WINDOWS.items():
        is_over = window in most and window in made and _number(made[window], 0) >= _number(most[window], float("inf"))
        if is_over or (window in left and _number(left[window], 1) <= 0):
            waits.append(_turn(window, seconds, now) - now)
    return max(waits)


def retry_after(text: str | None, now: float) -> float | None:
    """Seconds of a Retry-After header: a count or a date."""
    if not text:
        return None
    if text.strip().isdigit():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(date.replace(tzinfo=date.tzinfo or UTC).timestamp() - now, 0.0)


def _turn(window: str, seconds: int, now: float) -> float:
    if window != "month":
        return (now // seconds + 1) * seconds
    day = datetime.fromtimestamp(now, UTC)
    return datetime(day.year + day.month // 12, day.month % 12 + 1, 1, tzinfo=UTC).timestamp()


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: object, otherwise: float) -> float:
    """A count, also as text."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return otherwise
