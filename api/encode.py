"""Bars as bytes. Numbers arrive from the database as text and pass through unchanged."""

from collections.abc import Sequence
from typing import Any

from psycopg import sql as psql

from barwright.api.database import Q
from barwright.api.intervals import LEVELS

_PRICES = ("open", "high", "low", "close")
FIELDS = ("bucket", *_PRICES, "volume", "quote_volume", "vwap", "trades", "buy_volume", "imported")
CSV_HEADER = (",".join((*FIELDS, "closed")) + "\r\n").encode()
_JSON = "".join(
    ["%.0s", '{"bucket":"%s"', *(f',"{name}":%s' for name in FIELDS[1:])]  # %.0s swallows the epoch seconds
)
_CSV = "%.0s" + ",".join(["%s"] * len(FIELDS))
_ENDS = {"json": (_JSON, ',"closed":true}', ',"closed":false}'), "csv": (_CSV, ",true\r\n", ",false\r\n")}
NULLS = {"json": "null", "csv": ""}


# A query for each (level, backwards): identifiers come from our own table of levels, never from input.
_ORDER = {False: psql.SQL("asc"), True: psql.SQL("desc")}
BARS_SQL = {
    (name, backwards): psql.SQL(Q["bars"]).format(view=psql.Identifier(f"ohlcv_{name}"), order=order)
    for name in LEVELS
    for backwards, order in _ORDER.items()
}
DAYS_SQL = {backwards: psql.SQL(Q["days"]).format(order=order) for backwards, order in _ORDER.items()}


def rows(found: Sequence[tuple[Any, ...]], closed_before: int, format: str = "json") -> list[bytes]:
    """The bytes of each bar; those that begin before `closed_before` are closed."""
    line, closed, open_ = _ENDS[format]
    closed, open_ = line + closed, line + open_
    return [((closed if row[0] < closed_before else open_) % row).encode() for row in found]
