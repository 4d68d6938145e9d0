"""The limits of the exchange, and the calls and sockets counted against them."""

from __future__ import annotations

import time
from collections import Counter
from typing import Final

import msgspec

from barwright.errors import BarwrightError
from barwright.settings import Settings

_WINDOWS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "month": 30 * 86_400}


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Calls of a client per second, minute and hour; sockets it may open per second and have; subscriptions of one."""

    second: int = 50
    minute: int = 1500
    hour: int = 50_000
    opens: int = 30
    sockets: int = 100
    subs: int = 300

    @classmethod
    def from_settings(cls, settings: Settings) -> Limits:
        """As `name=number,…` says; BarwrightError where that is wrong."""
        pairs = (item.strip().split("=") for item in settings.simulator_limits.split(",") if item.strip())
        try:
            return msgspec.convert({name: int(value) for name, value in pairs}, cls)
        except (ValueError, msgspec.ValidationError) as error:
            raise BarwrightError(
                f"BARWRIGHT_SIMULATOR_LIMITS={settings.simulator_limits}: {error}.",
                f"It takes name=number,… of {', '.join(cls.__struct_fields__)}.",
            ) from error

    def calls(self) -> dict[str, int]:
        """Those of REST calls."""
        return {"second": self.second, "minute": self.minute, "hour": self.hour}


class Calls:
    """How often a client has called in the present second, minute, hour, …"""

    def __init__(self) -> None:
        self._made: Counter[tuple[str, str, int]] = Counter()
        self._second = 0

    def count(self, client: str) -> dict[str, int]:
        """Count a call; returns how many there have been in each window, this one included."""
        now = int(time.time())
        self._forget(now)
        windows = {name: (client, name, now // seconds) for name, seconds in _WINDOWS.items()}
        windows["total_calls"] = (client, "total", 0)
        self._made.update(windows.values())
        return {name: self._made[window] for name, window in windows.items()}

    def _forget(self, now: int) -> None:
        """Drop the windows that are over."""
        if now != self._second:
            self._second = now
            over = [k for k in self._made if k[1] in _WINDOWS and k[2] != now // _WINDOWS[k[1]]]
            for window in over:
                del self._made[window]
