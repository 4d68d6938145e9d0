"""What each route under `/udf` takes and gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from litestar.openapi.spec import OpenAPIResponse, Parameter, Schema
from litestar.openapi.spec.enums import OpenAPIType as T

from barwright.api.documentation import Documented, json_of, query
from barwright.api.udf.directory import Listed
from barwright.api.udf.history import MOST
from barwright.api.udf.resolutions import SUPPORTED
from barwright.api.udf.shapes import config, found, group, info

_LISTED = Listed("BTCUSD", "COINBASE", "BTC", "USD")
_ERROR = {"s": "error", "errmsg": "There is no symbol NOPE."}
_WHOLE = Schema(type=T.NUMBER)
_SYMBOL = query("symbol", "Name, ticker or `EXCHANGE:NAME`.", "BTCUSD", required=True)
_SEARCH = (
    query("query", "Part of a name or description, in any case.", "BTC"),
    query("type", "Only symbols of this type.", "crypto"),
    query("exchange", "Only symbols of this exchange.", "COINBASE"),
    query("limit", "Most symbols; 30 without it, never more than 500.", 30, Schema(type=T.INTEGER, minimum=1)),
)
_HISTORY = (
    _SYMBOL,
    query("resolution", f"{', '.join(SUPPORTED)}, or any number of minutes, D, W or M (months).", "60", required=True),
    query("from", "First bar's time, epoch seconds, inclusive; ignored where countback is given.", 1570752000, _WHOLE),
    query("to", "End of the bars' times, epoch seconds, exclusive; now without it.", 1570838400, _WHOLE),
    query("countback", f"How many bars before `to`. No answer has more than {MOST}, the newest.", 300, _WHOLE),
)


@dataclass
class UdfOperation(Documented):
    """An operation that tells what is wrong with a request in its own shape, with status 200."""

    tag: ClassVar[bool] = False
    fails: ClassVar[bool] = True
    also: ClassVar[Sequence[Any]] = ()
    statuses: ClassVar[dict[str, str]] = {"503": "The database is away."}

    def __post_init__(self) -> None:
        """Add the other answers there may be."""
        super().__post_init__()
        others = (*self.also, *((_ERROR,) if self.fails else ()))
        assert self.responses is not None
        response = self.responses["200"]
        if others and isinstance(response, OpenAPIResponse) and response.content and not self.text:
            media = response.content["application/json"]
            others = tuple(json_of(other)["application/json"].schema for other in others)
            assert media.schema is not None
            media.schema = Schema(any_of=[media.schema, *others])


class ConfigOperation(UdfOperation):
    """`GET /udf/config`."""

    gives: ClassVar[Any] = config(["COINBASE"])
    statuses: ClassVar[dict[str, str]] = {}
    fails = False


class TimeOperation(UdfOperation):
    """`GET /udf/time`."""

    gives: ClassVar[Any] = "1570752000"
    statuses: ClassVar[dict[str, str]] = {}
    text = True
    fails = False


class SymbolsOperation(UdfOperation):
    """`GET /udf/symbols`."""

    takes: ClassVar[Sequence[Parameter]] = (_SYMBOL,)
    gives: ClassVar[Any] = info(_LISTED, 2, 8)


class SearchOperation(UdfOperation):
    """`GET /udf/search`."""

    takes: ClassVar[Sequence[Parameter]] = _SEARCH
    gives: ClassVar[Any] = [found(_LISTED)]


class SymbolInfoOperation(UdfOperation):
    """`GET /udf/symbol_info`."""

    takes: ClassVar[Sequence[Parameter]] = (query("group", "An exchange.", "COINBASE"),)
    gives: ClassVar[Any] = group([_LISTED], [(2, 8)])

    statuses: ClassVar[dict[str, str]] = {**UdfOperation.statuses, "404": "There is no such group."}


class HistoryOperation(UdfOperation):
    """`GET /udf/history`."""

    takes: ClassVar[Sequence[Parameter]] = _HISTORY
    tag = True
    gives: ClassVar[Any] = {"s": "ok", "t": [1570752000], "o": [8500.12], "h": [8501], "l": [8499.5], "c": [8500.5],
                            "v": [12.5]}  # fmt: skip
    also: ClassVar[Sequence[Any]] = ({"s": "no_data"},)
