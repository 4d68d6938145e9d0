"""Live sessions: coverage grows where number and count agree with what has landed, and nowhere else."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barwright.ingest.decode import native
from barwright.ingest.marks import MOST_MISSED, Mark
from barwright.ingest.store import Store
from tests.ingest.history import Desk, at, live, tick
from tests.ingest.messages import bar, encode


@pytest.fixture
def desk(stores: list[Store]) -> Desk:
    """A writer and a symbol."""
    return Desk(stores[0])


def test_marks_over_many_batches_cover_what_has_landed(desk: Desk) -> None:
    desk.land(tick(1), tick(2), [tick(3), live(1, 0.5, 3, 3)], tick(4))
    assert desk.covered() == [(0.5, 3)]
    desk.land(tick(5))
    desk.land(tick(6), live(2, 3, 6, 3), live(3, 6, 7, 0), tick(8), tick(9, session=None))
    desk.land(live(4, 7, 9, 1))
    assert desk.covered() == [(0.5, 9)]
    assert desk.run("select n, pending, source, symbols from live_session") == [(4, 0, "simulator", ["BTCUSD"])]


def test_a_count_that_differs_covers_nothing_until_a_minute_after(desk: Desk) -> None:
    desk.land(live(1, 0, 10, 0), tick(11), live(2, 10, 20, 2), live(3, 20, 50, 0), live(4, 50, 200, 0))
    assert desk.covered() == [(0, 10), (80, 200)]


def test_a_lost_mark_covers_nothing_until_a_minute_after(desk: Desk) -> None:
    desk.land(live(1, 0, 10, 0), live(3, 20, 30, 0), live(4, 30, 40, 0))
    desk.land(live(5, 40, 100, 0))
    assert desk.covered() == [(0, 10), (90, 100)]


def test_two_sessions_of_two_feeds_interleave(desk: Desk) -> None:
    desk.land(tick(1, "a"), tick(2, "b"), live(1, 0, 5, 1, "a"), tick(2, "a"), live(1, 1, 7, 1, "b"), tick(7, "b"))
    desk.land(live(2, 7, 30, 2, "b"), live(2, 5, 20, 1, "a"))
    assert desk.covered() == [(0, 20)]
    assert desk.one("select count(*) from ticks") == 3


def test_duplicates_of_two_feeds_are_counted_each_for_its_own(desk: Desk) -> None:
    desk.land(tick(1, "a"), live(1, 0, 5, 1, "a"))
    desk.land(tick(1, "b"), live(1, 0, 6, 1, "b"))
    assert desk.covered() == [(0, 6)]
    assert desk.claim.slow_until > 0
    # One feed's trade delivered twice is one more than it says.
    desk.land(tick(7, "b"), tick(7, "b"), live(2, 6, 8, 1, "b"))
    assert desk.covered() == [(0, 6)]


def test_a_refused_trade_cuts_its_minute_and_is_counted(desk: Desk) -> None:
    bad = [tick(65, price="NaN"), tick(185, size=True), tick(305, seq=1), tick(425, side="long")]
    desk.land(tick(1), [tick(2), *bad], live(1, 0, 600, 6), letters=4)
    assert desk.covered() == [(0, 60), (120, 180), (240, 300), (360, 420), (480, 600)]


def test_a_refused_trade_of_no_known_minute_proves_nothing(desk: Desk) -> None:
    desk.land(tick(1, ts="yesterday"), live(1, 0, 300, 1), letters=1)
    desk.land(b'{"type":"trade","session":"s","symbol":"BTCUSD","price":"1"}', live(2, 300, 400, 1), letters=1)
    assert desk.covered() == []


def test_refused_bars_of_others_cut_their_minute_and_those_of_a_task_do_not(desk: Desk) -> None:
    desk.land(live(1, 0, 600, 0), bar(1, high="1"), bar(2, task=1, attempt=1), bar(3, interval="1h"), letters=3)
    assert desk.covered() == [(0, 60), (120, 600)]


def test_a_row_that_only_the_database_refuses_cuts_its_minute(desk: Desk) -> None:
    desk.land(tick(1))
    desk.store.connection.execute("alter table ticks add constraint no_sevens check (size <> 7)")
    desk.land(*(tick(n) for n in range(2, 60)), tick(61, size="7"), live(1, 0, 300, 60))
    assert desk.covered() == [(0, 60), (120, 300)]
    assert desk.one("select count(*) from dead_letter") == 1


def test_missed_trades_cut_every_minute_they_touch(desk: Desk) -> None:
    missed = {"type": "mark", "event": "missed", "symbol": "BTCUSD", "from": at(130), "to": at(180.5), "source": "x"}
    desk.land(missed, live(1, 0, 600, 0))
    assert desk.covered() == [(0, 120), (240, 600)]
    for wrong in (
        {"to": at(100)},
        {"to": at(60 * (MOST_MISSED + 10))},
        {"symbol": "A B"},
        {"symbol": None},
        {"from": "x"},
    ):
        desk.land(missed | wrong, letters=1)


def test_a_mark_of_another_partition_is_ignored(desk: Desk) -> None:
    desk.land(tick(1), live(1, 0, 5, 1, partition=3), live(1, 0, 6, 1))
    assert desk.covered() == [(0, 6)]


def test_a_malformed_mark_is_a_dead_letter_and_breaks_the_chain(desk: Desk) -> None:
    wrong: list[dict[str, Any]] = [
        {"event": "dead"}, {"n": 0}, {"n": 2**62}, {"n": "1"}, {"count": -1}, {"from": "soon"}, {"to": at(-1)},
        {"session": ""}, {"session": "a\0b"}, {"session": None}, {"symbols": ["A B"]}, {"symbols": "BTCUSD"},
        {"source": "a\0"}, {"to": 2**62},
    ]  # fmt: skip
    for number, change in enumerate(wrong):
        name = f"s{number}"
        bad = live(2, 5, 20, 0, name) | change
        desk.land(live(1, 0, 5, 0, name), bad, live(3, 20, 30, 0, name), live(4, 30, 120, 0, name), letters=1)
    assert desk.run("select distinct covered::text, n from live_session") == [
        ('{["2023-03-01 00:00:00+00","2023-03-01 00:00:05+00"),["2023-03-01 00:01:30+00","2023-03-01 00:02:00+00")}', 4)
    ]


def test_names_that_no_mark_could_have_are_nobody_s(desk: Desk) -> None:
    desk.land(tick(1, "a\0b"), tick(2, "x" * 200), tick(3, ""))
    assert desk.one("select count(*) from ticks") == 3
    assert desk.run("select session from live_session") == []


def test_a_record_with_numbers_keeps_its_session_and_marks() -> None:
    items = native(encode([tick(1) | {"price": 1.5}, live(1, 0, 1, 1)]))
    assert [getattr(item, "session", None) for item in items] == ["s", "s"]
    assert isinstance(items[1], Mark)


EXAMPLES = itertools.count()
# One step of a random history: what one of two sessions does.
STEPS = st.lists(
    st.tuples(
        st.sampled_from("ab"), st.sampled_from(["trade", "trade", "trade", "mark", "mark", "bad", "lose", "skip"])
    ),
    max_size=40,
)


@given(STEPS, st.integers(0, 2**32))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_interleaving_in_any_batches_covers_what_the_model_says(
    desk: Desk, steps: list[tuple[str, str]], seed: int
) -> None:
    fate = random.Random(seed)
    # Hypothesis tries the same seed again, in the same database.
    number = next(EXAMPLES)
    names, symbol = {name: f"{name}-{number}" for name in "ab"}, f"S{number}"
    desk.run("select register_symbol(%s, 'simulator', 'm', 'B', 'Q', '2023-03-01', 'simulator', '10 s', true)", symbol)
    messages, want = _history(steps, names, symbol)
    values = [encode(message) for message in messages]
    while values:
        taken = fate.randint(1, 8)
        batch = desk.batch(*values[:taken])
        assert desk.store.register(batch)
        desk.store.land(batch)
        desk.claim.next += len(values[:taken])
        values = values[taken:]
    assert _seconds(desk.covered(symbol=symbol)) == want


def _history(steps: list[tuple[str, str]], names: dict[str, str], symbol: str) -> tuple[list[Any], set[int]]:
    """The messages of these steps, one every 7 s; and the model: the seconds that they cover."""
    messages: list[Any] = []
    sent, marks, until, doubted = (dict.fromkeys(names, 0) for _ in range(4))
    broken, blind, proved, cut = set[str](), set[str](), set[int](), set[int]()
    for now, (name, step) in enumerate(steps, 1):
        time = now * 7
        if step in ("mark", "skip"):
            marks[name] += 1
            if step == "mark":
                messages.append(live(marks[name], until[name], time, sent[name], names[name], symbols=[symbol]))
                doubted[name] = time + 60 if name in broken else doubted[name]
                proved |= set() if name in blind else set(range(max(until[name], doubted[name]), time))
                broken.discard(name)
            else:
                # Without its first mark nobody knows whom the session speaks for.
                broken.add(name)
                blind |= {name} if marks[name] == 1 else set()
            sent[name], until[name] = 0, time
            continue
        sent[name] += 1
        if step == "lose":
            broken.add(name)
        else:
            messages.append(tick(time, names[name], symbol=symbol, price="-1" if step == "bad" else "1"))
            cut |= set(range(time // 60 * 60, time // 60 * 60 + 60)) if step == "bad" else set()
    return messages, proved - cut


def _seconds(spans: list[tuple[float, float]]) -> set[int]:
    return {second for lo, hi in spans for second in range(int(lo), int(hi))}
