"""`wait`: one fetch for all who miss the same, an answer when it has landed, and an end when the time is up."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.api.conftest import Api, eventually, serving
from tests.api.test_errors import error
from tests.api.truth import text
from tests.api.vouched import Vouched
from tests.services import Server

START = datetime(2015, 3, 2, tzinfo=UTC)
END = START + timedelta(hours=2)
_names = iter(f"W{n}" for n in range(100))


@pytest.fixture
def v(connection: psycopg.Connection[Any]) -> Vouched:
    """A registered symbol that lacks two hours of ten."""
    v = Vouched(connection, next(_names)).register(START)
    return v.imported((END, START + timedelta(hours=10)))


def ask(api: Api, v: Vouched, wait: float, **params: Any) -> tuple[Any, float]:
    """The answer, and how long it took."""
    began = time.monotonic()
    found = api.json("/v1/bars", **{"symbol": v.symbol, "interval": "1m", "start": text(START), "end": text(END),
                                    "wait": wait, **params})  # fmt: skip
    return found, time.monotonic() - began


def tasks(v: Vouched) -> list[Any]:
    return v.connection.execute("select id, priority, span from backfill_task where symbol = %s order by id",
                                (v.symbol,)).fetchall()  # fmt: skip


def test_two_who_miss_the_same_cause_one_fetch_and_both_are_answered_when_it_lands(api: Api, v: Vouched) -> None:
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(ask, api, v, 20) for _ in range(8)]
        eventually(lambda: _count(v, 1), 5)
        time.sleep(0.3)
        [(_, priority, span)] = tasks(v)
        assert (priority, span.lower, span.upper) == (1, START, END)
        actors = eventually(lambda: _told(v), 5)
        assert set(actors) == {"waiting_for_data"}
        assert not any(future.done() for future in waiting)
        landed = time.monotonic()
        v.late((START, END)).imported((START, END))
        time.sleep(0.3)
        assert not any(future.done() for future in waiting)  # covered, but not yet in the bars
        v.repaired()
        answers = [future.result() for future in waiting]
        assert time.monotonic() - landed < 1.5
    assert all(answer["coverage"]["complete"] is True for answer, _ in answers)
    assert len(tasks(v)) == 1


def _count(v: Vouched, count: int) -> None:
    assert len(tasks(v)) == count


def _told(v: Vouched) -> list[str]:
    found = v.connection.execute("select state from actor where machine = 'datastore' and subject like %s",
                                 (f"{v.symbol} %",)).fetchall()  # fmt: skip
    assert len(found) == 8
    return [state for (state,) in found]


def test_the_answer_when_the_time_is_up_is_what_there_is(api: Api, v: Vouched) -> None:
    answer, seconds = ask(api, v, 0.5)
    assert 0.45 < seconds < 1.5
    assert answer["coverage"]["complete"] is False
    assert answer["coverage"]["backfills"][0]["status"] == "queued"


def test_who_misses_nothing_does_not_wait(api: Api, v: Vouched) -> None:
    answer, seconds = ask(api, v, 20, start=text(END), end=text(END + timedelta(hours=1)))
    assert (answer["coverage"]["complete"], tasks(v)) == (True, [])
    assert seconds < 1
    v.stop()
    time.sleep(0.5)
    answer, seconds = ask(api, v, 20)  # nobody can bring it
    assert answer["coverage"]["complete"] is None
    assert seconds < 1


def test_a_symbol_that_nobody_registered_is_not_waited_for(api: Api, connection: psycopg.Connection[Any]) -> None:
    connection.execute("insert into symbols (symbol) values ('ALONE')")
    found = error(api.get("/v1/bars", symbol="ALONE", interval="1m", wait=1), 400)
    assert "PUT /v1/symbols/ALONE" in found["hint"]
    error(api.get("/v1/bars", symbol="NOBODY", interval="1m", wait=1), 404)
    # Registered by another process a moment ago.
    Vouched(connection, "ALONE").register(START).imported((START, END))
    answer = api.json("/v1/bars", symbol="ALONE", interval="1m", wait=1, start=text(START), end=text(END))
    assert answer["coverage"]["complete"] is True


def test_a_client_that_goes_away_is_not_kept_waiting_for(api: Api, v: Vouched) -> None:
    query = f"symbol={v.symbol}&interval=1m&start={text(START)}&end={text(END)}&wait=30"
    with socket.create_connection((api.client.base_url.host, api.client.base_url.port or 80)) as client:
        client.sendall(f"GET /v1/bars?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        eventually(lambda: _waiting(v, 1), 5)
    eventually(lambda: _waiting(v, 0), 5)


def _waiting(v: Vouched, count: int) -> None:
    found = v.connection.execute("select count(*) from actor where subject like %s", (f"{v.symbol} %",)).fetchone()
    assert found == (count,)


def test_who_waits_is_answered_when_the_server_stops(dsn: str, valkey: Server, tmp_path: Path, v: Vouched) -> None:
    answers: list[Any] = []
    with serving(dsn, valkey.url, tmp_path / "serve.log") as api:
        waiting = threading.Thread(target=lambda: answers.append(ask(api, v, 30)))
        waiting.start()
        eventually(lambda: _count(v, 1), 5)
        api.process.terminate()
        waiting.join(5)
    assert answers[0][0]["coverage"]["complete"] is False
    assert answers[0][1] < 6
