"""What `make fuzz ARGS=--limits` found: input within its limits that grew a process without end."""

from __future__ import annotations

import io
import time
import tracemalloc
from sys import maxsize
from typing import Any

import msgspec

from barwright.ingest.batch import Batch
from barwright.ingest.claims import Chunk, Claim
from barwright.ingest.decode import native
from barwright.ingest.decoders import decoders_of
from barwright.ingest.items import MOST_CUTS
from barwright.ingest.replay import MOST_LINE, Trades
from barwright.ingest.ticks import Window
from tests.fuzz.requests import GOOD_LINE
from tests.ingest.messages import TOPIC_ID, trade

WINDOW = Window(0, 2**60)


def claim(decode: Any = native) -> Claim:
    return Claim("t", 0, TOPIC_ID, 1, 0, decode)


def added(values: list[bytes], batch: Batch, decode: Any = native) -> Chunk | None:
    """What is left of these records."""
    return batch.add(Chunk(claim(decode), 0, list(enumerate(values))), 10_000)


def test_ticks_of_a_symbol_too_many_are_dead_letters() -> None:
    batch = Batch({"KNOWN": "id"}, WINDOW, most_symbols=2)
    added([msgspec.json.encode(trade(n, symbol=name)) for n, name in enumerate(("A", "B", "A", "KNOWN"))], batch)
    assert sorted(batch.minutes()) == ["A", "KNOWN"]
    assert [(one.offset, one.reason[:22]) for one in batch.letters] == [(1, "symbol: there are 2 al")]


def test_missed_marks_of_one_record_do_not_cut_millions_of_minutes() -> None:
    marks = [
        {"type": "mark", "event": "missed", "from": 0, "to": 86_340_000, "symbol": f"S{n}"} for n in range(200)
    ]  # fmt: skip
    batch = Batch({}, WINDOW)
    assert added([msgspec.json.encode(marks), b"[]"], batch) is None or batch.full
    assert MOST_CUTS - 1440 < len(batch.cuts) <= MOST_CUTS
    assert {one.reason for one in batch.letters} == {"from, to: more than 100,000 minutes missed in one record"}


def test_many_refused_items_of_one_record_are_told_in_one_pass() -> None:
    """Each split the whole record again: 19,000 items of a megabyte took a minute, of ten megabytes two hours."""
    items = [trade(n, price="0") for n in range(5_000)]
    batch, began = Batch({}, WINDOW), time.process_time()
    added([msgspec.json.encode(items)], batch)
    assert time.process_time() - began < 2
    assert [msgspec.json.decode(one.raw) for one in batch.letters] == items


def test_messages_that_become_nothing_fill_a_batch() -> None:
    """A batch took them all, and its position stood, for as long as there were more."""
    [(_, binance)] = decoders_of("x=binance")
    other = b'{"e":"depthUpdate","b":"%s"}' % (b"x" * 20_000)
    batch = Batch({}, WINDOW)
    rest = added([other] * 2_000, batch, binance)
    assert batch.full
    assert batch.size == 0
    assert rest is not None
    assert len(rest.records) == 1_000  # it looks after each RUN
    again = Batch({}, WINDOW)
    assert again.add(Chunk(claim(binance), 0, list(enumerate([other] * 2_000))), maxsize) is None


def test_a_record_of_too_many_trades_is_cut_off_though_all_are_written_the_usual_way() -> None:
    items = [trade(n % 1_000) for n in range(100_001)]
    batch = Batch({"BTCUSD": "id"}, WINDOW)
    added([msgspec.json.encode(items)], batch)
    assert (batch.rows, [one.item for one in batch.letters]) == (100_000, [100_000])


def test_fields_that_a_template_does_not_name_are_not_kept() -> None:
    [(_, decode)] = decoders_of("x=cryptocompare")
    told = (b'{"TYPE":"0","M":"%d%s","FSYM":"BTC","TSYM":"USD","SIDE":1,"ACTION":1,"CCSEQ":7,"P":27180.12,'
            b'"Q":0.5,"SEQ":1,"TS":1677628800,"REPORTEDNS":1677628800123456789}')  # fmt: skip
    tracemalloc.start()
    for n in range(500):
        [item] = decode(told % (n, b"x" * 20_000))
        assert item.symbol == "BTCUSD"  # type: ignore[union-attr]
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 2**20


def test_a_line_without_end_is_told_and_not_kept() -> None:
    class Endless(io.StringIO):
        """Remembers the largest piece it was asked for."""

        most = 0

        def readline(self, size: int | None = -1) -> str:  # type: ignore[override]
            line = super().readline(size)
            self.most = max(self.most, len(line))
            return line

    told: list[str] = []
    long = "1677628800000,1,buy,1,1" + "0" * (3 * MOST_LINE) + "\n"
    at_most = "1677628800000,1,buy,1,1".ljust(MOST_LINE - 1) + "\n"
    file = Endless("ts_ms,trade_id,side,price,size\n" + long + at_most + GOOD_LINE.format(n=7))
    assert [one.id for _, one in Trades(file, "BTCUSD", told.append)] == ["1", "7"]
    assert told == [f"line 2: more than {MOST_LINE:,} characters"]
    assert file.most <= MOST_LINE + 1
