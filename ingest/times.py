"""Minutes of event times as texts, learned once each: parsing every tick's time would double what a tick costs."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from barwright.ingest.ticks import MINUTE, stamp


class Times:
    """What a batch has learned; `minutes` is read by its loop: `2026-11-24T00:00` to a minute counted from 1970."""

    def __init__(self) -> None:
        self.minutes: dict[str, int] = {}
        self._texts: dict[int, str] = {}

    def learn(self, text: str) -> None:
        """Learn a minute; what is none is looked at closely each time."""
        with suppress(ValueError):
            self.minutes[text] = int(datetime.fromisoformat(f"{text}:00+00:00").timestamp()) // 60

    def stamp_ms(self, ms: int) -> str:
        """Milliseconds since 1970 as RFC 3339, empty where that is no time we would take."""
        minute, rest = divmod(ms, 60_000)
        text = self._texts.get(minute)
        if text is None:
            if not 0 <= ms < 253_402_300_800_000:
                return ""
            text = self._texts[minute] = stamp(minute * MINUTE)[:17]
        return f"{text}{rest // 1000:02}.{rest % 1000:03}Z"


def minute_of(ts: str) -> int:
    """The minute, counted from 1970, of a time as it stands in a row."""
    return int(datetime.fromisoformat(ts).timestamp()) // 60
