"""What a table is written as: each format's writer from pyarrow, on a sink that hands over what was written."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from barwright.api.tables.columns import Columns
from barwright.api.tables.walk import Page


class Sink(io.RawIOBase):
    """A file that is only written, and emptied by `take`."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[bytes] = []
        self.at = 0

    def writable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """The bytes written so far: Parquet keeps the places of its row groups."""
        return self.at

    def write(self, data: Any) -> int:
        """Keep what comes."""
        self.parts.append(bytes(data))
        self.at += len(self.parts[-1])
        return len(self.parts[-1])

    def take(self) -> bytes:
        """What was written since the last time."""
        data, self.parts = b"".join(self.parts), []
        return data


def _csv(sink: Sink, schema: pa.Schema) -> Any:
    options = pa.csv.WriteOptions(eol="\r\n", quoting_style="none", quoting_header="none", batch_size=2**16)
    return pa.csv.CSVWriter(sink, schema, write_options=options)


def _parquet(sink: Sink, schema: pa.Schema) -> Any:
    # Dictionaries of prices take twice the time and a third more room than none.
    return pa.parquet.ParquetWriter(sink, schema, compression="zstd", use_dictionary=["symbol"])


@dataclass(frozen=True, slots=True)
class Format:
    """A format's media type and its writer."""

    media_type: str
    open: Callable[[Sink, pa.Schema], Any]


FORMATS: Final = {
    "csv": Format("text/csv", _csv),
    "arrow": Format("application/vnd.apache.arrow.stream", pa.ipc.new_stream),
    "parquet": Format("application/vnd.apache.parquet", _parquet),
}


class Writer:
    """Writes tables of the same columns, one after the other; each becomes a batch or a row group."""

    def __init__(self, format: str, columns: Columns) -> None:
        self.columns = columns
        self.sink = Sink()
        self.writer = FORMATS[format].open(self.sink, columns.schema)

    def write(self, page: Page) -> bytes:
        """The bytes of a page, and of what comes before the first; ApiError 400."""
        if page.count:
            self.writer.write_table(self.columns.table(page))
        return self.sink.take()

    def end(self) -> bytes:
        """What follows the last page."""
        self.writer.close()
        return self.sink.take()
