"""The live feed against a real broker: what it vouches for has been delivered, whatever fails."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise

import psycopg
import pytest
from kafka import KafkaAdminClient

from barwright.ingest.feed import broker
from barwright.ingest.feed.broker import DeliveryError
from barwright.ingest.feed.publish import Channel
from barwright.ingest.feed.source import Alive, Missed, Subscribed, Trades, UnavailableError, Unsubscribed
from tests import services
from tests.ingest.conftest import World
from tests.ingest.feeding import Feeding, is_true
from tests.ingest.scripted import Exchange, Log, Scripted, landed, now, trade
from tests.services import Server

SYMBOLS = [f"L{n}" for n in range(12)]


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Kafka that may be stopped."""
    yield from services.server("", lambda: services.kafka(tmp_path_factory.mktemp("feed")))


@pytest.fixture
def feeding(world: World) -> Iterator[Feeding]:
    """See Feeding."""
    made = Feeding(world)
    yield made
    made.close()


def followed(source: Scripted) -> set[str]:
    """The symbols a source is asked for."""
    return {market.symbol for market in source.subscriptions.wanted}


def spans(log: Log) -> dict[str, list[tuple[str, str]]]:
    """What lands as covered, by symbol, sorted."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for messages in log.read().values():
        by_session = landed(messages)
        for mark in messages:
            for symbol in mark.get("symbols", ()):
                found[symbol] += by_session[mark["session"]]
    return {symbol: sorted(of_symbol) for symbol, of_symbol in found.items()}


def test_marks_number_and_count_what_was_sent_to_each_partition(feeding: Feeding) -> None:
    feeding.register(*SYMBOLS)
    source = Scripted()
    feeding.start(source)
    is_true(lambda: followed(source) == set(SYMBOLS))
    exchange = Exchange(source, SYMBOLS, 40)
    exchange.start()
    log = feeding.log()
    is_true(lambda: len(log.all("live")) >= 4 * 4)
    exchange.stop()
    is_true(lambda: sum(message["type"] == "trade" for message in log.all()) == exchange.sent.total())
    for partition, messages in log.read().items():
        marks = [message for message in messages if message["type"] == "mark"]
        assert [mark["n"] for mark in marks] == list(range(1, len(marks) + 1))
        assert {(mark["partition"], mark["source"]) for mark in marks} == {(partition, "simulator")}
        assert marks[0]["symbols"] == sorted(s for s in SYMBOLS if broker.partitioner(4)(s) == partition)
        (found,) = landed(messages).values()
        assert len(found) == len(marks)
        assert all(before[1] == after[0] for before, after in pairwise(found))
        for message in messages:
            if message["type"] == "trade":
                assert message["session"] == marks[0]["session"]
                assert message["symbol"] in marks[0]["symbols"]


def test_partitions_are_those_that_every_client_computes(feeding: Feeding) -> None:
    for symbol in (*SYMBOLS, "EUR/USD", "x" * 64):
        sent = feeding.world.producer().send(feeding.settings.tick_topic, key=symbol.encode(), value=b"{}")
        assert sent.get(timeout=10).partition == broker.partitioner(4)(symbol)


def test_a_sources_error_ends_its_sessions_only(feeding: Feeding) -> None:
    feeding.register("A")
    feeding.register("B", source="ccxt:other")
    feeding.register("C", source="ccxt:unknown")
    feeding.register("D", source="kafka")
    failing, other = Scripted(), Scripted("ccxt:other")
    feeding.start(failing, other)
    is_true(lambda: followed(failing) == {"A"} and followed(other) == {"B"})
    exchange = Exchange(other, ["B"], 20)
    exchange.start()
    log = feeding.log()
    for n in range(3):
        failing.say(Subscribed(frozenset({"A"}), now()), Trades([trade("A", now(), n)]))
        time.sleep(0.3)
        failing.say(Alive(now()))
        is_true(
            lambda n=n: len({mark["session"] for mark in log.all("live") if mark["source"] == "simulator"}) == n + 1
        )
        failing.say(Trades([trade("A", now(), 100 + n)]), UnavailableError("gone"))
        is_true(lambda n=n: failing.connections == n + 2)
    exchange.stop()
    assert other.connections == 1
    assert failing.closed == 3
    found = spans(log)
    # No mark follows the error: what was between two connections is nobody's word.
    assert len(found["A"]) == 3
    assert all(before[1] < after[0] for before, after in pairwise(found["A"]))
    assert all(before[1] == after[0] for before, after in pairwise(found["B"]))


def test_missed_trades_are_said_before_the_next_mark(feeding: Feeding) -> None:
    feeding.register("A")
    source = Scripted()
    feeding.start(source)
    is_true(lambda: followed(source) == {"A"})
    at = now() - 1_000_000
    source.say(Subscribed(frozenset({"A"}), at), Missed("A", at + 1, at + 2), Alive(at + 400_000))
    log = feeding.log()
    is_true(lambda: log.all("live"))
    assert [message["event"] for message in log.all()] == ["missed", "live"]
    assert log.all("missed")[0]["from"] < log.all("missed")[0]["to"]


def test_symbols_join_leave_and_come_again(feeding: Feeding) -> None:
    feeding.register("A", "B")
    source = Scripted()
    feeding.start(source)
    is_true(lambda: followed(source) == {"A", "B"})
    exchange = Exchange(source, ["A", "B"], 20)
    exchange.start()
    log = feeding.log()
    is_true(lambda: log.all("live"))
    feeding.register("C")
    is_true(lambda: followed(source) == {"A", "B", "C"})
    source.say(Subscribed(frozenset({"C"}), now()))
    is_true(lambda: "C" in spans(log))
    feeding.execute("select stop_symbol('B')")
    is_true(lambda: followed(source) == {"A", "C"})
    source.say(Unsubscribed(frozenset({"B"})))
    # Purged and made again: its old coverage is gone, so it must be named anew.
    feeding.execute("select purge_symbol('C')")
    feeding.register("C")
    sessions = lambda: {m["session"] for m in log.all("live") if "C" in m.get("symbols", ())}  # noqa: E731
    is_true(lambda: len(sessions()) >= 2)
    time.sleep(1.2)
    exchange.stop()
    found = spans(log)
    assert all(before[1] == after[0] for before, after in pairwise(found["A"]))
    assert found["B"][-1][1] < found["A"][-1][1]
    assert source.connections == 1


def test_two_feeds_vouch_each_for_itself(feeding: Feeding) -> None:
    feeding.register(*SYMBOLS)
    sources = [Scripted(), Scripted()]
    exchanges = []
    for source in sources:
        feeding.start(source)
        is_true(lambda source=source: followed(source) == set(SYMBOLS))
        exchanges.append(Exchange(source, SYMBOLS, 20))
        exchanges[-1].start()
    log = feeding.log()
    is_true(lambda: len(log.all("live")) >= 2 * 4 * 2)
    for exchange in exchanges:
        exchange.stop()
    sessions = {mark["session"] for mark in log.all("live")}
    assert len(sessions) == 2
    for messages in log.read().values():
        marks = [message for message in messages if message["type"] == "mark"]
        assert sum(map(len, landed(messages).values())) == len(marks)


def test_without_the_database_the_symbols_stay_as_they_are(feeding: Feeding, postgres: Server) -> None:
    feeding.register("A")
    source = Scripted()
    feeding.start(source)
    is_true(lambda: followed(source) == {"A"})
    exchange = Exchange(source, ["A"], 20)
    exchange.start()
    log = feeding.log()
    name = psycopg.conninfo.conninfo_to_dict(feeding.settings.database_url)["dbname"]
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        admin.execute(f'alter database "{name}" allow_connections false')
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))
        time.sleep(2)
        before = len(log.all("live"))
        is_true(lambda: len(log.all("live")) > before)
        admin.execute(f'alter database "{name}" allow_connections true')
    feeding.register("B")
    is_true(lambda: followed(source) == {"A", "B"})
    exchange.stop()
    assert source.connections == 1


def test_it_ends_within_two_seconds(feeding: Feeding) -> None:
    feeding.register("A")
    source = Scripted()
    stop = feeding.start(source)
    is_true(lambda: followed(source) == {"A"})
    exchange = Exchange(source, ["A"], 200)
    exchange.start()
    time.sleep(0.5)
    began = time.monotonic()
    stop.set()
    feeding.feeds[0][0].join(5)
    assert time.monotonic() - began < 2
    assert source.closed == 1
    exchange.stop()


def test_a_record_that_the_broker_refuses_is_told_and_ends_the_channel(world: World) -> None:
    with closing(KafkaAdminClient(bootstrap_servers=world.settings.kafka_bootstrap_servers)) as admin:
        configs = {"max.message.bytes": "1000"}
        admin.create_topics({world.settings.tick_topic: {"num_partitions": 1, "configs": configs}})

    async def send() -> bool:
        channel = await Channel.open(world.settings)
        channel.put([(0, "A", b"x" * 2_000)])
        with pytest.raises(DeliveryError):
            await asyncio.wait_for(channel.failed, 20)
        await channel.close()
        return channel.works

    assert not asyncio.run(send())


# kafka-python leaves a socket behind with each connection that is refused.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
# The minute of chaos breaks the same; this is the one fault by itself.
@pytest.mark.slow
def test_a_broker_that_is_away_holds_the_source_back_and_ends_sessions(
    feeding: Feeding, kafka: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "REQUEST_MS", 1_000)
    monkeypatch.setattr(broker, "DELIVERY_MS", 3_000)
    feeding.register(*SYMBOLS)
    source = Scripted()
    feeding.start(source)
    is_true(lambda: followed(source) == set(SYMBOLS))
    exchange = Exchange(source, SYMBOLS, 50)
    exchange.start()
    log = feeding.log()
    is_true(lambda: log.all("live"))
    kafka.stop()  # type: ignore[attr-defined]
    is_true(lambda: source.closed == 1, 30)
    exchange.stop()
    kafka.start()  # type: ignore[attr-defined]
    is_true(lambda: source.connections == 2, 60)
    is_true(lambda: followed(source) == set(SYMBOLS))
    again = Exchange(source, SYMBOLS, 50)
    again.start()
    again_log = feeding.log()
    is_true(lambda: len({mark["session"] for mark in again_log.all("live")}) == 2, 30)
    again.stop()
    time.sleep(0.3)
    arrived = {(m["symbol"], m["ts"]) for m in again_log.all() if m["type"] == "trade"}
    sent: dict[str, set[str]] = defaultdict(set)
    for part in (exchange, again):
        for symbol, ts in part.all:
            sent[symbol].add(ts)
    vouched = spans(again_log)
    assert set(vouched) == set(SYMBOLS)
    for symbol, found in vouched.items():
        for start, end in found:
            assert not [ts for ts in sent[symbol] if start <= ts < end and (symbol, ts) not in arrived]


@pytest.mark.slow
def test_many_trades_a_second(feeding: Feeding, capsys: pytest.CaptureFixture[str]) -> None:
    """1,000 symbols, 10,000 trades a second for ten seconds, each trade a frame of its own."""
    symbols = [f"T{n}" for n in range(1_000)]
    feeding.register(*symbols)
    source = Scripted()
    feeding.start(source)
    is_true(lambda: followed(source) == set(symbols))
    source.say(Subscribed(frozenset(symbols), now()))
    began, cpu = time.monotonic(), time.process_time()
    for n in range(100):
        for symbol in symbols:
            at = now()
            source.say(Trades([trade(symbol, at, n)]))
        source.say(Alive(now()))
        time.sleep(max(0.0, began + (n + 1) / 10 - time.monotonic()))
    log = feeding.log()
    is_true(lambda: sum(m["type"] == "trade" for m in log.all()) == 100_000, 60)
    took, cpu = time.monotonic() - began, time.process_time() - cpu
    with capsys.disabled():
        records = sum(map(len, log.values.values()))
        print(f"\n100,000 trades in {took:.1f} s, {cpu:.1f} s of CPU with their source and reader, {records} records")
