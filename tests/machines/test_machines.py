"""Every transition of every machine, taken from the classes; what the base adds to them; and a life of each."""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress

import pytest
import structlog
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from barwright import sql
from barwright.errors import BarwrightError
from barwright.machines.base import REMEMBERED, Machine, TransitionError
from barwright.machines.board import Board
from barwright.machines.consumer import HistoryConsumer, LiveBatch
from barwright.machines.coordinator import BackfillTask, Coordinator
from barwright.machines.datastore import Datastore
from barwright.machines.diagram import MACHINES
from barwright.machines.producer import HistoryTask, LiveConnection

# One ordinary life of each: the events, and the states they lead through.
LIVES = {
    HistoryTask: (
        "create_topic fetch publish fetch publish published",
        "creating_topic fetching_data publishing_dynamic fetching_data publishing_dynamic idle",
    ),
    LiveConnection: (
        "connect connected subscribed mark subscribed mark disconnect",
        "connecting subscribing publishing_fixed publishing_fixed publishing_fixed publishing_fixed idle",
    ),
    Coordinator: (
        "lead seal advance repair file correct audit notify rest seal advance repair rest resign",
        "active sealing advancing repairing filing correcting auditing notifying active sealing advancing repairing "
        "active standby",
    ),
    BackfillTask: (
        "claim requeue claim publish acknowledge repair land",
        "fetching queued fetching publishing published repairing landed",
    ),
    LiveBatch: ("receive processed written updated", "processing_message writing_to_db updating_cache idle"),
    HistoryConsumer: (
        "subscribe subscribed receive processed written updated leave",
        "subscribing consuming processing_message writing_to_db updating_cache consuming idle",
    ),
    Datastore: (
        "request query missing ask asked fetched found give returned",
        "processing_request querying_db data_not_found requesting_fetch waiting_for_data querying_db data_found "
        "returning_data idle",
    ),
}


def events_of(machine: type[Machine]) -> list[str]:
    return list(dict.fromkeys(event for leaving in machine.moves().values() for event in leaving))


@pytest.mark.parametrize(("machine", "state"), [(m, state) for m in MACHINES.values() for state in m.moves()])
def test_an_event_leads_to_its_target_or_is_refused(machine: type[Machine], state: str, board: Board) -> None:
    for event in events_of(machine):
        target = machine.moves()[state].get(event)
        it = machine("BTCUSD", board, start=state)
        if target is None:
            with pytest.raises(TransitionError) as raised:
                getattr(it, event)()
            error = raised.value
            assert (error.machine, error.subject, error.state, error.event) == (machine.label(), "BTCUSD", state, event)
            assert (it.state, len(it.history)) == (state, 0)
        else:
            getattr(it, event)()
            assert (it.state, [change[1:] for change in it.history]) == (target, [(event, state, target, "")])
        assert [row[:3] for row in board.rows()] == [(machine.label(), "BTCUSD", it.state)]
        it.close()


@pytest.mark.parametrize("machine", LIVES)
def test_an_ordinary_life(machine: type[Machine], board: Board) -> None:
    events, states = (text.split() for text in LIVES[machine])
    it, passed = machine("x", board), []
    for event in events:
        it.send(event)
        passed.append(it.state)
    assert passed == states


def test_every_machine_is_drawn_and_lived() -> None:
    def below(machine: type[Machine]) -> Iterator[type[Machine]]:
        for child in machine.__subclasses__():
            yield child
            yield from below(child)

    assert {m for m in below(Machine) if m.__module__.startswith("barwright.")} == set(MACHINES.values()) == set(LIVES)


@pytest.mark.parametrize("machine", MACHINES.values())
def test_each_state_is_reached_and_left(machine: type[Machine]) -> None:
    moves = machine.moves()
    seen, reached = [machine("x", Board()).state], set[str]()
    while seen:
        state = seen.pop()
        if state not in reached:
            reached.add(state)
            seen += moves[state].values()
    assert reached == set(moves)
    ends = {state for state, leaving in moves.items() if not leaving}
    assert ends == ({"landed", "cancelled"} if machine is BackfillTask else set())


@pytest.mark.parametrize("machine", [machine for machine in MACHINES.values() if machine is not BackfillTask])
def test_an_error_is_reset(machine: type[Machine], board: Board) -> None:
    states = [state for state, events in machine.moves().items() if "fail" in events]
    assert states
    for state in states:
        it = machine("x", board, start=state)
        it.fail(ValueError("broken"))
        assert (it.failed, it.reason) == (True, "ValueError: broken")
        it.recover()
        assert (it.failed, it.reason) == (False, "")
        it.recover()


def test_a_task_has_the_statuses_of_its_table(database: str) -> None:
    with sql.connect(database) as connection:
        found = connection.execute(
            "select pg_get_constraintdef(oid) from pg_constraint"
            " where conrelid = 'backfill_task'::regclass and pg_get_constraintdef(oid) like '%queued%'"
        ).fetchone()
    assert found is not None
    assert re.findall(r"'(\w+)'", found[0]) == list(BackfillTask.moves())


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(BarwrightError) as raised:
        LiveBatch("writer-0", Board()).written()
    assert raised.value.message == "live_batch writer-0: no 'written' in the state 'idle'."
    assert raised.value.hint == "It takes: receive."
    with pytest.raises(TransitionError, match=r"no 'claim' in the state 'landed'\. It has ended\."):
        BackfillTask("12", Board(), start="landed").claim()


def test_after_a_refused_event_the_machine_works_on(board: Board) -> None:
    it = LiveBatch("w", board)
    with pytest.raises(TransitionError):
        it.written()
    it.receive()
    assert it.state == "processing_message"


def test_an_unknown_event_is_refused(board: Board) -> None:
    with pytest.raises(TransitionError, match="no 'explode'"):
        LiveBatch("w", board).send("explode")


@pytest.mark.parametrize("scope", [lambda it: it, lambda it: it.guard()])
def test_what_fails_inside_goes_on_up(
    scope: Callable[[Machine], AbstractContextManager[Machine]], board: Board
) -> None:
    with pytest.raises(OSError, match="no route"), scope(LiveBatch("w", board)):
        raise OSError("no route")


def test_with_is_a_life(board: Board) -> None:
    with HistoryTask("BTCUSD 12/1", board) as task:
        task.create_topic()
        assert [row.state for row in board.rows()] == ["creating_topic"]
    assert board.rows() == []


def test_a_life_that_fails_is_shown_after_its_end(board: Board) -> None:
    with suppress(OSError), HistoryTask("BTCUSD 12/1", board) as task:
        task.create_topic()
        task.fetch()
        raise OSError("no route")
    assert [row[:4] for row in board.rows()] == [("history_task", "BTCUSD 12/1", "error", "OSError: no route")]
    again = HistoryTask("BTCUSD 12/1", board)
    assert [row[2:4] for row in board.rows()] == [("idle", "")]
    again.close()


def test_a_life_that_is_cancelled_is_no_error(board: Board) -> None:
    with suppress(KeyboardInterrupt), HistoryTask("x", board) as task:
        task.create_topic()
        raise KeyboardInterrupt
    assert board.rows() == []
    assert task.state == "creating_topic"


def test_guard_is_a_piece_of_work(board: Board) -> None:
    it = LiveBatch("writer-0", board)
    with suppress(KeyError), it.guard():
        it.receive()
        raise KeyError("position")
    assert (it.state, it.reason) == ("error", "KeyError: 'position'")
    with it.guard():
        it.receive()
        it.processed()
    assert it.state == "writing_to_db"
    with pytest.raises(ValueError, match="before anything"), LiveBatch("idle", board).guard():
        raise ValueError("before anything")
    assert [row.state for row in board.rows() if row.subject == "idle"] == ["idle"]


def test_a_closed_machine_is_not_shown_again(board: Board) -> None:
    it = HistoryConsumer("dynamic-BTCUSD", board)
    it.close()
    it.subscribe()
    it.close()
    assert board.rows() == []
    assert it.state == "subscribing"


def test_what_it_remembers_is_bounded_and_since_is_of_the_state(board: Board) -> None:
    it = LiveConnection("simulator", board, start="publishing_fixed")
    since = it.since
    for _ in range(REMEMBERED + 5):
        it.mark()
    assert len(it.history) == REMEMBERED
    assert it.since == since
    it.disconnect()
    assert it.since > since


def test_transitions_are_counted_and_logged(board: Board) -> None:
    labels = {"machine": "live_batch", "source": "processing_message", "target": "error"}
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))
    before = REGISTRY.get_sample_value("barwright_transitions_total", labels) or 0.0
    with capture_logs() as logs:
        it = LiveBatch("writer-7", board, start="processing_message")
        it.fail("a\n  long\tstory")
    assert REGISTRY.get_sample_value("barwright_transitions_total", labels) == before + 1
    assert logs == [
        {"event": "moved", "log_level": "debug", "machine": "live_batch", "subject": "writer-7", "sent": "fail",
         "source": "processing_message", "target": "error", "error": "a long story"}
    ]  # fmt: skip


def test_errors_are_told_in_a_line(board: Board) -> None:
    it = LiveBatch("w", board, start="processing_message")
    it.fail(BarwrightError("The message.", "The hint."))
    assert it.reason == "The message."
    it.recover()
    it.receive()
    it.fail("x" * 2_000)
    assert len(it.reason) == 500
