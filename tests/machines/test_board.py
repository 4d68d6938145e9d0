"""The board, and how it is told: to a callable, and to the table in a real database."""

import threading
import time
from collections.abc import Callable

import psycopg
import pytest
from structlog.testing import capture_logs

from barwright import sql
from barwright.machines import board as boards
from barwright.machines.board import Board, Reporter, Row, columns, now
from barwright.machines.consumer import LiveBatch


def row(subject: str, state: str = "idle", error: str = "") -> Row:
    return Row("live_batch", subject, state, error, now())


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_subject_has_one_row_the_latest_to_change(board: Board) -> None:
    first, second = LiveBatch("same", board), LiveBatch("same", board)
    second.receive()
    first.receive()
    first.processed()
    assert [found.state for found in board.rows()] == ["writing_to_db"]
    first.close()
    assert [found.state for found in board.rows()] == ["processing_message"]
    second.close()
    assert board.rows() == []


def test_the_board_is_bounded(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "MOST", 3)
    monkeypatch.setattr(boards, "FAILED", 2)
    for token, subject in enumerate("abcd"):
        board.put(token, row(subject, "error", "broken"))
        board.put(0, row("a", "error", "broken"))
    assert [found.subject for found in board.rows()] == ["a", "c", "d"]
    for token in range(4):
        board.remove(token)
    assert [found.subject for found in board.rows()] == ["c", "d"]


def test_a_failed_subject_is_forgotten_after_a_while(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    board.put(1, row("a", "error", "broken"))
    board.remove(1)
    assert len(board.rows()) == 1
    monkeypatch.setattr(boards, "SHOWN", 0.0)
    time.sleep(0.002)
    assert board.rows() == []


def test_many_threads_leave_nothing_behind(board: Board) -> None:
    def work(number: int) -> None:
        for piece in range(40):
            with LiveBatch(f"{number}-{piece}", board) as it:
                it.receive()
                assert any(found.subject == it.subject for found in board.rows())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert board.rows() == []


def test_the_reporter_tells_again_and_again_and_none_at_the_end(board: Board) -> None:
    told: list[list[Row]] = []
    with Reporter(told.append, board, period=0.01) as reporter, LiveBatch("w", board) as it:
        it.receive()
        eventually(lambda: bool(told) and [found.state for found in told[-1]] == ["processing_message"])
        it.processed()
        eventually(lambda: [found.state for found in told[-1]] == ["writing_to_db"])
    assert not reporter.is_alive()
    assert told[-1] == []


def test_an_outage_is_said_once_and_ends(board: Board) -> None:
    calls = 0

    def write(rows: list[Row]) -> None:
        nonlocal calls
        calls += 1
        if calls in (1, 2, 3, 5):
            raise OSError("no database")

    with capture_logs() as logs, Reporter(write, board, period=0.001):
        eventually(lambda: calls > 6)
    assert [(line["event"], line["error"]) for line in logs] == [("states are not told", "OSError: no database")] * 2


def tell(connection: psycopg.Connection[tuple[object, ...]], instance: str, rows: list[Row]) -> None:
    query = sql.queries("machines")["tell_states"]
    connection.execute(query, {"role": "ingest", "instance": instance, **columns(rows)})


def kept(connection: psycopg.Connection[tuple[object, ...]]) -> list[tuple[object, ...]]:
    return connection.execute("select instance, subject, state, error from actor order by 1, 2").fetchall()


def test_states_in_the_database(database: str) -> None:
    with sql.connect(database, autocommit=True) as one, sql.connect(database, autocommit=True) as other:
        tell(one, "a", [row("x"), row("y", "error", "broken")])
        tell(other, "b", [row("x")])
        assert kept(one) == [("a", "x", "idle", None), ("a", "y", "error", "broken"), ("b", "x", "idle", None)]
        tell(one, "a", [row("x", "writing_to_db"), row("z")])
        assert kept(one) == [("a", "x", "writing_to_db", None), ("a", "z", "idle", None), ("b", "x", "idle", None)]
        tell(one, "a", [])
        assert kept(one) == [("b", "x", "idle", None)]


def test_an_unchanged_state_is_written_only_now_and_then(database: str) -> None:
    with sql.connect(database, autocommit=True) as connection:
        at = "select at, at > now() - interval '5 s' from actor"
        tell(connection, "a", [row("x")])
        before = connection.execute(at).fetchone()
        tell(connection, "a", [row("x")])
        assert connection.execute(at).fetchone() == before
        connection.execute("update actor set at = now() - interval '30 s'")
        tell(connection, "a", [row("x")])
        found = connection.execute(at).fetchone()
        assert found is not None
        assert found[1]


def test_the_dead_are_taken_away_and_two_that_think_so_of_each_other_do_not_wait(database: str) -> None:
    with sql.connect(database, autocommit=True) as one, sql.connect(database) as other:
        for instance in "abc":
            tell(one, instance, [row("x")])
        one.execute("update actor set at = now() - interval '2 minutes'")
        # b tells its own and takes c away, but is not done yet; a takes b for dead.
        one.execute("set lock_timeout = '2s'")
        other.execute("select from actor where instance in ('b', 'c') for update")
        tell(one, "a", [row("x")])
        tell(other, "b", [row("x")])
        other.commit()
        assert [found[0] for found in kept(one)] == ["a", "b"]
