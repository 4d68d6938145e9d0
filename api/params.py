"""Query strings into what a handler needs. Whatever is wrong becomes a 400 that says what is allowed."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, TypeVar
from urllib.parse import parse_qsl

from litestar.datastructures.headers import Accept

from barwright.api.clocks import zone
from barwright.api.encode import PLAIN, Numbers, Style
from barwright.api.errors import ApiError, bad, unknown_parameter
from barwright.api.intervals import FIRST, LAST, Interval, interval
from barwright.api.times import seconds

LIMIT, MOST = 1000, 10_000
MOST_WAIT = 30  # seconds
SYMBOL_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._:/@+=-]{0,63}"
_SYMBOL = re.compile(SYMBOL_PATTERN, re.ASCII)
_CURSOR = re.compile(r"1:(asc|desc):(-?\d{1,12}|-)((?:,(?:-?\d{1,12}|-))*):([^:]+):(.+)", re.ASCII)
_REV = re.compile(r"([0-9a-f]{8})-(\d{1,18})", re.ASCII)
BARS = ("symbol", "interval", "start", "end", "limit", "cursor", "order", "fill", "tz", "session", "format", "numbers",
        "time", "wait", "rev")  # fmt: skip
LATEST = ("symbol", "interval", "tz", "session", "numbers", "time")
MOST_SYMBOLS = 500
T = TypeVar("T")
SEVERAL = 50  # symbols in one request for bars
Format = Literal["json", "columns", "csv", "arrow", "parquet"]
Fill = Literal["none", "previous", "null"]
ORDERS: tuple[Literal["asc", "desc"], ...] = ("asc", "desc")
FORMATS: tuple[Format, ...] = ("json", "columns", "csv", "arrow", "parquet")
MEDIA: dict[str, Format] = {
    "application/json": "json", "text/csv": "csv", "application/vnd.apache.arrow.stream": "arrow",
    "application/vnd.apache.parquet": "parquet",
}  # fmt: skip
FILLS: tuple[Fill, ...] = ("none", "previous", "null")
TIMES: tuple[Literal["iso", "s", "ms"], ...] = ("iso", "s", "ms")
FLOATS = ("arrow", "parquet")  # formats whose numbers are decimals or floats


@dataclass(frozen=True, slots=True)
class BarsQuery:
    """One request for bars: bucket starts in [lo, hi) seconds; `hi` None is now, `limit` None is no limit (tables).

    `newest`: no start was given, so it is the last `limit` bars that count, whatever the order of the answer.
    `wait`: the seconds to wait for what is missing. `rev`: the answer may be kept for ever if it is still the one of
    this revision, and `bounded`: both its ends were given. `symbols`: all that were asked for, where that is not
    `symbol` alone; `at`: where the cursor goes on with each of them, None where nothing is left.
    `tz` and `session` are those that were given, as they are written back.
    """

    symbol: str
    interval: Interval
    lo: int
    hi: int | None
    limit: int | None
    order: Literal["asc", "desc"]
    format: Format
    newest: bool
    wait: float = 0.0
    fill: Fill = "none"
    style: Style = PLAIN
    tz: str | None = None
    session: str | None = None
    rev: str | None = None
    bounded: bool = False
    symbols: tuple[str, ...] = ()
    at: tuple[int | None, ...] = ()

    @property
    def cost(self) -> int:
        """The bars it asks for; of a table without a limit, its first page."""
        return (self.limit or LIMIT) * max(1, len(self.symbols))

    @property
    def several(self) -> bool:
        """Whether more than one symbol was asked for."""
        return len(self.symbols) > 1

    def each(self) -> "list[BarsQuery]":
        """A query for each symbol, in the order asked for."""
        names = self.symbols or (self.symbol,)
        alone = [replace(self, symbol=name, symbols=(), at=()) for name in names]
        return [_from(query, place) for query, place in zip(alone, self.at, strict=True)] if self.at else alone

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


def single(query_string: bytes, known: Sequence[str], repeated: str = "") -> dict[str, str]:
    """Parameters that may be given once each but for a repeated one, all of them among `known`."""
    given: dict[str, str] = {}
    for name, value in pairs(query_string):
        if name not in known:
            raise unknown_parameter(name, known)
        if name in given and name != repeated:
            raise bad(name, value, f"{name} was given more than once.", hint="Give it once.")
        given[name] = value
    return given


@lru_cache(256)
def negotiated(accept: bytes) -> Format:
    """The format a client prefers by its `Accept`; JSON where it names none of ours."""
    best = Accept(accept.decode("latin-1")).best_match(list(MEDIA))
    return MEDIA.get(best or "", "json")


def symbol(text: str) -> str:
    """A well-formed symbol. A plus sign that was not escaped arrives as a space."""
    text = text.replace(" ", "+")
    if not _SYMBOL.fullmatch(text):
        allowed = "a letter or digit, then at most 63 of letters, digits and ._:/@+=-"
        raise bad("symbol", text, f"{text!r:.80} is no symbol.", allowed)
    return text


def bars_query(query_string: bytes, format: Format = "json") -> BarsQuery:
    """The request for bars in a query string, `format` being what `Accept` names; ApiError 400."""
    given = single(query_string, BARS)
    for name in ("symbol", "interval"):
        if not given.get(name):
            raise bad(name, "", f"{name} is missing.", hint="For instance ?symbol=BTCUSD&interval=1m")
    format = _choice(given, "format", FORMATS) if "format" in given else format
    json = format in ("json", "columns")
    start = seconds("start", given["start"]) if "start" in given else None
    end = seconds("end", given["end"]) if "end" in given else None
    if start is not None and end is not None and end < start:
        raise bad("end", given["end"], "end lies before start.", "a time at or after start")
    symbols = _symbols(given["symbol"])
    query = BarsQuery(
        symbol=symbols[0], interval=interval(given["interval"], given.get("tz"), given.get("session")),
        lo=FIRST if start is None else start, hi=end, limit=_limit(given, LIMIT if json else None),
        order=_choice(given, "order", ORDERS), format=format,
        newest=start is None and (json or "limit" in given), wait=_wait(given, format),
        fill=_choice(given, "fill", FILLS), style=style(given, format),
        tz=zone(given["tz"]) if "tz" in given else None, session=given.get("session"),
        rev=_rev(given),
        bounded=start is not None and end is not None, symbols=symbols if len(symbols) > 1 else (),
    )  # fmt: skip
    return _continued(query, given["cursor"]) if "cursor" in given else query


def _symbols(text: str) -> tuple[str, ...]:
    """The symbols of a request for bars, each once."""
    symbols = tuple(dict.fromkeys(symbol(part) for part in text.split(",")))
    if len(symbols) > SEVERAL:
        raise bad("symbol", f"{len(symbols)} symbols", f"symbol must name 1 to {SEVERAL} symbols.",
                  {"minimum": 1, "maximum": SEVERAL}, "Ask for them in several requests.")  # fmt: skip
    return symbols


def style(given: dict[str, str], format: Format) -> Style:
    """How numbers and times are to be written."""
    allowed: tuple[Numbers, ...] = ("number", "float") if format in FLOATS else ("number", "string")
    numbers, time = _choice(given, "numbers", allowed), _choice(given, "time", TIMES)
    return Style(numbers, time)


def _rev(given: dict[str, str]) -> str | None:
    """A revision that an answer has named."""
    text = given.get("rev")
    if text is not None and not _REV.fullmatch(text):
        raise bad("rev", text[:40], f"rev={text!r:.40} is no revision.", "`rev` of an answer")
    return text


def latest_query(query_string: bytes) -> tuple[list[str], Interval, Style]:
    """The symbols (repeated or comma-separated, each once), interval and style of a request for the newest bars;
    ApiError 400."""
    asked = pairs(query_string)
    given = single(query_string, LATEST, "symbol")
    symbols = list(
        dict.fromkeys(symbol(part) for name, value in asked if name == "symbol" for part in value.split(","))
    )
    if not 1 <= len(symbols) <= MOST_SYMBOLS:
        raise bad("symbol", f"{len(symbols)} symbols", f"symbol must name 1 to {MOST_SYMBOLS} symbols.",
                  {"minimum": 1, "maximum": MOST_SYMBOLS}, "For instance ?symbol=BTCUSD,ETHUSD")  # fmt: skip
    found = interval(given.get("interval", "1m"), given.get("tz"), given.get("session"))
    return symbols, found, style(given, "json")


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


def _choice(given: dict[str, str], name: str, allowed: tuple[T, ...]) -> T:
    """One of a few words; the first is the default."""
    text = given.get(name)
    value = allowed[0] if text is None else next((word for word in allowed if word == text), None)
    if value is None:
        words = ", ".join(map(str, allowed))
        raise bad(name, str(text)[:100], f"{name}={text!r:.40} is not among {words}.", list(allowed))
    return value


def _limit(given: dict[str, str], default: int | None) -> int | None:
    text = given.get("limit")
    if text is None:
        return default
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not 1 <= int(text) <= (MOST if default else 10**9):
        raise bad("limit", text, f"limit={text!r:.40} is not from 1 to {MOST}.", {"minimum": 1, "maximum": MOST},
                  "Page with next_cursor, or use csv, arrow or parquet, which take any number.")  # fmt: skip
    return int(text)


def _wait(given: dict[str, str], format: str) -> float:
    """The seconds a request waits, 0 without `wait`."""
    text = given.get("wait")
    if text is None:
        return 0.0
    if not re.fullmatch(r"\d{1,3}(\.\d{1,6})?", text, re.ASCII) or not 0 < float(text) <= MOST_WAIT:
        raise bad("wait", text, f"wait={text!r:.40} is not above 0 and up to {MOST_WAIT}.",
                  {"exclusive_minimum": 0, "maximum": MOST_WAIT}, "Seconds.")  # fmt: skip
    if format not in ("json", "columns"):
        raise bad("wait", text, f"wait does not go with format={format}.", ["json", "columns"],
                  f"Wait with format=json and limit=1, then ask for the {format}.")  # fmt: skip
    return float(text)


def make_cursor(query: BarsQuery, *buckets: int | None) -> str:
    """Where the next page goes on: at a bucket start ascending, below it descending, for each symbol; None where
    nothing is left. It names a bucket and not a count, so bars that come or change meanwhile shift nothing."""
    places = ",".join("-" if bucket is None else str(bucket) for bucket in buckets)
    text = f"1:{query.order}:{places}:{_key(query)}:{','.join(query.symbols or (query.symbol,))}"
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _key(query: BarsQuery) -> str:
    """The interval in a cursor, where colons part."""
    return query.interval.key.replace(":", "")


def _continued(query: BarsQuery, cursor: str) -> BarsQuery:
    """The query that goes on where `cursor` says."""
    try:
        match = _CURSOR.fullmatch(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii"))
    except ValueError:
        match = None
    if match is None:
        raise bad("cursor", cursor[:100], "The cursor cannot be read.", "next_cursor of an answer")
    order, first, others, key, symbols = match.groups()
    places = [None if place == "-" else int(place) for place in f"{first}{others}".split(",")]
    names = query.symbols or (query.symbol,)
    if (order, key, tuple(symbols.split(","))) != (query.order, _key(query), names) or len(places) != len(names):
        raise bad("cursor", cursor[:100], "The cursor belongs to another request.",
                  {"symbol": symbols, "interval": key, "order": order},
                  "Repeat the request unchanged but for the cursor.")  # fmt: skip
    return replace(query, at=tuple(places)) if query.several else _from(query, places[0])


def _from(query: BarsQuery, place: int | None) -> BarsQuery:
    """The query from a place on; from None on nothing is left."""
    place = (LAST if query.order == "asc" else FIRST) if place is None else min(max(place, FIRST), LAST)
    if query.order == "asc":
        return replace(query, lo=max(query.lo, place), hi=query.hi, newest=False)
    return replace(query, hi=place if query.hi is None else min(query.hi, place))
