"""Corrections the exchange makes to its history."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from barwright.simulator.noise import Hashes, Ints


@dataclass(frozen=True)
class Revision:
    """The trades of a share of a market's minutes in [start, end) are others: their prices, sizes, times and number.

    The price stays where it was by and large. Which minutes, and what they become, depends on the number.
    """

    number: int
    market: str
    start: int
    end: int
    share: float = 1.0

    def apply(self, minutes: Ints, counts: Ints, keys: Hashes, revision: Ints, market: int, listed: int) -> None:
        """Change the number of trades and the key of each minute, in place."""
        import numpy as np

        from barwright.simulator.noise import field, hashes

        if self.end <= minutes[0] or self.start > minutes[-1]:
            return
        others = hashes(market + 1000 + self.number, minutes)
        changed = (minutes >= max(self.start, listed)) & (minutes < self.end)
        changed &= field(others, 0, 16) < self.share * 65_536
        counts[changed] = np.maximum(counts + field(others, 16, 3) % 5 - 2, 0)[changed]
        keys[changed] = others[changed]
        revision[changed] = self.number

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return asdict(self)
