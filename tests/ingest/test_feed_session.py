"""Sessions: whatever happens, and whatever is lost, no span is vouched for of which a trade did not land."""

from __future__ import annotations

import time
from collections import Counter
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from barwright.ingest.feed import broker
from barwright.ingest.feed.publish import Item, records
from barwright.ingest.feed.session import MOST, Sessions
from barwright.ingest.feed.source import Alive, Missed, Subscribed, Trades, Unsubscribed
from barwright.ingest.ticks import Trade, stamp
from tests.ingest.scripted import landed, trade

SYMBOLS = [f"S{n}" for n in range(4)]
PARTITIONS = 2
MARGIN = 1_000_000
START = 1_700_000_000_000_000
partition_of = broker.partitioner(PARTITIONS)


def messages(items: list[Item]) -> dict[int, list[dict[str, Any]]]:
    """What items are as messages on the topic, by partition."""
    found: dict[int, list[dict[str, Any]]] = {n: [] for n in range(PARTITIONS)}
    for partition, _, value, _ in records(items):
        decoded = msgspec.json.decode(value)
        found[partition] += decoded if isinstance(decoded, list) else [decoded]
    return found


def covered(log: dict[int, list[dict[str, Any]]]) -> dict[str, list[tuple[str, str]]]:
    """The spans that land as covered, by symbol."""
    found: dict[str, list[tuple[str, str]]] = {}
    for part in log.values():
        spans = landed(part)
        for mark in part:
            for symbol in mark.get("symbols", ()):
                found.setdefault(symbol, []).extend(spans[mark["session"]])
    return found


ACTIONS = st.one_of(
    st.tuples(st.just("trade"), st.sampled_from(SYMBOLS), st.integers(0, MARGIN - 1)),
    st.tuples(st.just("join"), st.sets(st.sampled_from(SYMBOLS), min_size=1), st.integers(0, 3 * MARGIN)),
    st.tuples(st.just("leave"), st.sets(st.sampled_from(SYMBOLS), min_size=1), st.just(0)),
    st.tuples(st.just("renew"), st.sets(st.sampled_from(SYMBOLS), min_size=1), st.just(0)),
    st.tuples(st.just("alive"), st.just(""), st.integers(1, 2 * MARGIN)),
    st.tuples(st.just("tick"), st.just(""), st.just(0)),
)


@settings(max_examples=500)
@given(st.lists(ACTIONS, max_size=60), st.data())
def test_no_covered_span_lacks_a_trade(actions: list[tuple[str, Any, int]], data: st.DataObject) -> None:
    """A made-up exchange with trades up to the margin late; some records are lost on their way."""
    sessions, now = Sessions("simulator", partition_of, MARGIN / 1_000_000), START
    followed: set[str] = set()
    happened: dict[str, list[tuple[int, bool]]] = {symbol: [] for symbol in SYMBOLS}
    items: list[Item] = []
    sessions.take(Alive(now))
    for n, (action, what, number) in enumerate(actions):
        if action == "trade":
            at = now - number
            # One that is not followed happens as well, and nobody sends it.
            happened[what].append((at, what in followed))
            if what in followed:
                items += sessions.take(Trades([trade(what, at, n)]))
        elif action == "join":
            items += sessions.take(Subscribed(frozenset(what), now + 1 + number))
            followed |= what
        elif action == "leave":
            items += sessions.take(Unsubscribed(frozenset(what)))
            followed -= what
        elif action == "renew":
            items += sessions.renew(what)
        elif action == "alive":
            now += number
            items += sessions.take(Alive(now))
        else:
            items += sessions.tick()
    trades = [n for n, item in enumerate(items) if isinstance(item[2], Trade)]
    any_of = st.sets(st.integers(0, max(len(items) - 1, 0)), max_size=1)
    lost = data.draw(any_of) | data.draw(st.sets(st.sampled_from(trades), max_size=4) if trades else st.just(set()))
    kept = [item for n, item in enumerate(items) if n not in lost]
    arrived = {(t.symbol, t.ts) for _, _, t in kept if isinstance(t, Trade)}
    for symbol, spans in covered(messages(kept)).items():
        for start, end in spans:
            gone = [at for at, _ in happened[symbol] if start <= stamp(at) < end and (symbol, stamp(at)) not in arrived]
            assert not gone, (symbol, start, end)


@settings(max_examples=100)
@given(st.lists(st.one_of(st.sampled_from(SYMBOLS), st.none()), max_size=40))
def test_leaving_and_merging_leave_no_hole(leaving: list[str | None]) -> None:
    """Who stays is covered from the first mark to the last, whoever else comes and goes."""
    sessions, now = Sessions("simulator", partition_of, 1.0), START
    items = list(sessions.take(Subscribed(frozenset({"STAYS", *SYMBOLS}), now)))
    now += 2_000_000
    items += [*sessions.take(Alive(now)), *sessions.tick()]
    for n, symbol in enumerate(leaving):
        now += 700_000 * (n % 2)
        items += sessions.take(Alive(now))
        items += sessions.take(Trades([trade("STAYS", now, n)]))
        if symbol is None:
            items += sessions.tick()
        else:
            items += sessions.take(Unsubscribed(frozenset({symbol})))
            items += sessions.take(Subscribed(frozenset({symbol}), now + 1))
    spans = sorted(covered(messages(items)).get("STAYS", []))
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    assert spans[0][0] == stamp(START)


def test_a_session_begins_where_the_last_of_those_who_share_it_joined() -> None:
    sessions = Sessions("simulator", partition_of, 1.0)
    items = [
        *sessions.take(Subscribed(frozenset({"A"}), START)),
        *sessions.take(Subscribed(frozenset({"B"}), START + 500_000)),
    ]
    items += [*sessions.take(Alive(START + 3_000_000)), *sessions.tick()]
    found = covered(messages(items))
    span = stamp(START + 500_000), stamp(START + 2_000_000)
    assert found == {"A": [span], "B": [span]}


def test_marks_number_and_count_over_many_partitions() -> None:
    sessions = Sessions("simulator", partition_of, 1.0)
    symbols = [f"M{n}" for n in range(20)]
    items = list(sessions.take(Subscribed(frozenset(symbols), START)))
    for second in range(1, 5):
        at = START + second * 1_000_000
        items += sessions.take(Trades([trade(symbol, at, second) for symbol in symbols[: 5 * second]]))
        items += sessions.take(Alive(at))
        items += sessions.tick()
        assert not sessions.tick(), "nothing moved"
    for partition, found in messages(items).items():
        marks = [message for message in found if message["type"] == "mark"]
        assert [mark["n"] for mark in marks] == [1, 2, 3]
        assert {mark["partition"] for mark in marks} == {partition}
        assert sorted(marks[0]["symbols"]) == sorted(s for s in symbols if partition_of(s) == partition)
        assert all("symbols" not in mark for mark in marks[1:])
        assert sum(mark["count"] for mark in marks) == sum(message["type"] == "trade" for message in found)
        (spans,) = landed(found).values()
        assert spans == [(stamp(START + s * 1_000_000), stamp(START + (s + 1) * 1_000_000)) for s in range(3)]


def test_trades_of_no_session_and_missed_ones() -> None:
    sessions = Sessions("simulator", partition_of, 0.0)
    ((_, _, replayed),) = sessions.take(Trades([trade("S0", START, 1)]))
    assert isinstance(replayed, Trade)
    assert replayed.session is None
    sessions.take(Subscribed(frozenset({"S0"}), START))
    items = [*sessions.take(Alive(START + 9)), *sessions.take(Missed("S0", START + 1, START + 5)), *sessions.tick()]
    found = [message["event"] for message in messages(items)[partition_of("S0")]]
    assert found == ["missed", "live"]


def test_trades_of_a_session_that_ends_before_its_first_mark_are_not_vouched_for_uncounted() -> None:
    sessions = Sessions("simulator", partition_of, 1.0)
    sessions.take(Subscribed(frozenset({"S0", "S1"}), START))
    lost = sessions.take(Trades([trade("S0", START + 500_000, 1)]))
    sessions.take(Alive(START + 600_000))
    items = [*sessions.take(Unsubscribed(frozenset({"S1"}))), *sessions.take(Alive(START + 5_000_000))]
    items += sessions.tick()
    assert len(lost) == 1
    assert covered(messages(items))["S0"] == [(stamp(START + 600_001), stamp(START + 4_000_000))]


def test_an_event_time_ahead_of_the_clock_vouches_for_nothing_to_come() -> None:
    sessions = Sessions("simulator", partition_of, 0.0)
    sessions.take(Subscribed(frozenset({"S0"}), START))
    sessions.take(Alive(2**53))
    ((_, _, mark),) = sessions.tick()
    assert isinstance(mark, bytes)
    assert msgspec.json.decode(mark)["to"] <= stamp(time.time_ns() // 1000)
    assert not sessions.tick()


def test_many_symbols_added_one_by_one_are_few_sessions_and_few_moves() -> None:
    sessions, named, now = Sessions("simulator", partition_of, 1.0), Counter[str](), START
    for n in range(2_000):
        now += 1_000_000
        items = list(sessions.take(Subscribed(frozenset({f"N{n}"}), now)))
        items += sessions.take(Alive(now))
        items += sessions.tick()
        for part in messages(items).values():
            for mark in part:
                named.update(mark.get("symbols", ()))
        assert len(sessions.open) <= MOST + 2
    assert max(named.values()) < 20
    assert sum(len(session.names) for session in sessions.open) == 2_000


def test_records_keep_the_order_of_a_partition_and_join_a_symbols_trades() -> None:
    a, b = trade("A", START, 1), trade("B", START, 2)
    found = list(records([(0, "A", a), (0, "B", b), (1, "C", b), (0, "A", a), (0, "s", b"mark"), (0, "A", b)]))
    assert [(partition, key, count) for partition, key, _, count in found] == [
        (0, "A", 2), (0, "B", 1), (0, "s", 1), (1, "C", 1), (0, "A", 1),
    ]  # fmt: skip
