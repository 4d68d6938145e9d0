"""What the OpenAPI document says of each route: every parameter with an example, every answer with its body."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
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

from barwright.api.examples import EITHER, MAPS, MEANINGS, NULLABLE
from barwright.api.problems import LIMITS, anywhere, own

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
    if name in EITHER:
        schema = Schema(type=[T(kind) for kind in EITHER[name]])
        if isinstance(value, list):  # a column
            schema = Schema(type=T.ARRAY, items=schema)
        schema.description = MEANINGS.get(name)
        return schema
    schema = _schema(value, NULLABLE) if value is not None else Schema()
    if name in MAPS:  # its keys are data
        schema = Schema(type=T.OBJECT, additional_properties=_schema(next(iter(value.values())), NULLABLE))
    if nullable and isinstance(schema.type, T):
        schema.type = [schema.type, T.NULL]
    schema.description = MEANINGS.get(name)
    return schema


def json_of(example: Any, others: Mapping[str, Any] = MappingProxyType({})) -> dict[str, OpenAPIMediaType]:
    """The content of an answer in JSON that looks like an example, or like one of others."""
    schemas = [_schema(one, NULLABLE) for one in (example, *others.values())]
    examples: dict[str, Any] = {name: Example(value=one) for name, one in {"an answer": example, **others}.items()}
    schema = Schema(any_of=schemas) if others else schemas[0]
    return {"application/json": OpenAPIMediaType(schema=schema, examples=examples)}


def _body(example: Any, needs: Sequence[str]) -> dict[str, OpenAPIMediaType]:
    """The content of a request; what is not needed may be left out or null, and there is nothing else."""
    content = json_of(example)
    schema = _schema(example, frozenset(example) - set(needs))
    schema.required, schema.additional_properties = list(needs), False
    assert schema.properties
    schema.properties |= {name: TIME for name in ("start",) if name in schema.properties}
    content["application/json"].schema = schema
    return content


TIME = Schema(any_of=[Schema(type=T.STRING, pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].*)?$|^-?[0-9]+$"),
                      Schema(type=T.INTEGER)])  # fmt: skip


def query(name: str, description: str, example: Any, schema: Schema | None = None, required: bool = False) -> Parameter:
    """A parameter of the query string, text where no schema says otherwise; without an example where one would only go
    with an answer."""
    return Parameter(
        name=name, param_in="query", description=description, required=required, schema=schema or Schema(type=T.STRING),
        examples=None if example is None else {"for instance": Example(value=example)},
    )  # fmt: skip


_TAG = {"ETag": OpenAPIHeader(schema=Schema(type=T.STRING), description="Send it as If-None-Match: 304 if unchanged.")}


@dataclass
class Documented(Operation):
    """An operation whose parameters and answers are stated here: handlers read the raw query string themselves."""

    takes: ClassVar[Sequence[Parameter]] = ()
    gives: ClassVar[Any] = {}
    gives_too: ClassVar[Mapping[str, Any]] = {}  # other shapes of its JSON, by what they are
    files: ClassVar[Mapping[str, OpenAPIMediaType]] = {}  # other formats, by media type
    text: ClassVar[bool] = False
    tag: ClassVar[bool] = True
    guarded: ClassVar[bool] = True  # it asks for a key where keys are on, and counts
    wants: ClassVar[Any] = None
    needs: ClassVar[Sequence[str]] = ()  # of what it wants, the fields that may not be left out
    statuses: ClassVar[dict[str, str]] = {"400": "The request is wrong, and how.", "503": "The database is away."}

    def __post_init__(self) -> None:
        """Replace what was inferred."""
        self.parameters = list(self.takes)
        content = json_of(self.gives, self.gives_too) | dict(self.files)
        if self.text:
            schema = Schema(type=T.STRING)
            content = {"text/plain": OpenAPIMediaType(schema=schema, examples={"line": Example(value=self.gives)})}
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
