"""What the API must say, from the oracle."""

import random
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from tests import oracle
from tests.api.conftest import Api, eventually
from tests.sql.market import INTERVALS, Market

FIELDS = ["bucket", "open", "high", "low", "close", "volume", "quote_volume", "vwap", "trades", "buy_volume",
          "imported", "closed"]  # fmt: skip

# What is said of a symbol that nobody has registered: nothing.
UNKNOWN = '"coverage":{"complete":null,"finest":null,"gaps":[],"more_gaps":0,"backfills":[],"more_backfills":0}'


def text(ts: datetime) -> str:
    """As the API writes times."""
    return ts.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")


def end(bucket: datetime, interval: str) -> datetime:
    """The end of a bucket."""
    if interval == "1mo":
        return oracle.bucket(bucket + timedelta(days=32), "1mo")
    return bucket + timedelta(minutes=oracle.WIDTHS[interval])


def expected(market: Market, interval: str) -> list[dict[str, Any]]:
    """Every bar of the market's symbol, ascending."""
    level = "1d" if interval in ("1w", "1mo") else interval
    watermark = market.connection.execute("select watermark from level where name = %s", (level,)).fetchone()[0]
    return [
        {name: text(bar["bucket"]) if name == "bucket"
         else end(bar["bucket"], interval) <= watermark if name == "closed"
         else Decimal(bar["trades"]) if name == "trades" and bar["trades"] is not None
         else bar[name] for name in FIELDS}
        for bar in market.oracle(interval) if bar["symbol"] == market.symbol
    ]  # fmt: skip


def check(api: Api, market: Market, within: float = 0.6) -> None:
    """Every interval, from both ends, whole and in pages, equals the oracle; at latest after half a second."""
    for interval in INTERVALS:
        eventually(lambda interval=interval: _check(api, market, interval), within)  # type: ignore[misc]


def _check(api: Api, market: Market, interval: str) -> None:
    bars = expected(market, interval)
    assert api.bars(market.symbol, interval, limit=10000) == bars
    assert api.bars(market.symbol, interval, limit=10000, order="desc") == bars[::-1]
    limit = random.choice([1, 2, 3, 7])
    assert api.bars(market.symbol, interval, limit=limit) == bars[-limit:]
    if bars:
        lo, hi = sorted(random.choices([bar["bucket"] for bar in bars], k=2))
        for order in ("asc", "desc"):
            inside = [bar for bar in bars if lo <= bar["bucket"] < hi][:: 1 if order == "asc" else -1]
            size = max(3, len(inside) // 5)
            assert pages(api, market.symbol, interval, size, start=lo, end=hi, order=order) == inside, (lo, hi, order)
    assert pages(api, market.symbol, interval, max(2, len(bars) // 3), start="0001-01-01") == bars, interval


def pages(api: Api, symbol: str, interval: str, limit: int, **params: Any) -> list[dict[str, Any]]:
    """Bars by following the cursor."""
    found: list[dict[str, Any]] = []
    more: dict[str, Any] = {}
    while True:
        answer = api.json("/v1/bars", symbol=symbol, interval=interval, limit=limit, **params, **more)
        found += answer["bars"]
        if answer["next_cursor"] is None:
            return found
        assert len(answer["bars"]) == limit, (interval, limit, params, more, answer)
        more = {"cursor": answer["next_cursor"]}
