"""Parts of streams by themselves: positions, states, the log, and clients that do not read."""

import asyncio
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from barwright.api.database import Look
from barwright.api.errors import ApiError
from barwright.api.stream import wire
from barwright.api.stream.log import KEPT, Log
from barwright.api.stream.position import Position, position, tag
from barwright.api.stream.state import Bar, State, following
from barwright.api.stream.wire import SlowError, Wire
from tests.api.conftest import Api
from tests.api.streams import read, socket, subscribe
from tests.api.test_stream import ALL, New
from tests.fuzz.raw import opened as raw

api_tag = tag("0123456789abcdef", "BTCUSD", "1m")
steps = st.lists(st.tuples(st.sampled_from(["append", "renew", "close"]), st.integers(0, 50)), max_size=30)


@given(steps, st.integers(-(10**9), 10**9), st.integers(0, 9))
# More parts than an event tells apart, of which chance makes few.
@example([("append", 5 * n) for n in range(1, 9)], 0, 1)
def test_a_position_is_told_and_understood(steps: list[tuple[str, int]], start: int, open_bars: int) -> None:
    """Revisions only grow, and what is told is never newer than what the client has."""
    mine = Position(start)
    for rev, (kind, place) in enumerate(steps):
        if kind == "renew":
            mine.renew(start + place, rev)
        else:
            getattr(mine, kind)(start + place, rev)
    mine.tail = {mine.edge + n * 60: f"{n:012x}" for n in range(open_bars)}
    told, found = position(mine.event(api_tag))
    assert (told, found.start, found.edge, found.tail) == (api_tag, mine.start, mine.edge, mine.tail)
    if len(mine.known) <= 4:
        assert found.known == mine.known
    for bucket in range(start, mine.edge):
        assert _rev(found, bucket) <= _rev(mine, bucket)


def _rev(found: Position, bucket: int) -> int:
    return next(rev for hi, rev in found.known if bucket < hi)


@pytest.mark.parametrize("text", ["", "x", f"{api_tag}.", f"{api_tag}.5_1_4.", f"{api_tag}.5_1_9_2_8.",
                                  f"{api_tag}.5_1_9.zz-", f"{api_tag}.5\n.", f"{'é' * 12}.5."])  # fmt: skip
def test_what_is_no_event_is_refused(text: str) -> None:
    with pytest.raises(ApiError):
        position(text)


def test_the_log_says_where_it_does_not_reach() -> None:
    log = Log()
    assert log.between("A", 1, 1) == []
    assert log.between("A", 1, 2) is None
    log.looked(_look(5))
    log.heard([(6, "A", 0, 60), (7, "B", 0, 60)])
    assert log.between("A", 5, 7) == [(6, 0, 60)]
    assert log.between("A", 6, 7) == []
    assert log.between("A", 4, 7) is None
    # A snapshot may have seen what the follower has not heard of yet.
    assert log.between("A", 6, 8) is None
    log.heard([(8 + n, "A", n, n + 1) for n in range(KEPT)])
    assert log.between("A", 7, 8) is not None
    assert log.between("A", 6, 8) is None
    log.heard(None)
    assert log.between("A", 8 + KEPT - 2, 8 + KEPT - 1) is None


def _look(rev: int) -> Look:
    return Look("e", rev, 0.0, {}, [])


def bar(bucket: int, close: str = "1") -> Bar:
    return Bar((bucket, f"t{bucket}", "1", "1", "1", close, "1", "1", "1", "1", "1", "false"))


def state(rev: int, edge: int, lo: int, *bars: Bar) -> State:
    return State("e", rev, edge, lo, bars, 0.0)


def test_bars_that_closed_stay_at_hand_until_a_revision_may_have_changed_them() -> None:
    one = state(1, 60, 60, bar(60), bar(120))
    two = following(one, state(1, 120, 60, bar(60, "2"), bar(120), bar(180)), False)
    three = following(two, state(2, 180, 120, bar(120, "3"), bar(180)), False)
    assert [b.bucket for b in three.bars] == [60, 120, 180]
    assert three.lo == 60
    assert three.newer is not two.newer
    four = following(three, state(3, 180, 180, bar(180)), True)
    assert [b.bucket for b in four.bars] == [180]
    assert four.lo == 180


def test_a_state_with_nothing_new_wakes_nobody() -> None:
    one = following(None, state(1, 60, 60, bar(60)), False)
    same = following(one, state(2, 60, 60, bar(60)), False)
    assert same.newer is one.newer
    assert same.bars[0] is one.bars[0]
    assert same.rev == 2
    assert following(same, state(3, 60, 60, bar(60)), True).newer is not same.newer
    assert following(same, state(3, 60, 60, bar(60, "2")), False).newer is not same.newer


@pytest.mark.parametrize("new", [state(0, 60, 60), state(1, 0, 0), State("f", 1, 60, 60, (), 0.0)])
def test_a_database_that_went_back_turns_the_state(new: State) -> None:
    assert following(state(1, 60, 60, bar(60)), new, False).turn == 1


def test_who_does_not_read_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "PATIENCE", 0.05)

    async def never(*_: Any) -> None:
        await asyncio.sleep(60)

    async def run() -> None:
        with pytest.raises(SlowError):
            await Wire(None, {}, never).send(b"x")  # type: ignore[arg-type]

    asyncio.run(run())


@pytest.mark.slow
def test_who_reads_too_slowly_is_told_so_at_the_end(api: Api, new: New) -> None:
    market = new()
    market.insert(*(market.trade(f"01-01 {n // 60:02}:{n % 60:02}:10", str(100 + n)) for n in range(1400)))
    market.seal("01-01 20:00")
    with socket(api, max_queue=1) as opened:
        for n in range(60):
            subscribe(opened, id=str(n), symbol=market.symbol, interval="1m", start=ALL)
        read(opened, "bars")
        time.sleep(wire.PATIENCE + 2)
        with pytest.raises(ConnectionClosed) as closed:
            read(opened, "never", 20)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1013
    assert "slowly" in closed.value.rcvd.reason


@pytest.mark.parametrize(
    ("begin", "code"),
    [
        (b"\x81\xff" + (20 * 2**20).to_bytes(8, "big") + bytes(4), 1009),  # a text of 20 MB
        (b"\x83\xff" + (20 * 2**20).to_bytes(8, "big") + bytes(4), 1002),  # of a kind there is not
    ],
)
def test_who_reads_only_after_all_is_sent_hears_why_it_is_refused(api: Api, begin: bytes, code: int) -> None:
    with raw(api) as connection:
        connection.sendall(begin)
        for _ in range(20):
            connection.sendall(b"x" * 2**20)
            time.sleep(0.01)
        told = connection.recv(1_000)
        assert told[0] == 0x88
        assert int.from_bytes(told[2:4], "big") == code
        assert connection.recv(1_000) == b""
