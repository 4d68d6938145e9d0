"""Bars as bytes. Numbers arrive from the database as text and pass through unchanged."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from psycopg import sql as psql

from barwright.api.database import Q, Row
from barwright.api.intervals import LEVELS

_PRICES = ("open", "high", "low", "close")
FIELDS = ("bucket", *_PRICES, "volume", "quote_volume", "vwap", "trades", "buy_volume", "imported")
CSV_HEADER = (",".join((*FIELDS, "closed")) + "\r\n").encode()
Numbers = Literal["number", "string", "float"]
NULL: Final = "null"  # how what is not known is written


@dataclass(frozen=True, slots=True)
class Style:
    """How numbers and the time of a bucket are written. Only as strings do numbers keep their digits in JavaScript;
    `trades` is a number always, and so are the seconds and milliseconds since 1970."""

    numbers: Numbers = "number"
    time: Literal["iso", "s", "ms"] = "iso"

    @property
    def name(self) -> str:
        """A name for caches, empty for what most ask for."""
        return "" if self == PLAIN else f"{self.numbers},{self.time}"


PLAIN = Style()
EXACT: Final = Style("string", "s")  # what our own readers of bars decode

# A query for each (level, backwards): identifiers come from our own table of levels, never from input.
_ORDER = {False: psql.SQL("asc"), True: psql.SQL("desc")}
_VIEWS = {name: psql.Identifier(f"ohlcv_{name}") for name in LEVELS}
COLUMNS: Final = psql.SQL(Q["columns"])
_ONE = {"symbol": psql.SQL(""), "which": psql.SQL("symbol = %(symbol)s")}
_MANY = {"symbol": psql.SQL("symbol,"), "which": psql.SQL("symbol = any(%(symbols)s)")}
BARS_SQL = {
    (name, backwards): psql.SQL(Q["bars"]).format(columns=COLUMNS, view=view, order=order)
    for name, view in _VIEWS.items()
    for backwards, order in _ORDER.items()
}
DERIVED_SQL = {
    (name, backwards): psql.SQL(Q["derived"]).format(columns=COLUMNS, view=view, order=order, **_ONE)
    for name, view in _VIEWS.items()
    for backwards, order in _ORDER.items()
}
DERIVED_MANY_SQL = {
    name: psql.SQL(Q["derived"]).format(columns=COLUMNS, view=view, order=_ORDER[False], **_MANY)
    for name, view in _VIEWS.items()
}
DAYS_SQL = {backwards: psql.SQL(Q["days"]).format(order=order) for backwards, order in _ORDER.items()}

_EPOCH, _TEXT = "%s%.0s", "%.0s%s"  # of a row's epoch seconds and RFC 3339 text one is swallowed
_TIMES = {"iso": _TEXT, "s": _EPOCH, "ms": _EPOCH}
_QUOTED = [2 + n for n, name in enumerate(FIELDS[1:]) if name not in ("trades", "imported")]


def _template(style: Style) -> str:
    """A row of query `bars` as a bar, but for its end."""
    time = _TIMES[style.time]
    fields = (f',"{name}":%s' for name in FIELDS[1:])
    return "".join(['{"bucket":', f'"{time}"' if style.time == "iso" else time, *fields])


def rows(found: Sequence[Row], closed_before: int, style: Style = PLAIN) -> list[bytes]:
    """The bytes of each bar; those that begin before `closed_before` are closed."""
    line = _template(style)
    closed, open_ = line + ',"closed":true}', line + ',"closed":false}'
    bars = zip(found, _styled(found, style), strict=True)
    return [((closed if row[0] < closed_before else open_) % bar).encode() for row, bar in bars]


def _styled(found: Sequence[Row], style: Style) -> Iterable[Row]:
    """The rows with their time in milliseconds and their numbers quoted, where that is the style."""
    quotes = style.numbers == "string"
    if style.time != "ms" and not quotes:
        return found
    return (_changed(row, style.time == "ms", quotes) for row in found)


def _changed(row: Row, milliseconds: bool, quotes: bool) -> Row:
    values: list[Any] = list(row)
    if milliseconds:
        values[0] *= 1000
    if quotes:
        for n in _QUOTED:
            if values[n] != NULL:
                values[n] = f'"{values[n]}"'
    return tuple(values)
