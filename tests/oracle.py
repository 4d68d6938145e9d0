"""The truth the database, the API and the stream must equal: OHLCV over the accepted ticks, in plain Python."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

EXACT = Context(prec=200)  # 18 + 18 digits multiply and sum far inside this
MONDAY = datetime(2000, 1, 3, tzinfo=UTC)
WIDTHS = {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240, "1d": 1440, "1w": 10080}


def bucket(ts: datetime, interval: str) -> datetime:
    """The start of the UTC bucket that holds `ts`; weeks start on Monday."""
    if interval == "1mo":
        return ts.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return ts - (ts - MONDAY) % timedelta(minutes=WIDTHS[interval])


def total(values: Iterable[Any]) -> Any:
    """The exact sum, or None when a part does not tell."""
    parts = list(values)
    return None if None in parts else sum(parts, type(parts[0])(0)) if not isinstance(parts[0], Decimal) else add(parts)


def add(parts: list[Decimal]) -> Decimal:
    """An exact sum of decimals."""
    result = Decimal(0)
    for part in parts:
        result = EXACT.add(result, part)
    return result


def vwap(quote: Decimal | None, volume: Decimal) -> Decimal | None:
    """Quote / base volume, rounded half up to 12 places; None at volume 0."""
    if quote is None or volume == 0:
        return None
    return EXACT.divide(quote, volume).quantize(Decimal("1e-12"), ROUND_HALF_UP, EXACT)


def minute(ticks: list[dict[str, Any]]) -> dict[str, Any]:
    """One minute's bar: an imported bar (seq -1) stands in for its trades; else open and close by seq."""
    imported = [t for t in ticks if t["seq"] == -1]
    if imported:
        t = imported[0]
        return {"open": t["open"], "high": t["high"], "low": t["low"], "close": t["price"], "volume": t["size"],
                "quote_volume": t["quote"], "trades": t["trades"], "buy_volume": None, "imported": True}  # fmt: skip
    ticks = sorted(ticks, key=lambda t: t["seq"])
    prices = [t["price"] for t in ticks]
    sided = all(t["side"] for t in ticks)
    return {"open": prices[0], "high": max(prices), "low": min(prices), "close": prices[-1],
            "volume": add([t["size"] for t in ticks]),
            "quote_volume": add([EXACT.multiply(t["price"], t["size"]) for t in ticks]), "trades": len(ticks),
            "buy_volume": add([t["size"] for t in ticks if t["side"] == "b"]) if sided else None,
            "imported": False}  # fmt: skip


def combine(bars: list[dict[str, Any]]) -> dict[str, Any]:
    """A higher bar from its minutes in order of time."""
    return {"open": bars[0]["open"], "high": max(b["high"] for b in bars), "low": min(b["low"] for b in bars),
            "close": bars[-1]["close"], "imported": any(b["imported"] for b in bars),
            **{k: total(b[k] for b in bars) for k in ("volume", "quote_volume", "trades", "buy_volume")}}  # fmt: skip


def bars(ticks: Iterable[dict[str, Any]], interval: str) -> list[dict[str, Any]]:
    """Every bar of the interval, by symbol and bucket. A tick is a dict with the columns of `ticks`."""
    minutes: dict[tuple[str, datetime], list[dict[str, Any]]] = {}
    for t in ticks:
        minutes.setdefault((t["symbol"], bucket(t["ts"], "1m")), []).append(t)
    groups: dict[tuple[str, datetime], list[dict[str, Any]]] = {}
    for symbol, start in sorted(minutes):
        groups.setdefault((symbol, bucket(start, interval)), []).append(minute(minutes[symbol, start]))
    rows = [{"symbol": s, "bucket": b, **combine(group)} for (s, b), group in groups.items()]
    return [{**row, "vwap": vwap(row["quote_volume"], row["volume"])} for row in rows]
