"""kafka-python's unpacking of compressed batches: of each codec that Kafka knows, and with a bound, since a megabyte of
gzip holds a gigabyte of zeros."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from typing import Any, Final

from barwright.errors import BarwrightError
from barwright.ingest.claims import Unreadable

with warnings.catch_warnings():
    # The library warns about itself on import.
    warnings.simplefilter("ignore")
    from kafka.record import default_records
    from kafka.record.default_records import DefaultRecord, DefaultRecordBatch

# Java's producers frame snappy in blocks, each after its length: xerial's header of 16 bytes begins so.
XERIAL: Final = b"\x82SNAPPY\0"
KEPT: Final = 4096  # bytes of a batch that is too large, for its dead letter
_iterate: Final = DefaultRecordBatch.__iter__


class PackedError(BarwrightError):
    """A batch cannot be unpacked; `begin` is how what it holds begins."""

    def __init__(self, reason: str, begin: bytes = b"") -> None:
        super().__init__(reason)
        self.begin = begin


def bound(most: int) -> None:
    """Unpack each codec, but no batch of more than so many bytes, in this process, from now on. One that is larger, or
    broken, gives one record, `Unreadable`, in the place of its last."""

    def records(batch: Any) -> Iterator[Any]:
        try:
            return _iterate(batch)  # type: ignore[no-any-return]
        except PackedError as error:
            value = Unreadable(error.begin)
            value.reason = f"{batch.records_count:,} records from offset {batch.base_offset} on: {error.message}"
            kind = batch.timestamp_type
            return iter([DefaultRecord(len(value), batch.last_offset, batch.max_timestamp, kind, None, value, [])])

    default_records.gzip_decode = lambda data: streamed(data, "gzip", most)
    default_records.snappy_decode = lambda data: unsnapped(data, most)
    default_records.lz4_decode = lambda data: streamed(data, "lz4", most)
    default_records.zstd_decode = lambda data: streamed(data, "zstd", most)
    # It looks for packages of its own choice; pyarrow, which Barwright has, knows the same codecs.
    DefaultRecordBatch._assert_has_codec = lambda *_: None
    DefaultRecordBatch.__iter__ = records


def streamed(data: bytes, codec: str, most: int) -> bytes:
    """What streams of gzip, lz4 or zstd hold, one after the other. Raises PackedError."""
    import pyarrow as pa  # 0.3 s and 40 MB, for those who need it

    whole = io.BytesIO()
    try:
        with pa.CompressedInputStream(io.BytesIO(data), codec) as stream:
            while whole.tell() <= most and (piece := stream.read(65_536)):
                whole.write(piece)
    except (OSError, pa.ArrowException) as error:
        raise _broken(codec, error, whole.getvalue()[:KEPT]) from error
    _demand_room(whole.tell(), most, whole.getvalue()[:KEPT])
    return whole.getvalue()


def unsnapped(data: bytes, most: int) -> bytes:
    """What snappy holds, with xerial's blocks or as a whole. Raises PackedError."""
    if not data.startswith(XERIAL):
        return _snappy(data, most)
    whole, place = io.BytesIO(), 16
    while place < len(data):
        begin = place + 4
        place = begin + int.from_bytes(data[place:begin], "big")
        whole.write(_snappy(data[begin:place], most))
        _demand_room(whole.tell(), most, whole.getvalue()[:KEPT])
    return whole.getvalue()


def _snappy(block: bytes, most: int) -> bytes:
    """One block, which begins with its length unpacked, seven bits a byte (snappy's format_description.txt)."""
    import pyarrow as pa

    length = shift = 0
    for byte in block[:5]:
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    _demand_room(length, most)
    try:
        return pa.decompress(block, length, "snappy", asbytes=True)  # type: ignore[no-any-return]
    except (OSError, pa.ArrowException) as error:
        raise _broken("snappy", error) from error


def _demand_room(size: int, most: int, begin: bytes = b"") -> None:
    """PackedError where a batch of so many bytes is one too large."""
    if size > most:
        raise PackedError(f"a batch of over {most:,} bytes unpacked (BARWRIGHT_UNPACKED_BYTES)", begin)


def _broken(codec: str, error: Exception, begin: bytes = b"") -> PackedError:
    return PackedError(f"a batch whose {codec} cannot be unpacked: {error}", begin)
