"""A vendor's rows of history: one bucket each, checked, with every digit."""

from __future__ import annotations

import re
from decimal import Context, Decimal
from typing import Final, NamedTuple

from barwright.ingest.feed.source import UnavailableError
from barwright.ingest.ticks import Bar, RefusedError, decimal_of, stamp

SECONDS: Final = {"1m": 60, "1h": 3_600, "1d": 86_400}
COARSER: Final = {"1m": "1h", "1h": "1d"}
_PLACES: Final = Decimal("1e-18")
_WIDE: Final = Context(prec=400)
# Written the usual way; all others are ten times as slow to read, which a year of minutes would feel.
_is_plain = re.compile(r"(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,18})?").fullmatch


class Row(NamedTuple):
    """One bucket, `time` in seconds since 1970; numbers are plain decimals, `0` for zero."""

    time: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    quote: str | None

    @property
    def is_bar(self) -> bool:
        """Whether something was traded: filler rows repeat a price without volume, rows before the listing are zero."""
        prices = {self.open, self.high, self.low, self.close}
        return len(prices) > 1 or self.volume != "0" or self.quote not in (None, "0")

    @property
    def is_known(self) -> bool:
        """Whether the vendor has anything here: at least the price of before."""
        return self.close != "0"

    def bar(self, symbol: str, interval: str) -> Bar:
        """As the native message."""
        ts = stamp(self.time * 1_000_000).replace(".000000", "")
        return Bar(symbol, ts, interval, self.open, self.high, self.low, self.close, self.volume, self.quote)


def row_of(time: int, open_: str, high: str, low: str, close: str, volume: str, quote: str | None) -> Row:
    """A row from the texts of its numbers. Raises UnavailableError naming the row where it is no sane bar."""
    try:
        row = Row(
            time,
            _decimal(open_, "open"),
            _decimal(high, "high"),
            _decimal(low, "low"),
            _decimal(close, "close"),
            _decimal(volume, "volume"),
            None if quote is None else _decimal(quote, "quote"),
        )
        _demand_sane(row)
    except RefusedError as refused:
        raise UnavailableError(f"The row of {stamp(time * 1_000_000)} makes no sense: {refused.message}.") from refused
    return row


def _demand_sane(row: Row) -> None:
    open_, high, low, close = map(Decimal, row[1:5])
    if not low <= min(open_, close) <= max(open_, close) <= high:
        raise RefusedError("open and close must lie between low and high")
    if row.is_bar and not low:
        raise RefusedError("a price of zero")


def _decimal(text: str, name: str) -> str:
    """A number as we keep them: at most 18 places, since a vendor's float may print 25 of noise."""
    if _is_plain(text):
        return text.rstrip("0").rstrip(".") if "." in text else text
    try:
        return decimal_of(text, name)
    except RefusedError:
        # Not only too long but no number, negative or too large: said by the second look.
        if len(text) > 60 or not any(map(str.isdigit, text)):
            raise
    try:
        return decimal_of(f"{_WIDE.quantize(Decimal(text), _PLACES):f}", name)
    except ArithmeticError as error:
        raise RefusedError(f"{name}: not a decimal number: {text!r:.80}") from error


def check_order(rows: list[Row], interval: str) -> list[Row]:
    """The same rows, if they stand on their buckets' starts, ascending and unique. Raises UnavailableError."""
    step = SECONDS[interval]
    for before, row in zip([None, *rows], rows, strict=False):
        if row.time % step or (before is not None and row.time <= before.time):
            at = stamp(row.time * 1_000_000)
            raise UnavailableError(f"The row of {at} stands in the wrong place: rows of {interval}, oldest first.")
    return rows
