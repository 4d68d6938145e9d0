"""CryptoCompare's messages: the frames of its streamer, and what makes a trade (TYPE "0") a native one."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final

import msgspec

from barwright.ingest.ticks import MAX_SEQ, RefusedError, Trade, decimal_of, stamp

NANOSECONDS: Final = 1_000_000_000
# Seconds since 1970 of the year 9999's end: what is larger counts something else.
_LAST: Final = 253_402_300_799
_is_digits = re.compile("[0-9]{1,40}").fullmatch
_number = re.compile(r"-?[0-9.eE+-]+").fullmatch


class Frame(msgspec.Struct, gc=False):
    """Any frame. Numbers of trades are kept as their bytes, so that they keep their digits."""

    type: str | int = msgspec.field(name="TYPE", default="")
    market: str = msgspec.field(name="M", default="")
    base: str = msgspec.field(name="FSYM", default="")
    quote: str = msgspec.field(name="TSYM", default="")
    flags: str | int | None = msgspec.field(name="F", default=None)
    id: str | int | None = msgspec.field(name="ID", default=None)
    ts: int | None = msgspec.field(name="TS", default=None)
    nanoseconds: int | None = msgspec.field(name="TSNS", default=None)
    ccseq: int | None = msgspec.field(name="CCSEQ", default=None)
    price: msgspec.Raw = msgspec.field(name="P", default_factory=msgspec.Raw)
    size: msgspec.Raw = msgspec.field(name="Q", default_factory=msgspec.Raw)
    # Of the other frames:
    message: str = msgspec.field(name="MESSAGE", default="")
    info: str = msgspec.field(name="INFO", default="")
    sub: str = msgspec.field(name="SUB", default="")
    parameter: str = msgspec.field(name="PARAMETER", default="")
    server_ms: int | None = msgspec.field(name="SERVER_TIME_MS", default=None)
    time_ms: int | None = msgspec.field(name="TIMEMS", default=None)

    @property
    def name(self) -> str:
        """The market's name, as `Coinbase~BTC~USD`."""
        return f"{self.market}~{self.base}~{self.quote}"


decode: Final = msgspec.json.Decoder(Frame).decode


def trade_of(frame: Frame, symbol: str) -> tuple[Trade, int]:
    """The native trade of a TYPE "0" frame and its event time in microseconds. Raises RefusedError."""
    ts, nanoseconds = frame.ts, frame.nanoseconds
    if ts is None or not 0 <= ts <= _LAST:
        raise RefusedError(f"TS: not seconds since 1970: {ts!r:.80}")
    if nanoseconds is not None and not 0 <= nanoseconds < NANOSECONDS:
        raise RefusedError(f"TSNS: not nanoseconds of a second: {nanoseconds!r:.80}")
    at = ts * 1_000_000 + (nanoseconds or 0) // 1_000
    price, size = _digits(frame.price, "P"), _digits(frame.size, "Q")
    identity = None if frame.id is None else str(frame.id)
    return Trade(symbol, stamp(at), price, size, identity, seq_of(frame, at), side_of(frame.flags)), at


def seq_of(frame: Frame, at: int) -> int:
    """The order of a trade within its market, made from its time: nanoseconds since 1970 whose last digits are CCSEQ's,
    three of them where the feed gives sub-second time, nine where not. Else the ID's, or a hash's of it."""
    room = NANOSECONDS if frame.nanoseconds is None else 1_000
    number = frame.ccseq
    if number is None and frame.id is not None and _is_digits(str(frame.id)):
        number = int(frame.id)
    if number is None:
        # Sub-second times that end with the millisecond leave three digits more against two hashes that meet.
        room = 1_000_000 if room == 1_000 and not at % 1_000 else room
        # A trade that has no name at all is known again by what it says.
        content = b" ".join((bytes(frame.price), bytes(frame.size), str(frame.flags).encode()))
        number = stable_hash(content.decode("utf-8", "replace") if frame.id is None else frame.id)
    return min(at * 1_000 + number % room, MAX_SEQ)


def stable_hash(text: str | int) -> int:
    """64 bits that are the same in every process."""
    return int.from_bytes(blake2b(str(text).encode("utf-8", "surrogatepass"), digest_size=8).digest())


def side_of(flags: str | int | None) -> str | None:
    """The taker's side from F, a bit mask: 1 sell, 2 buy, 4 unknown, 8 reversed."""
    text = str(flags)
    bits = int(text) & 3 if _is_digits(text) else 0
    return {1: "sell", 2: "buy"}.get(bits)


def _digits(raw: msgspec.Raw, name: str) -> str:
    """A number's own digits. Raises RefusedError."""
    text = bytes(raw).decode("ascii", "replace").strip('"')
    if not _number(text):
        raise RefusedError(f"{name}: {'missing' if not text or text == 'null' else f'not a number: {text!r:.80}'}")
    number = decimal_of(text, name)
    if name == "P" and number == "0":
        raise RefusedError("P: not above zero")
    return text
