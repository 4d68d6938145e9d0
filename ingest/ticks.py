"""The native messages and what makes one of them a row: every rule of a tick, with the reason where it is refused.

A message that is written the usual way is checked by one pattern over its finished row (0.6 us); what that pattern does
not take goes through `trade_row`, which reads number by number and says what is wrong. Text COPY trusts its input and
PostgreSQL reads more than JSON does (`0x10`, `1_000`, `1e131071`), so nothing reaches it that these rules do not allow.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import Final, Literal, NamedTuple

import msgspec

from barwright.errors import BarwrightError

Rule = Literal["seq", "id", "time", "offset"]

ITEMS: Final = 100_000  # places in one record that an offset-numbered trade can have
MAX_SEQ: Final = 2**63 - 1
# Possessive, since nothing that follows could be part of it: a third less time for rows that match.
SYMBOL: Final = r"[A-Za-z0-9][A-Za-z0-9._:/@+=-]{0,63}+"
NUMBER: Final = r"[0-9]{1,18}+(?:\.[0-9]{1,18}+)?+"
_TS: Final = r"[0-9]{4}-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-5][0-9](?:\.[0-9]{1,6}+)?+(?:Z|\+00:00)"
# A trade's row as COPY text, if it needs no second look: UTC, at most microseconds, plain decimals, price above zero.
_PLAIN: Final = rf"{_TS}\t{SYMBOL}\t[0-9]{{1,18}}+\t(?=[0.]*+[1-9]){NUMBER}\t{NUMBER}\t(?:[bs]|\\N)\n"
PLAIN_TRADE: Final = re.compile(_PLAIN).fullmatch
# Many of them at once, at two thirds of the cost of each by itself.
PLAIN_TRADES: Final = re.compile(rf"(?:{_PLAIN})*+").fullmatch
is_symbol = re.compile(SYMBOL).fullmatch
_is_digits = re.compile("[0-9]+").fullmatch
_is_decimal = re.compile(r"-?[0-9]{1,60}(?:\.[0-9]{1,60})?(?:[eE][+-]?[0-9]{1,3})?").fullmatch
_rfc3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,30}))?([Zz]|[+-][0-9]{2}:[0-9]{2})"
).fullmatch
_EXACT = Context(prec=200)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
MINUTE: Final = 60_000_000
# Microseconds since 1970 at which years get a fifth digit.
YEAR_10000: Final = 253_402_300_800_000_000
# The intervals of imported bars, in minutes.
WIDTHS: Final = {"1m": 1, "1h": 60, "1d": 1440}

SIDES: Final = {"buy": "b", "sell": "s", None: "\\N"}
NULL: Final = "\\N"


class Trade(msgspec.Struct, tag_field="type", tag="trade", gc=False, omit_defaults=True):
    """One trade as it arrived. `ts` is RFC 3339 or integer milliseconds; numbers are their own digits."""

    symbol: str
    ts: str | int
    price: str
    size: str
    id: str | int | None = None
    seq: int | None = None
    side: str | None = None
    session: str | None = None


class Timed(Trade, tag_field="type", tag="trade", gc=False):
    """A trade of another format, whose `seq` was made from its time."""


class Bar(msgspec.Struct, tag_field="type", tag="bar", gc=False):
    """One imported bar as it arrived: of a task, or of nobody's asking."""

    symbol: str
    ts: str | int
    interval: str
    open: str
    high: str
    low: str
    close: str
    volume: str
    quote_volume: str | None = None
    trades: int | None = None
    source: str | None = None
    task: int | None = None
    attempt: int | None = None


class RefusedError(BarwrightError):
    """A message that cannot become a row; the text is the reason kept with it."""


class Window(NamedTuple):
    """The event times accepted now, in microseconds since 1970; both ends are accepted."""

    oldest: int
    newest: int


def trade_row(trade: Trade, place: int, window: Window) -> tuple[str, int, Rule]:
    """A trade's row as COPY text, its time in microseconds, and the rule that numbered it.

    `place` numbers a trade that carries neither seq nor numeric id. Raises RefusedError.
    """
    symbol_of(trade.symbol)
    time = time_of(trade.ts, window)
    seq, rule = number_of(trade, place)
    price, size = decimal_of(trade.price, "price"), decimal_of(trade.size, "size")
    if price == "0":
        raise RefusedError("price: not above zero")
    side = SIDES.get(trade.side)
    if side is None:
        raise RefusedError(f"side: neither buy nor sell but {_short(trade.side)}")
    return f"{stamp(time)}\t{trade.symbol}\t{seq}\t{price}\t{size}\t{side}\n", time, rule


def bar_row(bar: Bar, window: Window) -> tuple[str, int]:
    """An imported bar's row as COPY text and its time in microseconds. Raises RefusedError."""
    symbol_of(bar.symbol)
    width = WIDTHS.get(bar.interval)
    if width is None:
        raise RefusedError(f"interval: none of {', '.join(WIDTHS)} but {_short(bar.interval)}")
    time = time_of(bar.ts, window)
    if time % (width * MINUTE):
        whole = {1: "minute", 60: "hour", 1440: "UTC day"}[width]
        raise RefusedError(f"ts: a {bar.interval} bar starts on a whole {whole}, not at {_short(bar.ts)}")
    open_, high, low, close = (_price(getattr(bar, name), name) for name in ("open", "high", "low", "close"))
    if not Decimal(low) <= min(Decimal(open_), Decimal(close)) <= max(Decimal(open_), Decimal(close)) <= Decimal(high):
        raise RefusedError("open and close must lie between low and high")
    volume = decimal_of(bar.volume, "volume")
    quote = NULL if bar.quote_volume is None else decimal_of(bar.quote_volume, "quote_volume")
    trades = NULL if bar.trades is None else str(bar.trades)
    # Minutes become ticks, whose column is an integer; hours and days have a bigint.
    if bar.trades is not None and not 0 <= bar.trades < (2**31 if width == 1 else 2**63):
        raise RefusedError(f"trades: not a count: {_short(bar.trades)}")
    row = (stamp(time), bar.symbol, "-1", close, volume, NULL, open_, high, low, quote, trades)
    return "\t".join(row) + "\n", time


def symbol_of(text: str) -> str:
    """The symbol, if it is well-formed. Raises RefusedError."""
    if not is_symbol(text):
        raise RefusedError(f"symbol: not well-formed: {_short(text)}")
    return text


def number_of(trade: Trade, place: int) -> tuple[int, Rule]:
    """A trade's order within its symbol and the rule that gave it: seq (a decoder may have made it from the time), else
    numeric id, else its place in the log."""
    if trade.seq is not None:
        if not 0 <= trade.seq <= MAX_SEQ:
            raise RefusedError(f"seq: not a non-negative 64-bit number: {_short(trade.seq)}")
        return trade.seq, "time" if isinstance(trade, Timed) else "seq"
    text = "" if trade.id is None else str(trade.id)
    if len(text) <= 40 and _is_digits(text) and int(text) <= MAX_SEQ:
        return int(text), "id"
    return place, "offset"


def decimal_of(text: str, name: str) -> str:
    """The same number as a plain non-negative decimal, to the last digit; plain zero is `0`. Raises RefusedError."""
    if not _is_decimal(text):
        raise RefusedError(f"{name}: not a decimal number: {_short(text)}")
    value = Decimal(text)
    if not value:
        return "0"
    value = value.normalize(_EXACT)
    if value < 0:
        raise RefusedError(f"{name}: negative: {_short(text)}")
    exponent = value.as_tuple().exponent
    if value.adjusted() >= 18 or not isinstance(exponent, int) or exponent < -18:
        raise RefusedError(f"{name}: more than 18 digits before or after the point: {_short(text)}")
    return f"{value:f}"


def time_of(ts: str | int, window: Window) -> int:
    """An event time in microseconds since 1970, truncated (rounding would move 12:00:59.9999996 into the next minute).

    Raises RefusedError for what is no time, and for a time outside the window.
    """
    time = ts * 1000 if isinstance(ts, int) else _parsed(ts)
    if time < 0:
        raise RefusedError(f"ts: before 1970: {_short(ts)}")
    if time > window.newest:
        raise RefusedError(f"ts: in the future: {_short(ts)}")
    if time < window.oldest:
        raise RefusedError(f"ts: older than raw retention: {_short(ts)}")
    return time


def read_time(ts: str | int) -> int | None:
    """An event time in microseconds since 1970, whether or not we would take it; None where it is none."""
    try:
        time = ts * 1000 if isinstance(ts, int) else _parsed(ts)
    except RefusedError:
        return None
    return time if 0 <= time < YEAR_10000 else None


def stamp(time: int) -> str:
    """Microseconds since 1970 as `2026-11-24T00:00:00.123456Z`."""
    return (_EPOCH + time * _MICROSECOND).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _parsed(ts: str) -> int:
    match = _rfc3339(ts)
    if not match:
        raise RefusedError(f"ts: neither RFC 3339 nor integer milliseconds: {_short(ts)}")
    date, clock, fraction, zone = match.groups()
    try:
        whole = datetime.fromisoformat(f"{date}T{clock}{'+00:00' if zone in 'Zz' else zone}")
    except ValueError as error:
        raise RefusedError(f"ts: no such time: {_short(ts)}") from error
    return (whole - _EPOCH) // timedelta(seconds=1) * 1_000_000 + int((fraction or "0")[:6].ljust(6, "0"))


def _price(text: str, name: str) -> str:
    price = decimal_of(text, name)
    if price == "0":
        raise RefusedError(f"{name}: not above zero")
    return price


def _short(value: object) -> str:
    """A value as it may stand in a reason."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
