"""Other programs' trade messages: cryptofeed's Kafka backend, Binance's streams, CryptoCompare's streamer.

A decoder reads only the fields it knows, keeps every digit, and gives no item for a message of another kind. One record
is one message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import lru_cache
from string import Formatter
from typing import Any, Final

import msgspec

from barwright.errors import BarwrightError
from barwright.ingest import cryptocompare as vendor
from barwright.ingest.decode import JSON_ERRORS, Bad, Decoder, Decoders, Item, digits_of, native, reason_of
from barwright.ingest.ticks import MAX_SEQ, RefusedError, Timed, Trade, stamp, symbol_of

# What a symbol's template may name, by format, and the template where none is given.
FIELDS: Final = {
    "cryptofeed": ("exchange", "symbol", "base", "quote"),
    "binance": ("symbol",),
    "cryptocompare": ("exchange", "fsym", "tsym"),
}
TEMPLATES: Final = {"cryptofeed": "{exchange}:{symbol}", "binance": "{symbol}", "cryptocompare": "{fsym}{tsym}"}
_entry = re.compile(r"(?s)(.+?)=(cryptofeed|binance|cryptocompare|native)(?::(.+))?").fullmatch
_seconds = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,30})?(?:[eE]\+?[0-9]{1,2})?").fullmatch
_is_digits = re.compile(r"[0-9]{1,19}").fullmatch
_EMPTY: Final = msgspec.Raw()
_LAST: Final = 253_402_300_800_000_000  # microseconds since 1970: the year 10000
_MICROSECONDS: Final = 10**14  # larger numbers of Binance's times are no milliseconds
_LONGEST: Final = 256  # characters of a message's names, all fields together, that are remembered
# Makes the symbol from a format's fields.
_Symbol = Callable[..., str]


@lru_cache(maxsize=8)
def decoders_of(text: str) -> Decoders:
    """The decoders of the setting `decoders`. BarwrightError where it makes no sense."""
    return tuple(_decoding(entry.strip()) for entry in text.split(";") if entry.strip())


def _decoding(entry: str) -> tuple[re.Pattern[str], Decoder]:
    match = _entry(entry)
    if not match:
        raise BarwrightError(
            f"BARWRIGHT_DECODERS: {entry!r:.120} is no PATTERN=FORMAT.", f"Formats: {', '.join(FIELDS)}."
        )
    pattern, name, template = match.groups()
    try:
        topics = re.compile(pattern)
    except re.error as error:
        raise BarwrightError(f"BARWRIGHT_DECODERS: {pattern!r:.120} is no regular expression: {error}.") from error
    if name == "native":
        return topics, native
    symbol = _template(name, template or TEMPLATES[name])
    return topics, {"cryptofeed": _cryptofeed, "binance": _binance, "cryptocompare": _cryptocompare}[name](symbol)


def _template(name: str, template: str) -> _Symbol:
    """The symbol from a format's fields, in their order."""
    fields = FIELDS[name]
    try:
        parts = [*Formatter().parse(template)]
    except ValueError as error:
        raise BarwrightError(f"BARWRIGHT_DECODERS: {template!r:.120} is no template: {error}.") from error
    for _, field, form, conversion in parts:
        if field is not None and (field not in fields or form or conversion):
            known = " ".join(f"{{{field}}}" for field in fields)
            raise BarwrightError(f"BARWRIGHT_DECODERS: {template!r:.120} names no field of {name}.", f"It has {known}.")

    def made(*values: str) -> str:
        return symbol_of(template.format_map(dict(zip(fields, values, strict=True))))

    remembered = lru_cache(maxsize=50_000)(made)

    def symbol(*values: str) -> str:
        # A field that the template does not name may be as long as a record: 50,000 of those would be kept.
        return remembered(*values) if len("".join(values)) <= _LONGEST else made(*values)

    return symbol


def _guarded(read: Callable[[bytes], Trade | None]) -> Decoder:
    """A decoder from a function that gives the trade of a message, or None where it is of another kind."""

    def decode(value: bytes) -> Sequence[Item]:
        try:
            trade = read(value)
        except RefusedError as refused:
            return (Bad(refused.message, value),)
        except JSON_ERRORS as error:
            return (Bad(reason_of(error), value),)
        return () if trade is None else (trade,)

    return decode


class _Feed(msgspec.Struct, gc=False):
    exchange: str
    symbol: str
    price: msgspec.Raw
    amount: msgspec.Raw
    timestamp: msgspec.Raw
    side: str | None = None
    id: str | int | None = None


def _cryptofeed(symbol: _Symbol) -> Decoder:
    """`{"exchange","symbol","side","amount","price","id","type","timestamp","receipt_timestamp"}`."""
    parse = msgspec.json.Decoder(_Feed).decode

    def read(value: bytes) -> Trade:
        found = parse(value)
        base, _, quote = found.symbol.partition("-")
        name = symbol(found.exchange, found.symbol, base, quote)
        time = _microseconds(digits_of(found.timestamp, "timestamp"))
        price, amount = digits_of(found.price, "price"), digits_of(found.amount, "amount")
        side = None if found.side is None else found.side.lower()
        return _numbered(Trade(name, stamp(time), price, amount, found.id or None, None, side), time)

    return _guarded(read)


def _numbered(trade: Trade, time: int) -> Trade:
    """The trade; numbered by its time and a hash where it has an id that is no number. Without any id, its place in
    the topic numbers it, and one that is sent twice counts twice."""
    if trade.id is None or (_is_digits(str(trade.id)) and int(trade.id) <= MAX_SEQ):
        return trade
    # A time that ends with the millisecond leaves three digits more against two hashes that meet.
    room = 1_000 if time % 1_000 else 1_000_000
    return _timed(trade, min(time * 1_000 + vendor.stable_hash(trade.id) % room, MAX_SEQ))


def _timed(trade: Trade, seq: int | None) -> Timed:
    return Timed(trade.symbol, trade.ts, trade.price, trade.size, trade.id, seq, trade.side)


def _microseconds(text: str) -> int:
    """Seconds since 1970 as microseconds, by their digits: times a million, a binary float is another time."""
    if not _seconds(text):
        raise RefusedError(f"timestamp: not seconds since 1970: {text!r:.80}")
    time = int(Decimal(text) * 1_000_000)
    if time >= _LAST:
        raise RefusedError(f"timestamp: not seconds since 1970: {text!r:.80}")
    return time


class _Kind(msgspec.Struct, gc=False):
    """What a frame of Binance is: an event, a stream's frame around one, or something without a name."""

    e: Any = None
    data: msgspec.Raw = _EMPTY
    stream: Any = None
    result: Any = msgspec.UNSET
    error: Any = msgspec.UNSET
    u: Any = None
    last_update: Any = msgspec.field(name="lastUpdateId", default=None)


class _Event(msgspec.Struct, gc=False):
    s: str
    p: msgspec.Raw
    q: msgspec.Raw
    time: int = msgspec.field(name="T")
    t: int | None = None
    a: int | None = None
    m: bool | None = None
    kind: str = msgspec.field(name="X", default="MARKET")


def _binance(symbol: _Symbol) -> Decoder:
    """Raw and combined streams: `trade` and `aggTrade`; their other events are skipped."""
    look = msgspec.json.Decoder(_Kind | list[_Kind]).decode
    parse = msgspec.json.Decoder(_Event).decode

    def read(value: bytes | msgspec.Raw) -> Trade | None:
        kind = look(value)
        if isinstance(kind, list):
            # All tickers at once come as an array; trades do not.
            if any(one.e in ("trade", "aggTrade") for one in kind):
                raise RefusedError("an array of trades: one record is one message")
            return None
        if kind.e is None:
            if bytes(kind.data) and kind.stream is not None:
                return read(kind.data)
            _demand_known(kind)
            return None
        return _event(parse(value), kind.e, symbol) if kind.e in ("trade", "aggTrade") else None

    return _guarded(read)


def _demand_known(kind: _Kind) -> None:
    """Answers, book tickers and partial books carry no `e`. Raises RefusedError for what is none of them."""
    if kind.result is msgspec.UNSET and kind.error is msgspec.UNSET and kind.u is None and kind.last_update is None:
        raise RefusedError("no event of Binance")


def _event(event: _Event, kind: str, symbol: _Symbol) -> Trade | None:
    if event.kind != "MARKET":
        # Of futures: the insurance fund and deleveraging trade outside the market.
        return None
    number = event.t if kind == "trade" else event.a
    if number is None or not 0 <= number <= MAX_SEQ:
        raise RefusedError(f"{'t' if kind == 'trade' else 'a'}: no trade's number: {number!r:.80}")
    ts: str | int = event.time
    if event.time >= _MICROSECONDS:
        if event.time >= _LAST:
            raise RefusedError(f"T: no time: {event.time!r:.80}")
        ts = stamp(event.time)
    # The buyer was the maker: the taker sold.
    side = {True: "sell", False: "buy", None: None}[event.m]
    return Trade(symbol(event.s), ts, digits_of(event.p, "p"), digits_of(event.q, "q"), number, None, side)


class _Type(msgspec.Struct, gc=False):
    type: Any = msgspec.field(name="TYPE", default=None)


def _cryptocompare(symbol: _Symbol) -> Decoder:
    """The streamer's trades (TYPE "0"), numbered by their time and CCSEQ as our own feed does; other frames are
    skipped."""
    look = msgspec.json.Decoder(_Type).decode

    def read(value: bytes) -> Trade | None:
        kind = look(value).type
        if kind is None and value.strip() != b"{}":
            raise RefusedError("no TYPE")
        if kind not in ("0", 0):
            return None
        frame = vendor.decode(value)
        if not (frame.base and frame.quote):
            raise RefusedError("FSYM and TSYM: missing")
        trade, _ = vendor.trade_of(frame, symbol(frame.market, frame.base, frame.quote))
        return _timed(trade, trade.seq)

    return _guarded(read)
