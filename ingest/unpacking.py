"""kafka-python's unpacking of compressed batches, with a bound: a megabyte of gzip holds a gigabyte of zeros."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator
from typing import Any, Final

from barwright.errors import BarwrightError
from barwright.ingest.claims import Unreadable

with warnings.catch_warnings():
    # The library warns about itself on import.
    warnings.simplefilter("ignore")
    from kafka.record import default_records
    from kafka.record.default_records import DefaultRecord, DefaultRecordBatch

GZIP: Final = 31  # zlib's word for a gzip stream
KEPT: Final = 4096  # bytes of a batch that is too large, for its dead letter
_iterate: Final = DefaultRecordBatch.__iter__


class TooLargeError(BarwrightError):
    """A batch is larger than allowed once unpacked; `begin` is how it begins."""

    def __init__(self, begin: bytes) -> None:
        super().__init__("too large")
        self.begin = begin


def bound(most: int) -> None:
    """Unpack no batch of more than so many bytes, in this process, from now on. One that is larger gives one record,
    `Unreadable`, in the place of its last."""

    def gzip_decode(data: bytes) -> bytes:
        return unzipped(data, most)

    def records(batch: Any) -> Iterator[Any]:
        try:
            return _iterate(batch)  # type: ignore[no-any-return]
        except TooLargeError as error:
            value = Unreadable(error.begin)
            value.reason = (
                f"{batch.records_count:,} records from offset {batch.base_offset} on: a batch of over {most:,} bytes "
                "unpacked (BARWRIGHT_UNPACKED_BYTES)"
            )
            kind = batch.timestamp_type
            return iter([DefaultRecord(len(value), batch.last_offset, batch.max_timestamp, kind, None, value, [])])

    default_records.gzip_decode = gzip_decode
    DefaultRecordBatch.__iter__ = records


def unzipped(data: bytes, most: int) -> bytes:
    """What a gzip stream holds, its members one after the other. Raises TooLargeError."""
    whole = b""
    while data:
        one = zlib.decompressobj(GZIP)
        whole += one.decompress(data, most + 1 - len(whole))
        if len(whole) > most:
            raise TooLargeError(whole[:KEPT])
        data = one.unused_data
    return whole
