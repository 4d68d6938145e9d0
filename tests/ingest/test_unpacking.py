"""Batches that producers have compressed, by each codec that Kafka knows; what is too large, and what is broken."""

from __future__ import annotations

from contextlib import suppress

import confluent_kafka
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatch

from barwright.ingest import unpacking
from barwright.ingest.batch import Batch
from barwright.ingest.claims import Chunk, Claim, Letter, Unreadable
from barwright.ingest.ticks import Window
from tests.ingest.conftest import BOTH, World, eventually
from tests.ingest.messages import TOPIC_ID, encode, trade
from tests.ingest.packing import CODECS, packed, squeezed


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
def bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound of a megabyte; what it changes in the library is put back."""
    for codec in CODECS:
        monkeypatch.setattr(unpacking.default_records, f"{codec}_decode", None)
    for name in ("__iter__", "_assert_has_codec"):
        monkeypatch.setattr(DefaultRecordBatch, name, None)
    unpacking.bound(2**20)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_that_unpacks_to_too_much_becomes_one_dead_letter(codec: str) -> None:
    values = [b"a" * 400_000, b"b" * 400_000]
    assert [(one.offset, one.value) for one in packed(codec, values)] == list(enumerate(values))
    [record] = packed(codec, [b"a" * 400_000, b"b" * 400_000, b"c" * 400_000])
    assert record.offset == 2
    letter = letter_of(record.value)
    assert letter.reason.startswith("3 records from offset 0 on: a batch of over 1,048,576 bytes")
    assert b"aaaaaaaa" in letter.raw


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_that_is_broken_becomes_one_dead_letter(codec: str) -> None:
    [record] = packed(codec, [b"a" * 40_000, b"b" * 40_000], cut=7)
    assert record.offset == 1
    reason = letter_of(record.value).reason
    assert reason.startswith(f"2 records from offset 0 on: a batch whose {codec} cannot be unpacked: ")


def test_the_reason_is_told_also_where_nothing_of_a_batch_could_be_read() -> None:
    value = Unreadable(b"")
    value.reason = "why"
    assert letter_of(value).reason == "why"


def letter_of(value: bytes) -> Letter:
    """The dead letter that a batch makes of a record, between others."""
    assert type(value) is Unreadable
    batch = Batch({}, Window(0, 2**60))
    batch.add(Chunk(Claim("t", 0, TOPIC_ID, 1, 0), 0, [(0, b"{}"), (1, value), (2, None)]), 10)
    return batch.letters[1]


def test_snappy_without_blocks_is_read_within_the_same_bound() -> None:
    plain = b"a" * 40_000
    assert unpacking.unsnapped(pyarrow.compress(plain, "snappy", asbytes=True), 40_000) == plain
    with pytest.raises(unpacking.PackedError, match="over 39,999 bytes"):
        unpacking.unsnapped(pyarrow.compress(plain, "snappy", asbytes=True), 39_999)


@pytest.mark.parametrize("codec", CODECS)
@given(plain=st.binary(max_size=2_000), place=st.integers(0, 3_000), put=st.binary(max_size=8))
def test_whatever_bytes_come_they_are_unpacked_or_refused(codec: str, plain: bytes, place: int, put: bytes) -> None:
    good = squeezed(codec, [plain])
    assert unpack(codec, good) == plain
    for broken in (good[:place] + put + good[place + len(put) :], put, good + put):
        with suppress(unpacking.PackedError):
            assert len(unpack(codec, broken)) <= 5_000


def unpack(codec: str, data: bytes) -> bytes:
    return unpacking.unsnapped(data, 5_000) if codec == "snappy" else unpacking.streamed(data, codec, 5_000)
