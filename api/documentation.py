"""What the OpenAPI document says of each route: every parameter with an example, every answer with its body."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from litestar.openapi.spec import (
    Example,
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Parameter,
    Schema,
)
from litestar.openapi.spec.enums import OpenAPIType as T

from barwright.api.encode import CSV_HEADER
from barwright.api.intervals import LEVELS
from barwright.api.params import LIMIT, MOST
from barwright.api.times import ALLOWED

DESCRIPTION = """OHLCV bars from exact ticks. Numbers are JSON numbers with every digit the database has; times are UTC.
Every error, whatever its status, is `{"code", "message", "details", "hint"}`."""

_NUMBERS = {"open": 8500.12, "high": 8501, "low": 8499.5, "close": 8500.5, "volume": 12.5, "quote_volume": 106253.125,
            "vwap": 8500.25, "trades": 77, "buy_volume": 7.25}  # fmt: skip
BAR: dict[str, Any] = {"bucket": "2019-10-11T00:00:00Z", **_NUMBERS, "imported": False, "closed": True}
_MEANINGS = {
    "bucket": "start of the bucket", "volume": "base quantity", "quote_volume": "sum of price times size",
    "vwap": "quote_volume / volume, rounded half up to 12 places; null at volume 0", "trades": "number of trades",
    "buy_volume": "base quantity where the taker bought", "imported": "whether a vendor's bar is part of it",
    "closed": "rolled up: it changes no more, but for repairs", "symbol": "its symbol",
}  # fmt: skip
SYMBOL = {"symbol": "BTCUSD", "source": "simulator", "market": "spot", "base": "BTC", "quote": "USD",
          "history_start": "2019-10-11T00:00:00Z", "live": True, "registered_at": "2026-11-24T00:00:00Z",
          "newest": "2026-11-24T12:00:00Z"}  # fmt: skip
ERROR = {"code": "bad_parameter", "message": "There is no interval '2x'.", "hint": "",
         "details": {"parameter": "interval", "value": "2x", "allowed": list(LEVELS)}}  # fmt: skip


def _schema(example: Any, nullable: frozenset[str] = frozenset()) -> Schema:
    """The schema an example is an instance of."""
    match example:
        case dict():
            return Schema(
                type=T.OBJECT, required=sorted(example), properties={
                    name: _field(name, value, name in nullable) for name, value in example.items()
                },
            )  # fmt: skip
        case list():
            return Schema(type=T.ARRAY, items=_schema(example[0], nullable) if example else Schema())
        case bool():
            return Schema(type=T.BOOLEAN)
        case int() | float():
            return Schema(type=T.NUMBER)
    return Schema(type=T.STRING)


def _field(name: str, value: Any, nullable: bool) -> Schema:
    schema = _schema(value, _NULLABLE) if value is not None else Schema()
    if nullable and isinstance(schema.type, T):
        schema.type = [schema.type, T.NULL]
    schema.description = _MEANINGS.get(name)
    return schema


_NULLABLE = frozenset(("quote_volume", "vwap", "trades", "buy_volume", "source", "market", "base", "quote",
                       "history_start", "newest", "next_cursor", "timescaledb"))  # fmt: skip


def _json(example: Any) -> dict[str, OpenAPIMediaType]:
    return {"application/json": OpenAPIMediaType(schema=_schema(example, _NULLABLE),
                                                 examples={"an answer": Example(value=example)})}  # fmt: skip


def _problem(description: str, headers: dict[str, Any] | None) -> OpenAPIResponse:
    error = {**ERROR, "details": {}}
    return OpenAPIResponse(description, headers=headers, content={
        "application/json": OpenAPIMediaType(schema=_schema(error), examples={"an error": Example(value=ERROR)})
    })  # fmt: skip


def _query(
    name: str, description: str, example: Any, schema: Schema | None = None, required: bool = False
) -> Parameter:
    return Parameter(
        name=name, param_in="query", description=description, required=required, schema=schema or Schema(type=T.STRING),
        examples={"for instance": Example(value=example)},
    )  # fmt: skip


_SYMBOL_PARAMETER = _query("symbol", "The symbol, case-sensitive.", "BTCUSD", required=True)
_INTERVAL = Schema(type=T.STRING, enum=list(LEVELS))
_TIME = Schema(any_of=[Schema(type=T.STRING), Schema(type=T.INTEGER)])
BARS_PARAMETERS = (
    _SYMBOL_PARAMETER,
    _query("interval", "Width of the bars; `60m`, `24h` and `7d` are understood too. Weeks start on Monday.", "1m",
           Schema(type=T.STRING), required=True),
    _query("start", f"First bucket start, inclusive: {ALLOWED}. Without it: the newest `limit` bars before `end`.",
           "2019-10-11T00:00:00Z", _TIME),
    _query("end", "End of the bucket starts, exclusive; now without it (the open bar is included).", 1570838400, _TIME),
    _query("limit", f"Most bars in the answer; {LIMIT} without it. CSV has no limit unless one is given.", 500,
           Schema(type=T.INTEGER, minimum=1, maximum=MOST, default=LIMIT)),
    _query("cursor", "`next_cursor` of the answer before; the rest of the request unchanged.",
           "MTphc2M6MTU3MDgzODQwMDoxbTpCVENVU0Q"),
    _query("order", "By bucket.", "desc", Schema(type=T.STRING, enum=["asc", "desc"], default="asc")),
    _query("format", "JSON, or CSV with the same columns, streamed.", "json",
           Schema(type=T.STRING, enum=["json", "csv"], default="json")),
)  # fmt: skip
LATEST_PARAMETERS = (
    _query("symbol", "One or several symbols: repeated, or separated by commas.", "BTCUSD,ETHUSD", required=True),
    _query("interval", "Width of the bars.", "1m", Schema(type=T.STRING, default="1m")),
)
_NAME = Parameter(
    name="name", param_in="path", required=True, schema=Schema(type=T.STRING),
    description="The symbol, slashes and all.", examples={"for instance": Example(value="EUR/USD")},
)  # fmt: skip
_TAG = {"ETag": OpenAPIHeader(schema=Schema(type=T.STRING), description="Send it as If-None-Match: 304 if unchanged.")}
_RETRY = {"Retry-After": OpenAPIHeader(schema=Schema(type=T.INTEGER), description="Seconds.")}


@dataclass
class Documented(Operation):
    """An operation whose parameters and answers are stated here: handlers read the raw query string themselves."""

    takes: ClassVar[Sequence[Parameter]] = ()
    gives: ClassVar[Any] = {}
    csv: ClassVar[bool] = False
    tag: ClassVar[bool] = True
    statuses: ClassVar[dict[str, str]] = {"400": "The request is wrong, and how.", "503": "The database is away."}

    def __post_init__(self) -> None:
        """Replace what was inferred."""
        self.parameters = list(self.takes)
        content = _json(self.gives)
        if self.csv:
            content["text/csv"] = OpenAPIMediaType(schema=Schema(type=T.STRING),
                                                   examples={"header": Example(value=CSV_HEADER.decode())})  # fmt: skip
        headers: dict[str, Any] | None = dict(_TAG) if self.tag else None
        self.responses = {"200": OpenAPIResponse("The answer.", content=content, headers=headers)}
        if self.tag:
            self.responses["304"] = OpenAPIResponse("Unchanged since the ETag in If-None-Match.")
        for status, description in self.statuses.items():
            self.responses[status] = _problem(description, dict(_RETRY) if status == "503" else None)


_WITH_404 = {**Documented.statuses, "404": "There is no such symbol."}


class BarsOperation(Documented):
    """`GET /v1/bars`."""

    takes = BARS_PARAMETERS
    gives: ClassVar[Any] = {"symbol": "BTCUSD", "interval": "1m", "bars": [BAR], "next_cursor": None}
    csv = True
    statuses = _WITH_404


class LatestOperation(Documented):
    """`GET /v1/bars/latest`."""

    takes = LATEST_PARAMETERS
    gives: ClassVar[Any] = {"interval": "1m", "bars": [{"symbol": "BTCUSD", **BAR, "closed": False}]}
    statuses = _WITH_404


class SymbolsOperation(Documented):
    """`GET /v1/symbols`."""

    gives: ClassVar[Any] = {"symbols": [SYMBOL]}


class SymbolOperation(Documented):
    """`GET /v1/symbols/{name}`."""

    takes = (_NAME,)
    gives = SYMBOL
    statuses = _WITH_404


class StatusOperation(Documented):
    """`GET /v1/status`."""

    tag = False

    gives: ClassVar[Any] = {
        "version": "0.1.0", "engine": "timescaledb", "epoch": "7a0c…", "rev": 12, "time": "2026-11-24T12:00:03.5Z",
        "postgresql": "18.6", "timescaledb": "2.29.2",
        "levels": {"1m": {"sealed": "2026-11-24T12:00:00Z", "watermark": "2026-11-24T12:00:00Z"}},
    }  # fmt: skip


class LiveOperation(Documented):
    """`GET /health/live`."""

    gives: ClassVar[Any] = {"status": "live"}
    tag = False
    statuses: ClassVar[dict[str, str]] = {}


class ReadyOperation(Documented):
    """`GET /health/ready`."""

    tag = False

    gives: ClassVar[Any] = {
        "status": "ready", "engine": "timescaledb", "checks": {"database": "up", "migration": "up", "redis": "up"},
    }  # fmt: skip
    statuses: ClassVar[dict[str, str]] = {}

    def __post_init__(self) -> None:
        """503 has the same shape here, so that a probe can say what is down."""
        super().__post_init__()
        assert self.responses is not None
        down = {
            "status": "down", "checks": {"database": "down", "migration": "unknown", "redis": "up"},
            "message": "The database cannot be reached.", "hint": "Try again in a second.",
        }  # fmt: skip
        self.responses["503"] = OpenAPIResponse("What is down.", content=_json(down), headers=dict(_RETRY))
