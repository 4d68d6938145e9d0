"""A page's text as Arrow columns."""

from dataclasses import dataclass
from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from barwright.api.encode import FIELDS
from barwright.api.errors import bad
from barwright.api.tables.filling import filled, first_line
from barwright.api.tables.walk import Page

EXACT: Final = pa.decimal128(38, 18)
WIDE: Final = pa.decimal256(76, 36)  # a quote volume can have 36 decimals: price times size
NUMBERS: Final = [name for name in FIELDS if name not in ("bucket", "trades", "imported")]
_READ = pa.csv.ReadOptions(column_names=list(FIELDS), use_threads=False, block_size=2**24)


@dataclass(frozen=True, slots=True)
class Columns:
    """The types of a table: of its numbers (text keeps them as the database wrote them), of its buckets (`us`: Arrow's
    timestamps), and whether it has a column `symbol`."""

    numbers: Literal["text", "decimal", "float"]
    time: Literal["us", "iso", "s", "ms"]
    symbol: bool

    @property
    def number(self) -> pa.DataType:
        """The type of prices and volumes."""
        return {"text": pa.string(), "decimal": EXACT, "float": pa.float64()}[self.numbers]

    @property
    def schema(self) -> pa.Schema:
        """The columns in order."""
        bucket = {"us": pa.timestamp("us", "UTC"), "iso": pa.string()}.get(self.time, pa.int64())
        types = {"bucket": bucket, "trades": pa.int64(), "imported": pa.bool_()}
        fields = [(name, types.get(name, self.number)) for name in FIELDS]
        symbol = pa.string() if self.numbers == "text" else pa.dictionary(pa.int32(), pa.string())
        return pa.schema([*([("symbol", symbol)] if self.symbol else ()), *fields, ("closed", pa.bool_())])

    def table(self, page: Page) -> pa.Table:
        """A page's bars; ApiError 400 where Arrow's decimals cannot hold a number."""
        text = page.text if page.close is None else first_line(page.close) + page.text
        found = _numbers(pa.py_buffer(text.encode()), self.number) if text else _nothing(self.number)
        if page.grid is not None:
            found = filled(found, page.grid, page.fill == "previous")
        starts, symbol = found["bucket"], self.schema.field(0).type
        columns = [
            *([pa.array([page.symbol] * len(found), symbol)] if self.symbol else ()),
            _times(starts, self.time),
            *(found[name] for name in FIELDS[1:]),
            pc.less(starts, page.edge),
        ]
        return pa.table(columns, schema=self.schema)


def _nothing(number: pa.DataType) -> pa.Table:
    return pa.table({name: pa.array([], _type(name, number)) for name in FIELDS})


def _type(name: str, number: pa.DataType) -> pa.DataType:
    return {"bucket": pa.int64(), "trades": pa.int64(), "imported": pa.bool_()}.get(name, number)


def _parsed(text: pa.Buffer, number: pa.DataType) -> pa.Table:
    convert = pa.csv.ConvertOptions(
        column_types={name: _type(name, number) for name in FIELDS}, strings_can_be_null=True,
        quoted_strings_can_be_null=False, true_values=["t", "true"], false_values=["f", "false"],
    )  # fmt: skip
    return pa.csv.read_csv(pa.BufferReader(text), read_options=_READ, convert_options=convert)


def _numbers(text: pa.Buffer, number: pa.DataType) -> pa.Table:
    """The table of a text; numbers with more than 18 decimals, which the quick way refuses, are rounded half up."""
    try:
        return _parsed(text, number)
    except pa.ArrowInvalid:
        found = _parsed(text, pa.string())
    for name in NUMBERS:
        try:
            column = pc.round(found[name].cast(WIDE), 18, "half_towards_infinity").cast(EXACT)
        except pa.ArrowInvalid as error:
            raise bad("format", name, f"A {name} here is 10^20 or more, beyond Arrow's decimals.",
                      hint="Ask with numbers=float, or for CSV or JSON.") from error  # fmt: skip
        found = found.set_column(FIELDS.index(name), name, column)
    return found


def _times(starts: pa.ChunkedArray, time: str) -> pa.ChunkedArray:
    """Bucket starts, in seconds, as a table has them."""
    match time:
        case "s":
            return starts
        case "ms":
            return pc.multiply(starts, 1000)
        case "us":
            return starts.cast(pa.timestamp("s")).cast(pa.timestamp("us", "UTC"))
    text = pc.replace_substring(starts.cast(pa.timestamp("s")).cast(pa.string()), " ", "T", max_replacements=1)
    return pc.binary_join_element_wise(text, "Z", "")
