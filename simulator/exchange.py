"""The exchange: its markets, and its history's corrections, which outlive it in a file."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from barwright import markets
from barwright.errors import BarwrightError
from barwright.markets import Pair
from barwright.settings import Settings
from barwright.simulator.revisions import Revision

if TYPE_CHECKING:
    from barwright.simulator.market import Market

NOWHERE = "Nowhere"  # an exchange without markets


class Exchange:
    """Every market there can be. `listed` says since which minute (since 1970) some are traded."""

    def __init__(self, seed: int, rate: float, listed: dict[str, int] | None = None, file: Path | None = None) -> None:
        self.seed, self.rate, self.listed, self.file = seed, rate, listed or {}, file
        self.revisions: list[Revision] = []
        self._markets: dict[str, Market] = {}
        if file and file.exists():
            self.revisions = [Revision(**kept) for kept in json.loads(file.read_text())["revisions"]]

    @classmethod
    def from_settings(cls, settings: Settings, file: Path | None = None) -> Exchange:
        """As the settings want it. BarwrightError where they are wrong."""
        listed = dict(_listed(item) for item in settings.simulator_listed.split(",") if item.strip())
        return cls(settings.simulator_seed, settings.simulator_market_rate, listed, file)

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Exchange:
        """The same exchange as one that told of itself by `to_dict`."""
        exchange = cls(told["seed"], told["rate"], told["listed"])
        exchange.revisions = [Revision(**kept) for kept in told["revisions"]]
        return exchange

    def to_dict(self) -> dict[str, Any]:
        """All that the truth depends on."""
        revisions = [revision.to_dict() for revision in self.revisions]
        return {"seed": self.seed, "rate": self.rate, "listed": self.listed, "revisions": revisions}

    def market(self, name: str) -> Market:
        """A market. BarwrightError where its name is none, or there is no such market."""
        pair = markets.parse(name)
        if not exists(pair):
            raise BarwrightError(f"{pair.exchange} has no market {pair.base}-{pair.quote}.")
        return self._markets.get(name) or self._opened(pair)

    def revise(self, market: str, start: int, end: int, share: float = 1.0) -> Revision:
        """Correct the history of the minutes [start, end) of a market."""
        revision = Revision(len(self.revisions) + 1, market, start, end, share)
        self.revisions.append(revision)
        self._markets.pop(market, None)
        if self.file:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            draft = self.file.with_suffix(".new")
            draft.write_text(json.dumps(self.to_dict(), indent=1) + "\n")
            draft.replace(self.file)
        return revision

    def _opened(self, pair: Pair) -> Market:
        # numpy costs 25 MB of memory, which an exchange that nobody asks does not need.
        from barwright.simulator.market import Market

        own = [revision for revision in self.revisions if revision.market == str(pair)]
        market = Market(self.seed, pair, self.rate, self.listed.get(str(pair)), own)
        self._markets[market.name] = market
        return market


def exists(pair: Pair) -> bool:
    """Whether there is such a market: any but those of the exchange Nowhere, and none of a thing in itself."""
    return pair.exchange != NOWHERE and pair.base != pair.quote


def _listed(item: str) -> tuple[str, int]:
    """`market=time`: since when a market is traded, in minutes since 1970."""
    market, _, time = item.strip().partition("=")
    try:
        since = datetime.fromisoformat(time)
    except ValueError as error:
        raise BarwrightError(
            f"BARWRIGHT_SIMULATOR_LISTED: {item!r}.", "It takes market=time,… as Coinbase~NEW~USD=2024-05-01T10:30Z."
        ) from error
    since = since.astimezone(UTC) if since.tzinfo else since.replace(tzinfo=UTC)
    return str(markets.parse(market)), int(since.timestamp()) // 60
