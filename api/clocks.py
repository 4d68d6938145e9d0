"""Local clocks: the instants at which the clock of a time zone shows a time.

`local` is what a clock shows, in seconds since 1970-01-01 00:00 of that clock; an instant is in seconds since 1970 UTC.
"""

from datetime import datetime, timedelta
from difflib import get_close_matches
from functools import cache, lru_cache
from zoneinfo import ZoneInfo, available_timezones

from barwright.api.errors import bad
from barwright.api.moments import DAY, moment

_START = datetime(1970, 1, 1)  # noqa: DTZ001  what a clock shows has no zone
_ALIKE = frozenset(("UTC", "Etc/UTC", "UCT", "Etc/UCT", "GMT", "Etc/GMT", "Universal", "Etc/Universal", "Zulu",
                    "Etc/Zulu", "GMT0", "GMT+0", "GMT-0", "Etc/GMT0", "Etc/GMT+0", "Etc/GMT-0", "Greenwich",
                    "Etc/Greenwich"))  # fmt: skip


class Clock:
    """The clock of one time zone."""

    def __init__(self, name: str) -> None:
        self.zone = ZoneInfo(name)

    def day(self, t: int) -> int:
        """The date it shows at an instant, in days since 1970."""
        return (t + self._offset_at(t)) // DAY

    def has(self, day: int) -> bool:
        """Whether it shows a date at all: who crosses the date line skips one."""
        return self.day(self.first(day * DAY)) == day

    def first(self, local: int) -> int:
        """The first instant at which it shows a time; where that is skipped, the jump over it."""
        before, after = self._offsets(local)
        return self._jump(local, before, after) if before < after else local - before

    def all(self, local: int) -> tuple[int, ...]:
        """Each instant at which it shows a time: two where an hour is repeated; where it is skipped, the jump."""
        before, after = self._offsets(local)
        return (local - before, local - after) if before > after else (self.first(local),)

    def _offsets(self, local: int) -> tuple[int, int]:
        """The offsets from UTC before and after the transition a time lies in; equal where it lies in none."""
        shown = _START + timedelta(seconds=local)
        return self._seconds(shown.replace(fold=0)), self._seconds(shown.replace(fold=1))

    def _jump(self, local: int, before: int, after: int) -> int:
        """The transition that skips a time, between the instants its two offsets make of it."""
        lo, hi = local - after, local - before
        while hi - lo > 1:
            middle = (lo + hi) // 2
            lo, hi = (middle, hi) if self._offset_at(middle) == before else (lo, middle)
        return hi

    def _offset_at(self, t: int) -> int:
        return self._seconds(moment(t).astimezone(self.zone))

    def _seconds(self, at: datetime) -> int:
        offset = self.zone.utcoffset(at)
        assert offset is not None
        return int(offset.total_seconds())


@cache
def zones() -> dict[str, str]:
    """Every zone's name by its lower-case form."""
    return {name.lower(): name for name in available_timezones() - {"localtime", "Factory", "posixrules"}}


def zone(text: str) -> str:
    """The name of a zone as the IANA database writes it, `UTC` for all that are alike; ApiError 400. A plus sign that
    was not escaped arrives as a space."""
    found = zones().get(text.replace(" ", "+").lower())
    if found is None:
        near = get_close_matches(text.lower(), zones(), 3, 0.6)
        raise bad("tz", text[:80], f"There is no time zone {text!r:.60}.", "a name of the IANA time zone database",
                  f"Did you mean {', '.join(zones()[name] for name in near)}?" if near
                  else "For instance tz=America/New_York")  # fmt: skip
    return "UTC" if found in _ALIKE else found


@lru_cache(256)
def clock(name: str) -> Clock:
    """The clock of a zone that exists."""
    return Clock(name)
