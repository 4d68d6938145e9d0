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
    RequestBody,
    Schema,
)
from litestar.openapi.spec.enums import OpenAPIType as T

from barwright.api.encode import CSV_HEADER
from barwright.api.examples import MAPS, MEANINGS, NULLABLE
from barwright.api.intervals import LEVELS
from barwright.api.params import LIMIT, MOST, MOST_WAIT, SYMBOL_PATTERN
from barwright.api.problems import LIMITS, anywhere, own
from barwright.api.times import ALLOWED

DESCRIPTION = """OHLCV bars from exact ticks. Numbers are JSON numbers with every digit the database has; times are UTC.
Every error, whatever its status, is `{"code", "message", "details", "hint"}`, but under `/udf`, whose protocol has its
own shape. Every GET takes HEAD too, and gzip.

Where keys are on (elsewhere than on a loopback address), send yours as `Authorization: Bearer …` or `X-API-Key: …`;
`barwright key create` makes one. A request costs one point, and one for each 1000 bars asked for; `RateLimit-*` say
what is left of the points of a minute."""


def _schema(example: Any, nullable: frozenset[str] = frozenset()) -> Schema:
    """The schema an example is an instance of."""
    match example:
        case dict():
            return Schema(
                type=T.OBJECT, required=sorted(example), properties={
                    name: _field(name, value, name in nullable) for name, value in example.items()
                },
            )  # fmt: skip
        case list() | tuple():
            return Schema(type=T.ARRAY, items=_schema(example[0], nullable) if example else Schema())
        case bool():
            return Schema(type=T.BOOLEAN)
        case int() | float():
            return Schema(type=T.NUMBER)
    return Schema(type=T.STRING)


def _field(name: str, value: Any, nullable: bool) -> Schema:
    schema = _schema(value, NULLABLE) if value is not None else Schema()
    if name in MAPS:  # its keys are data
        schema = Schema(type=T.OBJECT, additional_properties=_schema(next(iter(value.values())), NULLABLE))
    if nullable and isinstance(schema.type, T):
        schema.type = [schema.type, T.NULL]
    schema.description = MEANINGS.get(name)
    return schema


def json_of(example: Any) -> dict[str, OpenAPIMediaType]:
    """The content of an answer in JSON that looks like an example."""
    return {"application/json": OpenAPIMediaType(schema=_schema(example, NULLABLE),
                                                 examples={"an answer": Example(value=example)})}  # fmt: skip


def _body(example: Any, needs: Sequence[str]) -> dict[str, OpenAPIMediaType]:
    """The content of a request; what is not needed may be left out or null, and there is nothing else."""
    content = json_of(example)
    schema = _schema(example, frozenset(example) - set(needs))
    schema.required, schema.additional_properties = list(needs), False
    assert schema.properties
    schema.properties |= {name: _TIME for name in ("start",) if name in schema.properties}
    content["application/json"].schema = schema
    return content


def query(name: str, description: str, example: Any, schema: Schema | None = None, required: bool = False) -> Parameter:
    """A parameter of the query string, text where no schema says otherwise."""
    return Parameter(
        name=name, param_in="query", description=description, required=required, schema=schema or Schema(type=T.STRING),
        examples={"for instance": Example(value=example)},
    )  # fmt: skip


SYMBOL = Schema(type=T.STRING, pattern=f"^{SYMBOL_PATTERN}$")
INTERVAL_PATTERN = "^[1-9][0-9]{0,4}(m|h|d|w|mo)$"
_SYMBOLS = Schema(type=T.STRING, pattern=f"^{SYMBOL_PATTERN}(,{SYMBOL_PATTERN})*$")
_SYMBOL_PARAMETER = query("symbol", "The symbol, case-sensitive.", "BTCUSD", SYMBOL, required=True)
_INTERVAL = Schema(type=T.STRING, enum=list(LEVELS))
_TIME = Schema(any_of=[Schema(type=T.STRING), Schema(type=T.INTEGER)])
BARS_PARAMETERS = (
    _SYMBOL_PARAMETER,
    query("interval", "Width of the bars; `60m`, `24h` and `7d` are understood too. Weeks start on Monday.", "1m",
          Schema(type=T.STRING), required=True),
    query("start", f"First bucket start, inclusive: {ALLOWED}. Without it: the newest `limit` bars before `end`.",
          "2019-10-11T00:00:00Z", _TIME),
    query("end", "End of the bucket starts, exclusive; now without it (the open bar is included).", 1570838400, _TIME),
    query("limit", f"Most bars in the answer; {LIMIT} without it. CSV has no limit unless one is given.", 500,
          Schema(type=T.INTEGER, minimum=1, maximum=MOST, default=LIMIT)),
    query("cursor", "`next_cursor` of the answer before; the rest of the request unchanged.",
          "MTphc2M6MTU3MDgzODQwMDoxbTpCVENVU0Q"),
    query("order", "By bucket.", "desc", Schema(type=T.STRING, enum=["asc", "desc"], default="asc")),
    query("format", "JSON, or CSV with the same columns, streamed; there `X-Barwright-Complete` says what "
          "`coverage.complete` does.", "json", Schema(type=T.STRING, enum=["json", "csv"], default="json")),
    query("wait", "Seconds to wait for what is missing, at most 30: it is asked for before all else, and the answer "
          "comes when it has landed, or with what there is when the time is up. Registered symbols only, JSON only.",
          5, Schema(type=T.NUMBER, exclusive_minimum=0, maximum=MOST_WAIT)),
)  # fmt: skip
LATEST_PARAMETERS = (
    query("symbol", "One or several symbols: repeated, or separated by commas.", "BTCUSD,ETHUSD", _SYMBOLS,
          required=True),
    query("interval", "Width of the bars.", "1m", Schema(type=T.STRING, pattern=INTERVAL_PATTERN, default="1m")),
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
_TAG = {"ETag": OpenAPIHeader(schema=Schema(type=T.STRING), description="Send it as If-None-Match: 304 if unchanged.")}


@dataclass
class Documented(Operation):
    """An operation whose parameters and answers are stated here: handlers read the raw query string themselves."""

    takes: ClassVar[Sequence[Parameter]] = ()
    gives: ClassVar[Any] = {}
    csv: ClassVar[bool] = False
    text: ClassVar[bool] = False
    tag: ClassVar[bool] = True
    guarded: ClassVar[bool] = True  # it asks for a key where keys are on, and counts
    wants: ClassVar[Any] = None
    needs: ClassVar[Sequence[str]] = ()  # of what it wants, the fields that may not be left out
    statuses: ClassVar[dict[str, str]] = {"400": "The request is wrong, and how.", "503": "The database is away."}

    def __post_init__(self) -> None:
        """Replace what was inferred."""
        self.parameters = list(self.takes)
        content = json_of(self.gives)
        if self.text:
            schema = Schema(type=T.STRING)
            content = {"text/plain": OpenAPIMediaType(schema=schema, examples={"line": Example(value=self.gives)})}
        if self.csv:
            content["text/csv"] = OpenAPIMediaType(schema=Schema(type=T.STRING),
                                                   examples={"header": Example(value=CSV_HEADER.decode())})  # fmt: skip
        if self.wants:
            self.request_body = RequestBody(content=_body(self.wants, self.needs), required=True)
        headers: dict[str, Any] | None = {**(_TAG if self.tag else {}), **(LIMITS if self.guarded else {})}
        self.responses = {"200": OpenAPIResponse("The answer.", content=content, headers=headers)}
        if self.tag:
            self.responses["304"] = OpenAPIResponse("Unchanged since the ETag in If-None-Match.")
        for status, description in self.statuses.items():
            self.responses[status] = own(status, description)
        self.responses |= anywhere(self.guarded)
        if not self.guarded:
            self.security = [{}]
