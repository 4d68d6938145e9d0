"""From a record's bytes to items: the decoders, one for each message format, chosen by topic.

A decoder gives every item of a record in its order: a Trade, a Bar, a Mark, or a Bad with its reason and its exact
bytes. Other producers' formats are in decoders.py; what follows (ticks.py) is the same for all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec

from barwright.ingest.marks import Mark
from barwright.ingest.ticks import MINUTE, Bar, RefusedError, Trade, is_symbol, read_time


class Bad(NamedTuple):
    """An item that is no message, with its reason and its exact bytes."""

    reason: str
    raw: bytes


Item = Trade | Bar | Mark | Bad
Decoder = Callable[[bytes], Sequence[Item]]
Decoders = Sequence[tuple[re.Pattern[str], Decoder]]

# Numbers that are strings (the usual case) are taken as they are; JSON numbers are kept as their bytes, since every
# other way to read them goes through binary floating point or costs twice as much (Decimal: 0.46 us a tick, not 0.22).
_STRINGS: Final = msgspec.json.Decoder(Trade | Bar | Mark | list[Trade | Bar | Mark])
_LINES: Final = msgspec.json.Decoder(Trade | Bar | Mark)
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_is_array = re.compile(rb"[ \t\r\n]*\[").match
# What msgspec raises for bytes that are no JSON or not the JSON we want.
JSON_ERRORS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)


_NULL: Final = msgspec.Raw(b"null")


class _Trade(msgspec.Struct, tag_field="type", tag="trade", gc=False):
    """Trade with its numbers as they stand in the text."""

    symbol: str
    ts: str | int
    price: msgspec.Raw
    size: msgspec.Raw
    id: str | int | None = None
    seq: int | None = None
    side: str | None = None
    session: str | None = None


class _Bar(msgspec.Struct, tag_field="type", tag="bar", gc=False):
    """Bar with its numbers as they stand in the text."""

    symbol: str
    ts: str | int
    interval: str
    open: msgspec.Raw
    high: msgspec.Raw
    low: msgspec.Raw
    close: msgspec.Raw
    volume: msgspec.Raw
    # Not `Raw | None`: msgspec takes nothing but null for that.
    quote_volume: msgspec.Raw = _NULL
    trades: int | None = None
    source: str | None = None
    task: int | None = None
    attempt: int | None = None


_NUMBERS: Final = msgspec.json.Decoder(_Trade | _Bar | Mark | list[_Trade | _Bar | Mark])
_ONE: Final = msgspec.json.Decoder(_Trade | _Bar | Mark)


def native(value: bytes) -> Sequence[Item]:
    """Barwright's own format: one object or an array of them."""
    try:
        found = _STRINGS.decode(value)
    except JSON_ERRORS:
        return _native_numbers(value)
    return found if isinstance(found, list) else (found,)


def native_lines(values: Sequence[bytes | None]) -> Sequence[Item]:
    """What `native` gives for each of many records that hold one object each, in one call at half the cost; nothing
    where a record may hold anything else.

    Newlines stand between records only, each after a brace that closes and before one that opens. No JSON has that
    inside of a value, so that no record is read into another.
    """
    with suppress(TypeError, *JSON_ERRORS):
        text = b"\n".join(values) if values[0][:1] == b"{" else b""  # type: ignore[arg-type,index]
        if text.count(b"\n") == text.count(b"}\n{") == len(values) - 1:
            found = _LINES.decode_lines(text)
            return found if len(found) == len(values) else ()
    return ()


def _native_numbers(value: bytes) -> Sequence[Item]:
    """The same where numbers are JSON numbers, or something is wrong."""
    try:
        found = _NUMBERS.decode(value)
        return [_plain(item) for item in found] if isinstance(found, list) else (_plain(found),)
    except (*JSON_ERRORS, RefusedError):
        pass
    try:
        return [_item(raw) for raw in split(value)]
    except JSON_ERRORS as error:
        return (Bad(reason_of(error), value),)


def _item(raw: bytes) -> Item:
    """One item by itself."""
    try:
        return _plain(_ONE.decode(raw))
    except RefusedError as refused:
        return Bad(refused.message, raw)
    except JSON_ERRORS as error:
        return Bad(reason_of(error), raw)


def _plain(item: _Trade | _Bar | Mark) -> Trade | Bar | Mark:
    """The item with its numbers as text. Raises RefusedError for a number that is something else."""
    if isinstance(item, Mark):
        return item
    if isinstance(item, _Trade):
        price, size = digits_of(item.price, "price"), digits_of(item.size, "size")
        return Trade(item.symbol, item.ts, price, size, item.id, item.seq, item.side, item.session)
    numbers = {name: digits_of(getattr(item, name), name) for name in ("open", "high", "low", "close", "volume")}
    if bytes(item.quote_volume) != b"null":
        numbers["quote_volume"] = digits_of(item.quote_volume, "quote_volume")
    rest = {"trades": item.trades, "source": item.source, "task": item.task, "attempt": item.attempt}
    return Bar(item.symbol, item.ts, item.interval, **numbers, **rest)  # type: ignore[arg-type]


def digits_of(raw: msgspec.Raw, name: str) -> str:
    """The digits of a JSON number or of a JSON string."""
    text = bytes(raw)
    try:
        return msgspec.json.decode(text, type=str) if text[:1] == b'"' else text.decode("ascii")
    except JSON_ERRORS as error:
        raise RefusedError(f"{name}: not a decimal number") from error


def split(value: bytes) -> list[bytes]:
    """The bytes of each item of an array; a value that is no array is its own one item. Raises msgspec's errors."""
    return [bytes(raw) for raw in _ITEMS.decode(value)] if _is_array(value) else [value]


class Raws:
    """The bytes of each of a record's items, where its value is an array of so many; else its whole value for each."""

    def __init__(self, value: bytes, items: int) -> None:
        self.value, self.items = value, items
        self._raws: list[bytes] | None = None

    def of(self, place: int) -> bytes:
        """One item's. The record is split when the first is asked for."""
        if self._raws is None:
            try:
                self._raws = split(self.value)
            except JSON_ERRORS:
                self._raws = []
        return self._raws[place] if len(self._raws) == self.items else self.value


class Glance(msgspec.Struct):
    """What can be read of a trade or bar that was refused: a field is None where it cannot."""

    symbol: str | None = None
    interval: str | None = None
    session: str | None = None
    ts: str | int | None = None
    task: int | None = None


def glance(raw: bytes) -> Glance:
    """Look at an item of our own format that was refused."""
    with suppress(*JSON_ERRORS):
        found = msgspec.json.decode(raw)
        if isinstance(found, dict) and found.get("type") in ("trade", "bar"):
            names = ("symbol", "session") if found["type"] == "trade" else ("symbol", "interval")
            texts = {name: found.get(name) for name in names}
            ts, task = found.get("ts"), found.get("task")
            return Glance(
                **{name: text for name, text in texts.items() if isinstance(text, str)},
                ts=ts if type(ts) in (str, int) else None,
                task=task if isinstance(task, int) else None,
            )
    return Glance()


def lost_of(item: Item) -> tuple[str, int, str | None] | None:
    """Symbol, minute counted from 1970, and session of a trade or 1m bar that was refused, where they can be told.

    None for a bar of a task, too: nobody was promised it yet.
    """
    seen = glance(item.raw) if isinstance(item, Bad) else item
    if isinstance(seen, Mark):
        return None
    if not isinstance(seen, Trade) and (seen.task is not None or seen.interval not in (None, "1m")):
        return None
    time = None if seen.ts is None else read_time(seen.ts)
    if time is None or seen.symbol is None or not is_symbol(seen.symbol):
        return None
    return seen.symbol, time // MINUTE, None if isinstance(seen, Bar) else seen.session


def reason_of(error: Exception) -> str:
    """What was wrong with an item's JSON, in a few words."""
    if isinstance(error, msgspec.ValidationError):
        return str(error)
    if isinstance(error, msgspec.DecodeError):
        return f"not JSON: {error}"
    return f"not JSON: {type(error).__name__}"


def decoder_of(topic: str, decoders: Decoders) -> Decoder:
    """The decoder of a topic's records: the first whose pattern fits, else the native one."""
    return next((decoder for pattern, decoder in decoders if pattern.match(topic)), native)
