# ruff: noqa: E501
"""What is legal but hostile, and how it is bent further. A case is a function of its seed and its number."""

from __future__ import annotations

import random
from typing import Any, Final

import msgspec

from tests.ingest.messages import bar, trade

# JSON values as they stand in a text.
VALUES: Final = [
    b"1e400", b"-0", b"0e999999999", b"1e-400", b"1E+2147483648", b"9" * 5_000, b"0." + b"1" * 5_000, b"NaN", b"Infinity",
    b"-Infinity", b"null", b"true", b"[]", b"{}", b'""', b"18446744073709551616", b"-1", b"0x10", b"1_000", b"01", b".5",
    b"1.", b'"NaN"', b'"1e131071"', b'"0x10"', b'"\xd9\xa1\xd9\xa2\xd9\xa3"', b'"\\ud800"', b'"\\u0000"', b'"\x00"',
    b'"\xff\xfe"', b'"\xef\xbb\xbf1"', b'"\xe2\x80\xae1.5"', b'"' + b"x" * 5_000 + b'"', b'"1,5"', b'" 1"', b'"1\\n"',
    b'"-0.0"', b'"0e9"', b'"1e-18"', b'"1e-19"', b'"999999999999999999.999999999999999999"', b'"1000000000000000000"',
    b'"0000-01-01T00:00:00Z"', b'"-001-01-01T00:00:00Z"', b'"9999-12-31T23:59:59.999999Z"', b'"9999-12-31T23:59:59-23:59"',
    b'"0001-01-01T00:00:00+23:59"', b'"2016-12-31T23:59:60Z"', b'"2023-03-01T24:00:00Z"', b'"2023-02-29T00:00:00Z"',
    b'"2023-03-01T05:30:00+05:30"', b'"2023-03-01T00:00:00+24:00"', b'"2023-03-01T00:00:00"', b"253402300800000",
    b"-62135596800000", b"9223372036854775807", b"9223372036854775808", b"1677628800000", b"1677628800000.5",
    b'"\\\\N"', b'"\\t"', b'"a\\tb"', b"[" * 2_000 + b"]" * 2_000, b"[" * 200_000, b'{"a":' * 2_000 + b"1" + b"}" * 2_000,
]  # fmt: skip
# Texts for parameters, symbols, fields of CSV and settings.
TEXTS: Final = [
    "", " ", "\0", "\ufeff", "\u202eDSUCTB", "\u0661\u0662", "\u0410", "\U0001f600", "a" * 64, "a" * 65, "x" * 3_000,
    "-1", "0", "-0", "1e400", "NaN", "Infinity", "9" * 400, "1.5", "9223372036854775808", "0x10", "1_000", "\u00bd",
    "0000-01-01", "0001-01-01", "9999-12-31", "10000-01-01", "-0001-01-01T00:00:00Z", "2016-12-31T23:59:60Z",
    "2023-03-01T00:00:00+23:59", "253402300799", "-62135596800", "now", "1m", "3mo", "0m", "99999999999m", "1w", "7d",
    "America/New_York", "Pacific/Apia", "../../etc/passwd", "/etc/passwd", "EST5EDT", "09:30-16:00", "24:00-00:00",
    "desc", "json", "parquet", "float", "previous", "true", "BTCUSD", "BTCUSD," * 51, "BTCUSD,NONE", "%", "%00", "';--",
    "{}", "[]", "\r\nX: y", "\"", ",", "1:asc:5:x:y", "deadbeef-5", "\ud7ff", "://", "http://[", "*", "(", "a=binance:{x",
]  # fmt: skip
CRYPTOFEED: Final = (b'{"exchange":"COINBASE","symbol":"BTC-USD","side":"buy","amount":0.00012,"price":27180.12,'
                     b'"id":"77","type":null,"timestamp":1677628800.123456}')  # fmt: skip
BINANCE: Final = (
    b'{"e":"trade","E":1677628800200,"s":"BTCUSDT","t":5,"p":"27180.1","q":"0.1","T":1677628800123,"m":true}'
)
AGGREGATE: Final = (
    b'{"stream":"x","data":{"e":"aggTrade","s":"BTCUSDT","a":9,"p":"1.5","q":"2","T":1677628800123,"m":false}}'
)
STREAMER: Final = (b'{"TYPE":"0","M":"Coinbase","FSYM":"BTC","TSYM":"USD","SIDE":1,"ACTION":1,"CCSEQ":7,"P":27180.12,'
                   b'"Q":0.5,"TS":1677628800,"SEQ":1,"REPORTEDNS":1677628800123456789,"DELAYNS":1}')  # fmt: skip
MARKS: Final = [
    {"type": "mark", "event": event, "session": "s", "partition": 0, "symbol": "BTCUSD", "seq": 1, "count": 1,
     "start": "2023-03-01T00:00:00Z", "end": "2023-03-01T00:05:00Z", "ts": "2023-03-01T00:00:00Z"}
    for event in ("open", "alive", "close", "missed", "covered")
]  # fmt: skip
RECORDS: Final = {
    "native": [msgspec.json.encode(one) for one in (trade(1), bar(), [trade(2), trade(3)], [trade(4), bar(3)], *MARKS)],
    "cryptofeed": [CRYPTOFEED],
    "binance": [BINANCE, AGGREGATE],
    "cryptocompare": [STREAMER],
}


def chance(seed: int, number: int) -> random.Random:
    """The choices of one case."""
    return random.Random(f"{seed}:{number}")


def mutated(rng: random.Random, value: bytes) -> bytes:
    """A record with one to three things changed: a value, a field twice or gone, or bytes."""
    for _ in range(rng.randint(1, 3)):
        value = rng.choice((_value, _value, _value, _field, _bytes, _cut))(rng, value)
    return value


def text(rng: random.Random) -> str:
    """A hostile text, at times of two."""
    one = rng.choice(TEXTS)
    return one if rng.random() < 0.8 else (one + rng.choice(TEXTS))[:4_000]


def _fields(value: bytes) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(value, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _value(rng: random.Random, value: bytes) -> bytes:
    fields = _fields(value)
    if not fields:
        return value
    name = rng.choice([*fields])
    return _object([(key, rng.choice(VALUES) if key == name else bytes(raw)) for key, raw in fields.items()])


def _field(rng: random.Random, value: bytes) -> bytes:
    pairs = [(key, bytes(raw)) for key, raw in (_fields(value) or {}).items()]
    if not pairs:
        return value
    place = rng.randrange(len(pairs))
    return _object([*pairs, pairs[place]] if rng.random() < 0.5 else pairs[:place] + pairs[place + 1 :])


def _object(pairs: list[tuple[str, bytes]]) -> bytes:
    return b"{" + b",".join(msgspec.json.encode(key) + b":" + raw for key, raw in pairs) + b"}"


def _bytes(rng: random.Random, value: bytes) -> bytes:
    place = rng.randrange(len(value) + 1)
    return (
        value[:place] + bytes(rng.randrange(256) for _ in range(rng.randint(1, 4))) + value[place + rng.randint(0, 3) :]
    )


def _cut(rng: random.Random, value: bytes) -> bytes:
    return rng.choice((b"", b"\xef\xbb\xbf", b" ", b"[")) + value[: rng.randrange(len(value) + 1)]
