"""What the load's bars must be, added up trade by trade in whole numbers; `oracle.py` puts the minutes together."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from tests import oracle
from tests.torture import plan

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Sums:
    """The minutes of the load so far, and the count of its messages by what must become of them."""

    def __init__(self) -> None:
        self.minutes: dict[tuple[int, int], list[Any]] = {}
        self.counts: Counter[str] = Counter()  # accepted, refused, twice
        self.refused: Counter[bytes] = Counter()

    def take(self, segment: plan.Segment) -> None:
        """Add a whole segment. A day ahead all of it is refused."""
        for n in range(segment.first, segment.end):
            what = plan.kind(n)
            if what == "bad" or segment.is_ahead:
                self.counts["refused"] += 1
                self.refused[plan.message(segment, n)[1].encode()] += 1
            elif what == "twice" and n - 16 >= segment.first:
                self.counts["twice"] += 1
            else:
                self.counts["accepted"] += 1
                self._add(plan.trade(segment, n))

    def _add(self, t: plan.Trade) -> None:
        key, quote, buy = (t.symbol, t.ts // 60_000), t.price * t.size, t.size if t.buys else 0
        bar = self.minutes.get(key)
        if bar is None:
            self.minutes[key] = [t.n, t.price, t.n, t.price, t.price, t.price, t.size, quote, 1, buy]
            return
        # Numbers grow, as seq does, so that the one that comes last closes; a new segment's are higher still.
        bar[2], bar[3] = t.n, t.price
        bar[4], bar[5] = max(bar[4], t.price), min(bar[5], t.price)
        bar[6] += t.size
        bar[7] += quote
        bar[8] += 1
        bar[9] += buy

    def bars(self, interval: str) -> list[dict[str, Any]]:
        """Every bar of the interval, as `oracle.bars` gives them."""
        groups: dict[tuple[str, datetime], list[dict[str, Any]]] = {}
        for symbol, minute in sorted(self.minutes):
            at = EPOCH + timedelta(minutes=minute)
            bar = self._minute(self.minutes[symbol, minute])
            groups.setdefault((f"L{symbol}", oracle.bucket(at, interval)), []).append(bar)
        rows = [{"symbol": s, "bucket": b, **oracle.combine(group)} for (s, b), group in groups.items()]
        return [{**row, "vwap": oracle.vwap(row["quote_volume"], row["volume"])} for row in rows]

    def _minute(self, bar: list[Any]) -> dict[str, Any]:
        _, first, _, last, high, low, volume, quote, trades, buy = bar
        prices = dict(zip(("open", "close", "high", "low"), (first, last, high, low), strict=True))
        return {
            **{name: exact(units, plan.PRICE) for name, units in prices.items()},
            "volume": exact(volume, plan.SIZE), "quote_volume": exact(quote, plan.PRICE + plan.SIZE),
            "trades": trades, "buy_volume": exact(buy, plan.SIZE), "imported": False,
        }  # fmt: skip


def exact(units: int, places: int) -> Decimal:
    """Units of the last place as a decimal."""
    return Decimal(units).scaleb(-places, oracle.EXACT)
