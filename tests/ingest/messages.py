"""Messages to test with."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

START = datetime(2023, 3, 1, tzinfo=UTC)
TOPIC_ID = UUID("01234567-89ab-cdef-0123-456789abcdef")


def trade(n: int = 1, **fields: Any) -> dict[str, Any]:
    """A good trade, the n-th of its symbol, one every 10 s."""
    ts = f"{START + timedelta(seconds=n * 10):%Y-%m-%dT%H:%M:%SZ}"
    good = {
        "type": "trade",
        "symbol": "BTCUSD",
        "ts": ts,
        "id": str(n),
        "price": f"{100 + n % 7}.5",
        "size": "0.25",
        "side": "buy",
    }
    return good | fields


def bar(n: int = 0, **fields: Any) -> dict[str, Any]:
    """A good imported bar, of the n-th minute."""
    good = {"type": "bar", "symbol": "BTCUSD", "interval": "1m", "ts": f"2023-03-01T{n // 60:02}:{n % 60:02}:00Z",
            "open": "10", "high": "20", "low": "5", "close": "15", "volume": "7.5", "quote_volume": "99.25",
            "trades": 12}  # fmt: skip
    return good | fields


def encode(message: Any) -> bytes:
    """A message as a record's value."""
    return msgspec.json.encode(message)
