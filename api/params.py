"""Query strings into what a handler needs. Whatever is wrong becomes a 400 that says what is allowed."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast
from urllib.parse import parse_qsl

from barwright.api.errors import ApiError, bad, unknown_parameter
from barwright.api.intervals import FIRST, Interval, interval
from barwright.api.times import seconds

LIMIT, MOST = 1000, 10_000
MOST_WAIT = 30  # seconds
_SYMBOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+=-]{0,63}", re.ASCII)
_CURSOR = re.compile(r"1:(asc|desc):(-?\d{1,12}):([^:]+):(.+)", re.ASCII)
BARS = ("symbol", "interval", "start", "end", "limit", "cursor", "order", "format", "wait")
LATEST = ("symbol", "interval")
MOST_SYMBOLS = 500


@dataclass(frozen=True, slots=True)
class BarsQuery:
    """One request for bars: bucket starts in [lo, hi) seconds; `hi` None is now, `limit` None is no limit (CSV only).

    `newest`: no start was given, so it is the last `limit` bars that count, whatever the order of the answer.
    `wait`: the seconds to wait for what is missing.
    """

    symbol: str
    interval: Interval
    lo: int
    hi: int | None
    limit: int | None
    order: Literal["asc", "desc"]
    format: Literal["json", "csv"]
    newest: bool
    wait: float = 0.0

    @property
    def backwards(self) -> bool:
        """Whether bars are found from the end of the span."""
        return self.newest or self.order == "desc"


def pairs(query_string: bytes) -> list[tuple[str, str]]:
    """The parameters in the order given; ApiError 400 for what is not UTF-8 or absurdly many."""
    try:
        return parse_qsl(query_string.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=1000)
    except ValueError as error:
        raise ApiError(400, "bad_query", "The query string cannot be read.", "Percent-encode UTF-8.") from error


def single(query_string: bytes, known: Sequence[str]) -> dict[str, str]:
    """Parameters that may be given once each, all of them among `known`."""
    given: dict[str, str] = {}
    for name, value in pairs(query_string):
        if name not in known:
            raise unknown_parameter(name, known)
        if name in given:
            raise bad(name, value, f"{name} was given more than once.", hint="Give it once.")
        given[name] = value
    return given


def symbol(text: str) -> str:
    """A well-formed symbol. A plus sign that was not escaped arrives as a space."""
    text = text.replace(" ", "+")
    if not _SYMBOL.fullmatch(text):
        allowed = "a letter or digit, then at most 63 of letters, digits and ._:/@+=-"
        raise bad("symbol", text, f"{text!r:.80} is no symbol.", allowed)
    return text


def bars_query(query_string: bytes) -> BarsQuery:
    """The request for bars in a query string; ApiError 400."""
    given = single(query_string, BARS)
    for name in ("symbol", "interval"):
        if not given.get(name):
            raise bad(name, "", f"{name} is missing.", hint="For instance ?symbol=BTCUSD&interval=1m")
    format = cast('Literal["json", "csv"]', _choice(given, "format", ("json", "csv")))
    start = seconds("start", given["start"]) if "start" in given else None
    end = seconds("end", given["end"]) if "end" in given else None
    if start is not None and end is not None and end < start:
        raise bad("end", given["end"], "end lies before start.", "a time at or after start")
    query = BarsQuery(
        symbol=symbol(given["symbol"]), interval=interval(given["interval"]),
        lo=FIRST if start is None else start, hi=end, limit=_limit(given, None if format == "csv" else LIMIT),
        order=cast('Literal["asc", "desc"]', _choice(given, "order", ("asc", "desc"))), format=format,
        newest=start is None and (format == "json" or "limit" in given), wait=_wait(given, format),
    )  # fmt: skip
    return _continued(query, given["cursor"]) if "cursor" in given else query


def latest_query(query_string: bytes) -> tuple[list[str], Interval]:
    """The symbols (repeated or comma-separated, each once) and the interval of a request for the newest bars."""
    symbols: list[str] = []
    asked = None
    for name, value in pairs(query_string):
        if name == "symbol":
            symbols += [symbol(part) for part in value.split(",")]
        elif name != "interval":
            raise unknown_parameter(name, LATEST)
        elif asked is not None:
            raise bad(name, value, "interval was given more than once.", hint="Give it once.")
        else:
            asked = value
    symbols = list(dict.fromkeys(symbols))
    if not 1 <= len(symbols) <= MOST_SYMBOLS:
        raise bad("symbol", f"{len(symbols)} symbols", f"symbol must name 1 to {MOST_SYMBOLS} symbols.",
                  {"minimum": 1, "maximum": MOST_SYMBOLS}, "For instance ?symbol=BTCUSD,ETHUSD")  # fmt: skip
    return symbols, interval("1m" if asked is None else asked)


@dataclass(frozen=True, slots=True)
class Listing:
    """A request for a list: of one symbol or of all, at most `limit` entries; `all`: ended ones too."""

    symbol: str | None
    limit: int
    all: bool


def listing(query_string: bytes, known: Sequence[str]) -> Listing:
    """The request for a list in a query string; ApiError 400."""
    given = single(query_string, known)
    limit = _limit(given, LIMIT)
    assert limit is not None
    only = symbol(given["symbol"]) if "symbol" in given else None
    return Listing(only, limit, _choice(given, "all", ("false", "true")) == "true")


def purging(query_string: bytes) -> bool:
    """Whether the data are to go too; ApiError 400."""
    return _choice(single(query_string, ("purge",)), "purge", ("false", "true")) == "true"


def _choice(given: dict[str, str], name: str, allowed: tuple[str, ...]) -> str:
    """One of a few words; the first is the default."""
    value = given.get(name, allowed[0])
    if value not in allowed:
        raise bad(name, value, f"{name}={value!r:.40} is not among {', '.join(allowed)}.", list(allowed))
    return value


def _limit(given: dict[str, str], default: int | None) -> int | None:
    text = given.get("limit")
    if text is None:
        return default
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not 1 <= int(text) <= (MOST if default else 10**9):
        raise bad("limit", text, f"limit={text!r:.40} is not from 1 to {MOST}.", {"minimum": 1, "maximum": MOST},
                  "Page with next_cursor, or use format=csv, which takes any number.")  # fmt: skip
    return int(text)


def _wait(given: dict[str, str], format: str) -> float:
    """The seconds a request waits, 0 without `wait`."""
    text = given.get("wait")
    if text is None:
        return 0.0
    if not re.fullmatch(r"\d{1,3}(\.\d{1,6})?", text, re.ASCII) or not 0 < float(text) <= MOST_WAIT:
        raise bad("wait", text, f"wait={text!r:.40} is not above 0 and up to {MOST_WAIT}.",
                  {"exclusive_minimum": 0, "maximum": MOST_WAIT}, "Seconds.")  # fmt: skip
    if format == "csv":
        raise bad("wait", text, "wait goes with format=json only.", hint="Wait with limit=1, then ask for the CSV.")
    return float(text)


def make_cursor(query: BarsQuery, bucket: int) -> str:
    """Where the next page goes on: at the bucket start `bucket` ascending, below it descending. It names a bucket and
    not a count, so bars that come or change meanwhile shift nothing."""
    text = f"1:{query.order}:{bucket}:{query.interval.name}:{query.symbol}"
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _continued(query: BarsQuery, cursor: str) -> BarsQuery:
    """The query that goes on where `cursor` says."""
    try:
        match = _CURSOR.fullmatch(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii"))
    except ValueError:
        match = None
    if match is None:
        raise bad("cursor", cursor[:100], "The cursor cannot be read.", "next_cursor of an answer")
    order, bucket, interval_name, symbol_name = match.groups()
    if (order, interval_name, symbol_name) != (query.order, query.interval.name, query.symbol):
        raise bad("cursor", cursor, "The cursor belongs to another request.",
                  {"symbol": symbol_name, "interval": interval_name, "order": order},
                  "Repeat the request unchanged but for the cursor.")  # fmt: skip
    if order == "asc":
        return replace(query, lo=max(query.lo, int(bucket)), newest=False)
    return replace(query, hi=int(bucket) if query.hi is None else min(query.hi, int(bucket)))
