"""Batches that producers have compressed, by each codec that Kafka knows; what is too large, and what is broken."""

from __future__ import annotations

from typing import Any, Final

import confluent_kafka
import pyarrow
import pytest
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from barwright.ingest import unpacking
from barwright.ingest.batch import Batch
from barwright.ingest.claims import Chunk, Claim, Unreadable
from barwright.ingest.ticks import Window
from tests.ingest.conftest import BOTH, World, eventually
from tests.ingest.messages import TOPIC_ID, encode, trade

# As a batch's attributes name them (Kafka's RecordBatch, version 2).
CODECS: Final = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


@BOTH
def test_ticks_come_by_every_codec(world: World) -> None:
    topic = world.topic()
    world.start()
    for n, codec in enumerate(CODECS):
        producer = confluent_kafka.Producer(
            {"bootstrap.servers": world.settings.kafka_bootstrap_servers, "compression.type": codec, "linger.ms": 50}
        )
        for tick in range(1_000):
            producer.produce(topic, encode(trade(1_000 * n + tick)), partition=n)
        assert producer.flush(30) == 0
    eventually(lambda: world.one("select count(*) from ticks"), 1_000 * len(CODECS))
    assert world.one("select count(*) from dead_letter") == 0


@pytest.fixture
def bounded() -> Any:
    """A bound of a megabyte, and then the library as it was."""
    names = [f"{codec}_decode" for codec in CODECS]
    before = [getattr(unpacking.default_records, name) for name in names]
    iterate, demand = DefaultRecordBatch.__iter__, DefaultRecordBatch._assert_has_codec
    unpacking.bound(2**20)
    yield
    for name, decode in zip(names, before, strict=True):
        setattr(unpacking.default_records, name, decode)
    DefaultRecordBatch.__iter__, DefaultRecordBatch._assert_has_codec = iterate, demand


def packed(codec: str, values: list[bytes], cut: int = 0) -> DefaultRecordBatch:
    """A batch as a broker sends it, without its last bytes."""
    made = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 2**30)
    for n, value in enumerate(values):
        made.append(n, 1_677_628_800_000, None, value, [])
    head = made.HEADER_STRUCT.size
    whole = bytearray(made.build())
    whole[DefaultRecordBatch.ATTRIBUTES_OFFSET + 1] |= CODECS[codec]
    return DefaultRecordBatch(bytes(whole[:head]) + squeezed(codec, bytes(whole[head:]))[: -cut or None])


def squeezed(codec: str, plain: bytes) -> bytes:
    """As producers do: a stream, or for snappy xerial's blocks."""
    if codec == "snappy":
        blocks = [pyarrow.compress(plain[n : n + 32_768], codec, asbytes=True) for n in range(0, len(plain), 32_768)]
        return unpacking.XERIAL + bytes([0, 0, 0, 1] * 2) + b"".join(len(b).to_bytes(4) + b for b in blocks)
    made = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(made, codec) as stream:
        stream.write(plain)
    return made.getvalue().to_pybytes()  # type: ignore[no-any-return]


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_that_unpacks_to_too_much_becomes_one_dead_letter(codec: str) -> None:
    values = [b"a" * 400_000, b"b" * 400_000]
    assert [(one.offset, one.value) for one in packed(codec, values)] == list(enumerate(values))
    [record] = packed(codec, [b"a" * 400_000, b"b" * 400_000, b"c" * 400_000])
    assert record.offset == 2
    assert type(record.value) is Unreadable
    batch = Batch({}, Window(0, 2**60))
    batch.add(Chunk(Claim("t", 0, TOPIC_ID, 1, 0), 0, [(0, b"{}"), (1, record.value)]), 10)
    assert batch.letters[1].reason.startswith("3 records from offset 0 on: a batch of over 1,048,576 bytes")
    assert codec == "snappy" or b"aaaaaaaa" in batch.letters[1].raw


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_that_is_broken_becomes_one_dead_letter(codec: str) -> None:
    [record] = packed(codec, [b"a" * 40_000, b"b" * 40_000], cut=7)
    assert record.offset == 1
    assert record.value.reason.startswith(f"2 records from offset 0 on: a batch whose {codec} cannot be unpacked: ")


def test_snappy_without_blocks_is_read_within_the_same_bound() -> None:
    plain = b"a" * 40_000
    assert unpacking.unsnapped(pyarrow.compress(plain, "snappy", asbytes=True), 40_000) == plain
    with pytest.raises(unpacking.PackedError, match="over 39,999 bytes"):
        unpacking.unsnapped(pyarrow.compress(plain, "snappy", asbytes=True), 39_999)
