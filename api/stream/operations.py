"""What the OpenAPI document says of `GET /v1/stream`; it has no words for a WebSocket."""

from collections.abc import Sequence
from typing import Any, ClassVar

from litestar.openapi.spec import Example, OpenAPIMediaType, OpenAPIResponse, Parameter, Schema
from litestar.openapi.spec.enums import OpenAPIType as T

from barwright.api.documentation import Documented
from barwright.api.operations import WITH_404
from barwright.api.parameters import BARS_PARAMETERS, LATEST_PARAMETERS, ONE_SYMBOL
from barwright.api.stream.position import tag
from barwright.api.stream.request import LEAST_RATE, MOST_RATE, RATE

_EXAMPLE = """retry: 1000

id: 7a0c1b2d9f3e.1795478340_12_1795478400.0-5f0d2b6c81aa
data: {"type":"bars","id":"","bars":[…],"rev":12,"event":"7a0c1b2d9f3e.1795478340_12_1795478400.0-5f0d2b6c81aa"}

id: 7a0c1b2d9f3e.1795478340_12_1795478400.0-5f0d2b6c81aa
data: {"type":"live","id":"","rev":12,"event":"7a0c1b2d9f3e.1795478340_12_1795478400.0-5f0d2b6c81aa"}

id: 7a0c1b2d9f3e.1795478340_12_1795478400.0-93e1c07d44b2
data: {"type":"bar","id":"","bar":{…},"rev":12,"event":"7a0c1b2d9f3e.1795478340_12_1795478400.0-93e1c07d44b2"}
"""


def _parameter(name: str, description: str, example: Any, schema: Schema, where: Any = "query") -> Parameter:
    return Parameter(name=name, param_in=where, description=description, schema=schema,
                     examples={"for instance": Example(value=example)})  # fmt: skip


_LAST = f"{tag('7a0c1b2d', 'BTCUSD', '1h')}.1795478340_12_1795478400."  # another database's: it begins again
_OWN = (
    _parameter("rate", "Most changes of the open bar in a second; the last state is always sent.", 10,
               Schema(type=T.NUMBER, minimum=LEAST_RATE, maximum=MOST_RATE, default=RATE)),
    _parameter("ordered", "Nothing of a bucket before all earlier ones have closed: for clients that cannot go back. "
               "It costs 2-3 s at each turn.", "true", Schema(type=T.STRING, enum=["true", "false"], default="false")),
    _parameter("since", "`event` of the last message received: go on after it. `Last-Event-ID` does the same.",
               _LAST, Schema(type=T.STRING)),
    _parameter("Last-Event-ID", "Sent by browsers when they come again.", _LAST,
               Schema(type=T.STRING), "header"),
)  # fmt: skip
STREAM_PARAMETERS = (
    ONE_SYMBOL,
    *(parameter for parameter in BARS_PARAMETERS if parameter.name in ("interval", "start")),
    *(parameter for parameter in LATEST_PARAMETERS if parameter.name in ("tz", "session", "numbers", "time")),
    *_OWN,
)  # fmt: skip


class StreamOperation(Documented):
    """`GET /v1/stream`."""

    takes: ClassVar[Sequence[Parameter]] = STREAM_PARAMETERS
    tag = False
    statuses = WITH_404

    def __post_init__(self) -> None:
        """Its answer is no JSON."""
        super().__post_init__()
        assert self.responses is not None
        self.responses["200"] = OpenAPIResponse("Messages, as docs/api.md describes them.", content={
            "text/event-stream": OpenAPIMediaType(schema=Schema(type=T.STRING),
                                                  examples={"a stream": Example(value=_EXAMPLE)})
        })  # fmt: skip
