"""From Kafka to rows: what lands, what becomes a dead letter, who reads what."""

from datetime import UTC, datetime
from decimal import Decimal

import redis

from barwright.channels import TICKS
from barwright.ingest import kafka
from tests.ingest.conftest import BOTH, World, eventually
from tests.ingest.messages import bar, encode, trade

pytestmark = BOTH
COUNT = "select count(*) from ticks"


def test_trades_and_bars_land_once_from_both_kinds_of_topics(world: World) -> None:
    world.topic()
    history = world.topic(f"{world.dynamic}BTCUSD", 1)
    world.start()
    world.send(trade(1), [trade(2), trade(3)])
    world.send(bar(0), [bar(1, quote_volume=None, trades=None)], topic=history)
    eventually(lambda: world.one(COUNT), 5)
    rows = world.query(
        "select ts, symbol, seq, price, size, side, open, high, low, quote, trades from ticks order by seq, ts"
    )
    assert rows[0] == {
        "ts": datetime(2023, 3, 1, tzinfo=UTC), "symbol": "BTCUSD", "seq": -1, "price": Decimal(15),
        "size": Decimal("7.5"), "side": None, "open": Decimal(10), "high": Decimal(20), "low": Decimal(5),
        "quote": Decimal("99.25"), "trades": 12,
    }  # fmt: skip
    assert (rows[1]["quote"], rows[1]["trades"]) == (None, None)
    assert [(row["seq"], row["side"], row["price"]) for row in rows[2:]] == [
        (1, "b", Decimal("101.5")), (2, "b", Decimal("102.5")), (3, "b", Decimal("103.5"))
    ]  # fmt: skip
    positions = world.query(
        "select topic, next_offset, rows from ingest_offset where next_offset > 0 order by topic desc"
    )
    assert positions == [
        {"topic": world.settings.tick_topic, "next_offset": 2, "rows": 3},
        {"topic": history, "next_offset": 2, "rows": 2},
    ]


def test_a_missing_topic_is_made_and_a_new_dynamic_topic_is_seen(world: World) -> None:
    world.start()
    eventually(lambda: world.one("select count(*) from ingest_offset"), 4)
    assert not kafka.ensure_topic(world.settings, world.settings.tick_topic, 1)
    world.send(bar(0), topic=world.topic(f"{world.dynamic}A_2fB", 1))
    eventually(lambda: world.one(COUNT), 1)
    # Its appearance rebalanced nothing of the live group.
    assert world.one("select max(generation) from ingest_offset where topic = %s", world.settings.tick_topic) == 1


def test_bad_items_become_dead_letters_and_the_rest_of_their_record_lands(world: World) -> None:
    world.topic()
    world.start()
    bad = [b'{"type":"trade"}', b"17", encode(trade(4, price="NaN")), encode(trade(5, size="-1")),
           encode(trade(6, symbol="A B")), encode(trade(7, ts="2099-01-01T00:00:00Z")), encode(bar(1, interval="1h")),
           encode(trade(8, side="up")), encode({"type": "mark"})]  # fmt: skip
    items = [encode(trade(1)), *bad[:4], encode(trade(2)), *bad[4:], encode(trade(3))]
    world.send(trade(9), b"[" + b" , ".join(items) + b"]", b"{not json", None, trade(10))
    eventually(lambda: world.one(COUNT), 5)
    letters = world.query('select "offset", item, reason, raw, topic from dead_letter order by 1, 2')
    assert [(letter["offset"], letter["item"]) for letter in letters] == [
        *((1, n) for n, item in enumerate(items) if item in bad), (2, 0), (3, 0)
    ]  # fmt: skip
    assert [letter["raw"] for letter in letters] == [*bad, b"{not json", b""]
    assert all(letter["reason"] and letter["topic"] == world.settings.tick_topic for letter in letters)


def test_a_symbol_keeps_the_rule_that_numbers_its_trades(world: World) -> None:
    world.topic()
    world.start()
    world.send(trade(1), trade(2, id=None), trade(3, seq=3), trade(4, symbol="S", seq=1), trade(5, symbol="S"))
    world.send(trade(6, symbol="O", id="x-1"), [trade(7, symbol="O", id=None), trade(8, symbol="O", id=None)])
    eventually(lambda: world.one(COUNT), 5)
    assert world.query("select symbol, seq_rule from symbols order by symbol") == [
        {"symbol": "BTCUSD", "seq_rule": "id"},
        {"symbol": "O", "seq_rule": "offset"},
        {"symbol": "S", "seq_rule": "seq"},
    ]
    assert [row["seq"] for row in world.query("select seq from ticks where symbol = 'O' order by ts")] == [
        5 * 100_000, 6 * 100_000, 6 * 100_000 + 1
    ]  # fmt: skip
    reasons = [letter["reason"] for letter in world.query('select reason from dead_letter order by "offset"')]
    assert [reason.split(",")[0] for reason in reasons] == ["numbered by offset", "numbered by seq", "numbered by id"]


def test_what_landed_is_announced_on_redis(world: World) -> None:
    client = redis.Redis.from_url(world.settings.redis_url)
    channel = client.pubsub(ignore_subscribe_messages=True)
    channel.subscribe(TICKS)
    channel.get_message(timeout=1)
    world.topic()
    world.start()
    world.send(trade(1, symbol="NEWS"))
    minute = int(datetime(2023, 3, 1, tzinfo=UTC).timestamp()) * 1000
    eventually(lambda: (channel.get_message(timeout=0.1) or {}).get("data"), b'{"NEWS":%d}' % minute)
    channel.close()
    client.close()


def test_late_rows_are_noted_and_live_ones_are_not(world: World) -> None:
    world.topic()
    world.start()
    now = world.one("select now()")
    world.send(trade(1), trade(2, ts=now.isoformat()), trade(3, symbol="LIVE", ts=now.isoformat()))
    eventually(lambda: world.one(COUNT), 3)
    assert world.query("select symbol, lower(span), upper(span) from late_range") == [
        {"symbol": "BTCUSD", "lower": datetime(2023, 3, 1, tzinfo=UTC), "upper": datetime(2023, 3, 1, 0, 1, tzinfo=UTC)}
    ]


def test_two_processes_share_the_work_and_a_third_joins(world: World) -> None:
    world.topic()
    for _ in range(2):
        world.start()
    eventually(lambda: world.one("select count(*) from ingest_offset"), 4)
    for n in range(300):
        world.send(*(trade(n * 4 + p, symbol=f"S{p}") for p in range(4)), partition=n % 4)
        if n == 100:
            world.start()
        if n == 200:
            world.threads[0][1].set()
    eventually(lambda: world.one(COUNT), 1200)
    assert world.one("select count(*) from dead_letter") == 0
    assert world.one("select sum(rows) from ingest_offset") == 1200


def test_stopping_lands_what_is_in_hand(world: World) -> None:
    world.topic()
    world.send(*([trade(n * 100 + i) for i in range(100)] for n in range(200)), partition=1)
    stop = world.start()
    eventually(lambda: world.one(COUNT) > 0, True)
    stop.set()
    world.stop()
    position, rows = world.query("select next_offset, rows from ingest_offset where partition = 1")[0].values()
    assert world.one(COUNT) == rows == position * 100
    world.start()
    eventually(lambda: world.one(COUNT), 20_000)
