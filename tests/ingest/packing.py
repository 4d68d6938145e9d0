"""Batches as a broker sends them, compressed by each codec that Kafka knows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import pyarrow
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from barwright.ingest.unpacking import XERIAL

# As a batch's attributes name them (Kafka's RecordBatch, version 2).
CODECS: Final = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


def parts(values: list[bytes], codec: str) -> tuple[bytes, bytes]:
    """The head of a batch by a codec, and its records, not yet packed."""
    made = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 2**30)
    for n, value in enumerate(values):
        made.append(n, 1_677_628_800_000, None, value, [])
    whole = bytearray(made.build())
    whole[DefaultRecordBatch.ATTRIBUTES_OFFSET + 1] |= CODECS[codec]
    return bytes(whole[: made.HEADER_STRUCT.size]), bytes(whole[made.HEADER_STRUCT.size :])


def squeezed(codec: str, pieces: Iterable[bytes]) -> bytes:
    """As producers do: a stream, or for snappy xerial's blocks."""
    if codec == "snappy":
        blocks = [pyarrow.compress(piece, codec, asbytes=True) for piece in pieces]
        return XERIAL + bytes([0, 0, 0, 1] * 2) + b"".join(len(block).to_bytes(4) + block for block in blocks)
    made = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(made, codec) as stream:
        for piece in pieces:
            stream.write(piece)
    return made.getvalue().to_pybytes()  # type: ignore[no-any-return]


def packed(codec: str, values: list[bytes], cut: int = 0) -> DefaultRecordBatch:
    """A batch without its last bytes."""
    head, plain = parts(values, codec)
    pieces = (plain[n : n + 32_768] for n in range(0, len(plain), 32_768))
    return DefaultRecordBatch(head + squeezed(codec, pieces)[: -cut or None])
