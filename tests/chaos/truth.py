"""What every bar must be: the exchange's own trades added up, and the oracle's sum of what late producers sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx

from barwright import markets
from barwright.simulator.bars import bars as computed
from barwright.simulator.exchange import Exchange
from tests import oracle
from tests.chaos.system import System

INTERVALS = (*oracle.WIDTHS, "1mo")
NUMBERS = ("open", "high", "low", "close", "volume", "quote_volume")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Bars = dict[datetime, dict[str, Any]]


class Truth:
    """The truth of the exchange as it stands now, its corrections included."""

    def __init__(self, system: System) -> None:
        answer = httpx.get(f"{system.simulator}/admin/exchange", timeout=10, trust_env=False)
        self.exchange = Exchange.from_dict(answer.raise_for_status().json())

    def bars(self, symbol: str, interval: str, start: datetime, end: datetime) -> Bars:
        """The bars of buckets that begin in [start, end)."""
        market = self.exchange.market(markets.market_of(symbol))
        first, last = ((at - _EPOCH) // timedelta(minutes=1) for at in (start, end))
        found: Bars = {}
        for piece in computed(market, first, last, interval):
            for bucket, *prices, volume, quote, trades, buy in zip(*(column.tolist() for column in piece), strict=True):
                numbers = [
                    *(_number(price, market.price_places) for price in prices),
                    _number(volume, market.size_places),
                    _number(quote, market.price_places + market.size_places),
                ]
                found[_EPOCH + timedelta(minutes=bucket)] = {
                    **dict(zip(NUMBERS, numbers, strict=True)),
                    "trades": trades,
                    "buy_volume": _number(buy, market.size_places),
                }
        return found


def _number(units: int, places: int) -> Decimal:
    return Decimal(units).scaleb(-places, oracle.EXACT)


def differences(found: Bars, truth: Bars) -> list[str]:
    """Where bars differ from the truth; imported ones may not tell trades and buy_volume."""
    wrong = []
    for bucket in sorted(found.keys() | truth.keys()):
        ours, theirs = found.get(bucket), truth.get(bucket)
        if ours is None or theirs is None:
            wrong.append(f"{bucket:%m-%d %H:%M} {'missing' if ours is None else 'one too many'}")
            continue
        for name in (*NUMBERS, "trades", "buy_volume"):
            told = ours[name] is not None or name in NUMBERS
            if told and ours[name] != theirs[name]:
                wrong.append(f"{bucket:%m-%d %H:%M} {name} {ours[name]}, truth {theirs[name]}")
    return wrong


def stored(connection: Any, symbol: str, interval: str, start: datetime, end: datetime) -> Bars:
    """The bars that SQL clients see."""
    names = (*NUMBERS, "trades", "buy_volume")
    rows = connection.execute(
        f"select bucket, {', '.join(names)} from ohlcv_{interval} where symbol = %s and bucket >= %s and bucket < %s",
        (symbol, start, end),
    ).fetchall()
    return {bucket: dict(zip(names, numbers, strict=True)) for bucket, *numbers in rows}
