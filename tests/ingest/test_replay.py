"""`barwright replay`: which CSV it reads, what it says about bad lines, and what reaches Kafka."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka import KafkaConsumer, TopicPartition

from barwright.embedded.ports import free_port
from barwright.errors import BarwrightError
from barwright.ingest import replay
from barwright.ingest.replay import TOGETHER, Sender, Trades
from barwright.ingest.ticks import Trade
from tests.ingest.conftest import World

HEADER = "ts_ms,trade_id,side,price,size"
LINE = "1570752011620,7301,buy,8500.12,0.0125"
TRADE = Trade("A", 1570752011620, "8500.12", "0.0125", "7301", None, "buy")


def read(text: str, symbol: str | None = "A") -> tuple[list[Trade], list[str]]:
    """The trades of a CSV text and what was told about its bad lines."""
    told: list[str] = []
    # As click opens files: CRLF becomes LF.
    trades = Trades(io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8"), symbol, told.append)
    found = [trade for _, trade in trades]
    assert trades.bad == len(told)
    return found, told


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER}\n{LINE}\n",
        f"{HEADER}\n{LINE}",
        f"{HEADER}\r\n{LINE}\r\n",
        f"\ufeff{HEADER}\r\n{LINE}\r\n",
        '\ufeff"ts_ms","trade_id","side","price","size"\r\n"1570752011620","7301","buy","8500.12","0.0125"\r\n',
        f'{HEADER}\n1570752011620,"7301",BUY,"8500.12",0.0125\n',
        f"{HEADER}\n\n   \n{LINE}\n\n",
        " ts_ms , trade_id , side , price , size \n 1570752011620 , 7301 , buy , 8500.12 , 0.0125 \n",
        "size,side,id,price,ts\n0.0125,buy,7301,8500.12,1570752011620\n",
        f'{HEADER},note\n{LINE},"a, b ""c"""\n',
        f"note,{HEADER}\n,{LINE},more than there are columns\n",
        f"{HEADER},symbol\n{LINE},A\n",
        f"{HEADER},symbol\n{LINE},\n",
    ],
)  # fmt: skip
def test_csv_in_many_dresses_is_the_same_trade(text: str) -> None:
    assert read(text) == ([TRADE], [])


@pytest.mark.parametrize("ts", ["2019-10-11T00:00:11.620Z", "2019-10-11 02:00:11.62+02:00"])
def test_times_may_be_rfc3339(ts: str) -> None:
    trades = Trades(io.StringIO(f"ts,id,price,size\n{ts},7301,8500.12,0.0125\n"), "A", pytest.fail)
    assert list(trades) == [(1570752011620000, Trade("A", ts, "8500.12", "0.0125", "7301"))]


def test_the_symbol_of_a_line_goes_before_the_one_of_the_command() -> None:
    text = f"symbol,{HEADER}\nEUR/USD,{LINE}\n,{LINE}\n"
    assert [trade.symbol for trade in read(text, "A")[0]] == ["EUR/USD", "A"]
    assert [trade.symbol for trade in read(text, None)[0]] == ["EUR/USD"]


def test_a_side_may_be_missing() -> None:
    assert [trade.side for trade in read("ts,id,price,size\n1,1,1,1\n")[0]] == [None]
    assert [trade.side for trade in read("ts,id,price,size,side\n1,1,1,1,\n1,1,1,1,SELL\n")[0]] == [None, "sell"]


@pytest.mark.parametrize(
    ("header", "missing"),
    [
        ("ts_ms,trade_id,side,price", ["size"]),
        ("trade_id,side,price,size", ["ts_ms or ts"]),
        ("ts_ms,side,size", ["price", "trade_id or id"]),
        ("time;price", ["ts_ms or ts", "trade_id or id", "price", "size"]),
        (LINE, ["ts_ms or ts", "trade_id or id", "price", "size"]),
    ],
)
def test_missing_columns_are_named(header: str, missing: list[str]) -> None:
    with pytest.raises(BarwrightError) as error:
        read(f"{header}\n{LINE}\n")
    lacks, shown = error.value.message.removeprefix("The header lacks ").split(": ", 1)
    assert sorted(lacks.split(", ")) == sorted(missing)
    assert header in shown


def test_without_any_symbol_the_option_is_named() -> None:
    with pytest.raises(BarwrightError, match="--symbol"):
        read(f"{HEADER}\n{LINE}\n", None)


def test_an_empty_file_is_told_so() -> None:
    with pytest.raises(BarwrightError, match="empty"):
        read("")


BAD = [
    ("nonsense", "1 fields are too few"),
    ("1570752011620,1,buy,1", "4 fields are too few"),
    ("1570752011620,1,buy,NaN,1", "price: not a decimal number: 'NaN'"),
    ("1570752011620,1,buy,,1", "price: not a decimal number: ''"),
    ("1570752011620,1,buy,0x10,1", "price: not a decimal number: '0x10'"),
    ("1570752011620,1,buy,0,1", "price: not above zero"),
    ("1570752011620,1,buy,-1,1", "price: negative: '-1'"),
    ("1570752011620,1,buy,1,-1", "size: negative: '-1'"),
    ("1570752011620,1,buy,1,inf", "size: not a decimal number: 'inf'"),
    ("1570752011620,a-1,buy,1,1", "id: not a non-negative 64-bit number: 'a-1'"),
    ("1570752011620,,buy,1,1", "id: not a non-negative 64-bit number: ''"),
    ("1570752011620,9223372036854775808,buy,1,1", "id: not a non-negative 64-bit number: '9223372036854775808'"),
    ("4102444800000,1,buy,1,1", "ts: in the future: 4102444800000"),
    ("-1,1,buy,1,1", "ts: neither RFC 3339 nor integer milliseconds: '-1'"),
    ("2019-10-11,1,buy,1,1", "ts: neither RFC 3339 nor integer milliseconds: '2019-10-11'"),
    ("1570752011620,1,up,1,1", "side: neither buy nor sell but 'up'"),
    ('1570752011620,1,"buy,1,1', "not CSV: unexpected end of data"),
    ('1570752011620,1,"buy"x,1,1', "not CSV: ',' expected after '\"'"),
    ("1570752011620,1,buy,\ufffd,1", "price: not a decimal number: '\ufffd'"),
]  # fmt: skip


def test_each_bad_line_is_told_by_its_number_and_skipped() -> None:
    good = [f"1570752011620,{n},buy,1,1" for n in range(len(BAD) + 1)]
    text = [HEADER, "", good[0]]
    told = []
    for n, (line, reason) in enumerate(BAD, 1):
        told.append(f"line {len(text) + 1}: {reason}")
        text += [line, good[n]]
    trades, said = read("\r\n".join(text))
    assert said == told
    assert [trade.id for trade in trades] == [str(n) for n in range(len(good))]


def test_a_malformed_symbol_in_a_line_is_bad() -> None:
    assert read(f"{HEADER},symbol\n{LINE},A B\n{LINE},B\n")[1] == ["line 2: symbol: not well-formed: 'A B'"]


def barwright(world: World, *arguments: str, text: str | bytes = "", **more: str) -> subprocess.CompletedProcess[bytes]:
    """The real command on this test's topic."""
    settings = world.settings
    environment = os.environ | {
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers, "BARWRIGHT_TICK_TOPIC": settings.tick_topic,
        "BARWRIGHT_TICK_PARTITIONS": str(settings.tick_partitions), "BARWRIGHT_HOME": str(world.logs),
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "barwright", "replay", *arguments],
        input=text.encode() if isinstance(text, str) else text,
        env=environment | more,
        capture_output=True,
        timeout=60,
    )


def records(world: World) -> list[tuple[str, int, list[dict[str, Any]]]]:
    """Everything on the topic: key, partition and value of each record, in order by partition."""
    return [(r.key.decode(), r.partition, msgspec.json.decode(r.value)) for r in consumed(world)]


def consumed(world: World) -> list[Any]:
    """The same as Kafka has it."""
    topic = world.settings.tick_topic
    consumer = KafkaConsumer(bootstrap_servers=world.settings.kafka_bootstrap_servers, group_id=None)
    try:
        partitions = [TopicPartition(topic, n) for n in range(world.settings.tick_partitions)]
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        ends = consumer.end_offsets(partitions)
        found = []
        while any(consumer.position(partition) < ends[partition] for partition in partitions):
            for batch in consumer.poll(timeout_ms=500).values():
                found += batch
        return found
    finally:
        consumer.close()


def test_a_file_reaches_kafka_whole_and_in_order(world: World, tmp_path: Path) -> None:
    file = tmp_path / "trades.csv"
    symbols = ["A", "B", "EUR/USD", "d:e"]
    count = len(symbols) * (2 * TOGETHER + 7)
    lines = [f"{1570752011620 + n},{n},{'buy' if n % 3 else 'sell'},{n + 1}.5,0.25,{symbols[n % 4]}"
             for n in range(count)]  # fmt: skip
    file.write_text("\n".join([f"{HEADER},symbol", *lines]) + "\n")
    done = barwright(world, str(file))
    assert done.returncode == 0, done.stderr
    assert f"{count:,} trades acknowledged".encode() in done.stderr
    found = records(world)
    for place, symbol in enumerate(symbols):
        mine = [(partition, trades) for key, partition, trades in found if key == symbol]
        assert len({partition for partition, _ in mine}) == 1
        sent = [trade for _, trades in mine for trade in trades]
        assert [int(trade["id"]) for trade in sent] == list(range(place, count, 4))
        assert sent[0] == {
            "type": "trade", "symbol": symbol, "ts": 1570752011620 + place, "id": str(place),
            "price": f"{place + 1}.5", "size": "0.25", "side": "buy" if place % 3 else "sell",
        }  # fmt: skip


def test_trades_of_ever_new_symbols_are_not_held_back_until_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MOST_HELD", 50)
    sender = Sender(world.settings)
    try:
        for n in range(120):
            sender.add(Trade(f"S{n}", 1_677_628_800_000, "1", "1", str(n)))
            assert len(sender._held) < 50
        sender.finish()
        assert sender.acknowledged == 120
    finally:
        sender.close()


def test_bad_lines_are_counted_in_the_exit_message_and_the_good_ones_sent(world: World) -> None:
    long = "x" * 300
    text = "\r\n".join([HEADER, LINE, "nonsense", LINE, f"1570752011620,{long},buy,1,1", LINE])
    done = barwright(world, "-", "--symbol", "A", text=text)
    assert done.returncode == 1
    *told, acknowledged, count = done.stderr.decode().strip().splitlines()
    assert "line 3: 1 fields are too few" in told
    assert [line for line in told if line.startswith("line 5: id: ")]
    assert acknowledged == "3 trades acknowledged"
    assert count == "barwright: 2 bad lines were skipped."
    assert [len(trades) for _, _, trades in records(world)] == [3]


def test_standard_input_that_is_no_text_is_bad_lines(world: World) -> None:
    done = barwright(world, "-", "--symbol", "A", text=f"{HEADER}\n{LINE}\n".encode() + b"\xff\xfe\x00\x80,1,1,1,1\n")
    assert (done.returncode, b"barwright: 1 bad line was skipped." in done.stderr) == (1, True)
    assert b"line 3: " in done.stderr
    assert b"Traceback" not in done.stderr


def test_speed_keeps_the_trades_own_pace(world: World, tmp_path: Path) -> None:
    # 2 s of trades, two of them out of order, which hold nothing up.
    times = [0, 500, 400, 1000, 1500, 0, 2000]
    file = tmp_path / "trades.csv"
    file.write_text("\n".join([HEADER, *(f"{1570752011620 + ms},{n},buy,1,1" for n, ms in enumerate(times))]))
    assert barwright(world, str(file), "--symbol", "A", "--speed", "max").returncode == 0
    once = len(consumed(world))
    assert barwright(world, str(file), "--symbol", "A", "--speed", "2").returncode == 0
    paced = consumed(world)[once:]
    assert paced[-1].timestamp - paced[0].timestamp > 600  # ms; the first may have been sent a little late
    assert [trade["id"] for trade in msgspec.json.decode(paced[-1].value)] == [
        "6"
    ]  # as they were due, not all at the end


@pytest.mark.parametrize(
    ("arguments", "text", "status", "said"),
    [
        (["-", "--symbol", "A"], "", 1, "barwright: The file is empty."),
        (["-", "--symbol", "A"], "ts,price\n", 1, "barwright: The header lacks trade_id or id, size: 'ts,price'."),
        (["-"], f"{HEADER}\n", 1, "Name the symbol by --symbol."),
        (["-", "--symbol", "A B"], f"{HEADER}\n", 1, "barwright: symbol: not well-formed: 'A B'"),
        (["-", "--symbol", ""], f"{HEADER}\n", 1, "barwright: symbol: not well-formed: ''"),
        (["-", "--speed", "0"], "", 2, "a number above 0, or max"),
        (["-", "--speed", "nan"], "", 2, "a number above 0, or max"),
        (["-", "--speed", "fast"], "", 2, "a number above 0, or max"),
        (["/no/such/file.csv"], "", 2, "No such file or directory"),
        (["/"], "", 2, "Is a directory"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_a_sentence(
    world: World, arguments: list[str], text: str, status: int, said: str
) -> None:
    done = barwright(world, *arguments, text=text)
    errors = done.stderr.decode()
    assert done.returncode == status, errors
    assert said in errors
    assert "Traceback" not in errors


def test_a_broker_that_is_away_is_said_in_a_sentence(world: World) -> None:
    done = barwright(
        world, "-", "--symbol", "A", text=f"{HEADER}\n{LINE}\n", KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{free_port(0)}"
    )
    assert done.returncode == 1
    errors = done.stderr.decode()
    assert "barwright: No Kafka broker answers at 127.0.0.1:" in errors
    assert "Traceback" not in errors
