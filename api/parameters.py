"""Every parameter of the routes about bars and symbols, as the OpenAPI document tells them."""

from litestar.openapi.spec import Example, Parameter, Schema
from litestar.openapi.spec.enums import OpenAPIType as T

from barwright.api.documentation import TIME, query
from barwright.api.intervals import ALLOWED_SESSION, MOST_DAYS, MOST_MONTHS
from barwright.api.params import FILLS, FORMATS, LIMIT, MOST, MOST_SYMBOLS, MOST_WAIT, SEVERAL, SYMBOL_PATTERN, TIMES
from barwright.api.times import ALLOWED

SYMBOL = Schema(type=T.STRING, pattern=f"^{SYMBOL_PATTERN}$")
_SYMBOLS = Schema(type=T.STRING, pattern=f"^{SYMBOL_PATTERN}(,{SYMBOL_PATTERN})*$")
_INTERVAL = Schema(type=T.STRING, pattern="^[0-9]{1,9}(m|min|h|d|w|mo)$")


def _words(*allowed: str, default: str | None = None) -> Schema:
    return Schema(type=T.STRING, enum=list(allowed), default=default or allowed[0])


_TZ = query("tz", "A zone of the tz database: buckets follow its clock. With intervals from 1h on, or with `session`.",
            "America/New_York")  # fmt: skip
_SESSION = query("session", f"Only a part of each day, {ALLOWED_SESSION}. UTC without `tz`.", "09:30-16:00")
_NUMBERS = query("numbers", "`string` keeps every digit where numbers are doubles. Arrow and Parquet: `number` is "
                 "decimal128(38,18), `float` is float64.", "string", _words("number", "string", "float"))  # fmt: skip
_TIME = query("time", "How `bucket` is written: RFC 3339, or seconds or milliseconds since 1970.", "ms", _words(*TIMES))
ONE_SYMBOL = query("symbol", "The symbol, case-sensitive.", "BTCUSD", SYMBOL, True)
BARS_PARAMETERS = (
    query("symbol", f"The symbol, case-sensitive; up to {SEVERAL}, separated by commas.", "BTCUSD", _SYMBOLS, True),
    query("interval", f"Width of the bars: `1m`, `5m`, `1h`, `1d`, `1w`, `1mo`, or any multiple of a level up to "
          f"`{MOST_DAYS}d` or `{MOST_MONTHS}mo`; `60m`, `24h` and `7d` are understood too.", "1h", _INTERVAL, True),
    query("start", f"First bucket start, inclusive: {ALLOWED}. Without it: the newest `limit` bars before `end`.",
          "2019-10-11T00:00:00Z", TIME),
    query("end", "End of the bucket starts, exclusive; now without it (the open bar is included).", 1570838400, TIME),
    query("limit", f"Most bars of each symbol; {LIMIT} without it. Tables have no limit unless one is given.", 500,
          Schema(type=T.INTEGER, minimum=1, maximum=MOST, default=LIMIT)),
    query("cursor", "`next_cursor` of the answer before; the rest of the request unchanged.", None),
    query("order", "By bucket.", "desc", _words("asc", "desc")),
    query("fill", "Buckets without a trade: none; `previous`: flat bars at the close before; `null`: values of null.",
          "previous", _words(*FILLS)),
    _TZ, _SESSION,
    query("format", "JSON; JSON by columns; or a table of any length, streamed, whose header `X-Barwright-Complete` "
          "says what `coverage.complete` does. `Accept` names it too.", "columns", _words(*FORMATS)),
    _NUMBERS, _TIME,
    query("wait", f"Seconds to wait for what is missing, at most {MOST_WAIT}: it is asked for before all else, and the "
          "answer comes when it has landed, or with what there is when the time is up. Registered symbols only, no "
          "tables.", 2, Schema(type=T.NUMBER, exclusive_minimum=0, maximum=MOST_WAIT)),
    query("rev", "`rev` of an answer before: where all that was asked for is closed, complete, and untouched since, "
          "the answer may be kept for ever.", None, Schema(type=T.STRING, pattern="^[0-9a-f]{8}-[0-9]{1,18}$")),
)  # fmt: skip
LATEST_PARAMETERS = (
    query("symbol", f"One or several symbols, up to {MOST_SYMBOLS}: repeated, or separated by commas.", "BTCUSD,ETHUSD",
          _SYMBOLS, True),
    query("interval", "Width of the bars.", "1h", Schema(type=T.STRING, pattern=_INTERVAL.pattern, default="1m")),
    _TZ, _SESSION,
    query("numbers", "`string` keeps every digit where numbers are doubles.", "string", _words("number", "string")),
    _TIME,
)  # fmt: skip
NAME = Parameter(
    name="name", param_in="path", required=True, schema=SYMBOL,
    description="The symbol, slashes and all.", examples={"for instance": Example(value="EUR/USD")},
)  # fmt: skip
_ONLY = query("symbol", "Only this symbol's.", "BTCUSD", SYMBOL)
_AT_MOST = query("limit", "Most entries in the answer.", 100,
                 Schema(type=T.INTEGER, minimum=1, maximum=MOST, default=LIMIT))  # fmt: skip
_BOOLEAN = Schema(type=T.STRING, enum=["true", "false"], default="false")
LISTING = (_ONLY, _AT_MOST)
TASKS = (_ONLY, query("all", "Ended tasks too.", "true", _BOOLEAN), _AT_MOST)
PURGING = (NAME, query("purge", "Remove its data too.", "true", _BOOLEAN))
