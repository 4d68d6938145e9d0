"""What a source of trades is: an exchange, or something that stands in for one."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Protocol

from barwright.ingest.ticks import Trade


class Source(Protocol):
    """A source of trades. `history(market, interval, start, end)` joins `live` when gaps are filled from sources."""

    @property
    def name(self) -> str:
        """What the feed's logs call it."""

    def live(self, since: int, stop: threading.Event) -> Iterator[Sequence[tuple[int, Trade]]]:
        """Trades with their times (milliseconds since 1970), oldest first, as they happen, until `stop` is set.

        `since` is the oldest time wanted; a source that cannot go back begins now.
        """
