"""Every fault on request does what it says, as long as it says."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidMessage

from barwright.settings import Settings
from barwright.simulator.exchange import Exchange
from barwright.simulator.faults import Fault, Faults
from tests.simulator.conftest import BITCOIN, Running, hear, hear_until, numbers, traded, truth
from tests.simulator.test_history import real, rows, true


def holes(counted: list[int]) -> set[int]:
    """The numbers that did not come."""
    return set(range(min(counted), max(counted) + 1)) - set(counted)


def test_a_cut_ends_every_socket_without_a_word_and_refuses_new_ones(faulty: Running) -> None:
    with faulty.subscribed() as socket:
        hear_until(socket, lambda frames: bool(traded(frames)))
        faulty.fault("cut", seconds=0.6)
        with pytest.raises(ConnectionClosed) as ended:
            hear_until(socket, lambda _: False)
        assert ended.value.rcvd is None
    with pytest.raises((ConnectionError, InvalidMessage, EOFError)), faulty.socket():
        pass
    time.sleep(0.7)
    with faulty.subscribed() as socket:
        hear_until(socket, lambda frames: bool(traded(frames)))


def test_a_cut_can_be_announced(faulty: Running) -> None:
    with faulty.socket() as socket:
        hear_until(socket, lambda frames: bool(frames))
        faulty.fault("cut", seconds=0, announce=True)
        said = [json.loads(text) for text in socket]
    assert (said[-1]["TYPE"], said[-1]["MESSAGE"]) == ("500", "FORCE_DISCONNECT")


def test_silence_leaves_sockets_open_and_loses_what_happened(faulty: Running) -> None:
    with faulty.subscribed() as socket:
        before = hear_until(socket, lambda frames: len(traded(frames)) > 25)
        faulty.fault("silent", seconds=0.8)
        before += hear(socket, 0.2)  # what was on its way
        assert hear(socket, 0.5) == []
        after = hear_until(socket, lambda frames: len(traded(frames)) > 5) + hear(socket, 0.3)
        assert any(frame.get("TYPE") == "999" for frame in after)
    assert len(holes(numbers(before + after))) > 3


@pytest.mark.parametrize("status", [429, 500, 503])
def test_errors_of_rest(faulty: Running, status: int) -> None:
    faulty.fault("error", status=status)
    answer = faulty.get("histoday")
    assert answer.status_code == answer.json()["Err"]["http_status_code"] == status
    assert ("retry-after" in answer.headers) == (status != 500)
    faulty.clear()
    assert rows(faulty.get("histoday", limit=2).json())


@pytest.mark.parametrize("kind", ["garbage", "truncated"])
def test_answers_that_are_no_json(faulty: Running, kind: str) -> None:
    faulty.fault(kind, market=BITCOIN)
    answer = faulty.get("histoday", limit=5)
    assert answer.status_code == 200
    with pytest.raises(ValueError, match=r"."):
        answer.json()
    assert rows(faulty.get("histoday", limit=1, fsym="ETH").json())


def test_a_share_of_slow_answers(faulty: Running) -> None:
    faulty.fault("slow", delay=1, share=0.5)
    slow = set()
    for _ in range(20):
        start = time.monotonic()
        assert rows(faulty.get("histohour", limit=1).json())
        slow.add(time.monotonic() - start > 1)
        if slow == {True, False}:
            return
    pytest.fail(f"of 20 answers all were slow, or none: {slow}")


def test_lost_messages_are_holes_and_stay_true(faulty: Running) -> None:
    faulty.fault("lose", share=0.4, seed=9)
    with faulty.subscribed() as socket:
        frames = hear_until(socket, lambda frames: len(traded(frames)) > 45)
    live = numbers(frames)[20:]
    lost = holes(live)
    assert lost == {n for n in range(min(live), max(live)) if Fault("lose", share=0.4, seed=9).hits(BITCOIN, n)}
    assert lost <= set(truth(faulty.exchange(), frames))


def test_repeated_messages_are_the_same_again(faulty: Running) -> None:
    faulty.fault("repeat", share=0.5, delay=0.2)
    with faulty.subscribed() as socket:
        frames = hear_until(socket, lambda frames: len(traded(frames)) > 60)
    counts = Counter(numbers(frames))
    assert set(counts.values()) == {1, 2}
    assert len({frame["CCSEQ"]: str(frame) for frame in traded(frames)}) == len({str(f) for f in traded(frames)})
    assert holes(list(counts)) == set()


def test_delayed_trades_come_late_and_once(faulty: Running) -> None:
    with faulty.subscribed() as socket:
        frames = hear_until(socket, lambda frames: len(traded(frames)) > 20)
        faulty.fault("delay", share=0.5, delay=1.0, seconds=0.8)
        start = time.time()
        frames += hear(socket, 0.9)
        late = hear(socket, 1.4)
    counted = numbers(frames + late)
    assert max(Counter(counted).values()) == 1
    assert holes(counted) == set()
    old = [frame for frame in traded(late) if frame["TS"] + frame["TSNS"] / 1e9 < start + 0.8]
    assert old


def test_what_is_held_back_is_released_with_the_faults(faulty: Running) -> None:
    faulty.fault("delay", share=0.5, delay=3600)
    with faulty.subscribed() as socket:
        frames = hear_until(socket, lambda frames: len(traded(frames)) > 40)
        missing = holes(numbers(frames))
        assert missing
        faulty.clear()
        frames += hear_until(socket, lambda frames: missing <= set(numbers(frames)))
    assert holes(numbers(frames)) == set()


def test_reordered_trades_are_all_there(faulty: Running) -> None:
    faulty.fault("reorder", share=0.5, delay=0.3, seconds=0.7)
    with faulty.subscribed() as socket:
        frames = hear(socket, 1.2)
    counted = numbers(frames)
    assert counted != sorted(counted)
    assert holes(counted) == set()


def test_a_fault_of_one_market_leaves_the_others(faulty: Running) -> None:
    told = faulty.fault("lose", symbol="BTCUSD")
    assert told["market"] == BITCOIN
    with faulty.subscribed(BITCOIN, "Kraken~ETH~USD") as socket:
        frames = hear_until(socket, lambda frames: len(traded(frames)) > 70)
    assert Counter(frame["M"] for frame in traded(frames))["Coinbase"] == 20


def test_faults_are_listed_and_end(faulty: Running) -> None:
    told = [faulty.fault("lose", seconds=60, share=0.1), faulty.fault("slow", seconds=0.2, delay=1)]
    assert told[1]["id"] == told[0]["id"] + 1
    assert [one["kind"] for one in httpx.get(f"{faulty.url}/admin/faults").json()] == ["lose", "slow"]
    time.sleep(0.25)
    assert [one["kind"] for one in httpx.get(f"{faulty.url}/admin/faults").json()] == ["lose"]
    faulty.clear()
    assert httpx.get(f"{faulty.url}/admin/faults").json() == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"kind": "explode"}, "explode"), ({"kind": "lose", "share": 0}, "share"),
        ({"kind": "lose", "often": 1}, "often"),
        ({"kind": "error", "status": 200}, "status"), ({"kind": "lose", "market": "x"}, "is no market"),
        ({"kind": "revise", "symbol": "BTCUSD"}, "a start and an end"),
        ({"kind": "revise", "symbol": "BTCUSD", "start": "2024-01-01", "end": "soon"}, "is no time"),
        ({"kind": "revise", "symbol": "BTCUSD", "start": "2024-01-01", "end": "2999-01-01"}, "what has been"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(running: Running, asked: dict[str, Any], said: str) -> None:
    answer = httpx.post(f"{running.url}/admin/faults", json=asked)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_a_revised_history_is_the_truth_from_then_on(tmp_path: Path) -> None:
    running = Running(tmp_path)
    try:
        end = int(time.time()) // 60 * 60 - 600
        start = end - 3600
        asked = {"limit": 59, "toTs": end - 60}
        before = rows(running.get("histominute", **asked).json())
        span = {
            "start": datetime.fromtimestamp(start, UTC).isoformat(),
            "end": datetime.fromtimestamp(end, UTC).isoformat(),
        }
        told = running.fault("revise", symbol="BTCUSD", share=0.5, **span)
        assert (told["number"], told["start"], told["end"]) == (1, start // 60, end // 60)
        answer = running.get("histominute", **asked)
        after = rows(json.loads(answer.text, parse_float=str))
        changed = [a["time"] for a, b in zip(before, rows(answer.json()), strict=True) if a != b]
        assert 15 < len(changed) < 45
        expected = true(running.exchange().market(BITCOIN), start, end, "1m")
        assert [row["volumeto"] for row in real(after)] == [str(row["volumeto"].normalize()) for row in expected]

        assert running.stop() == 0
        running.start()
        assert rows(json.loads(running.get("histominute", **asked).text, parse_float=str)) == after
        fresh = Exchange.from_settings(Settings(simulator_market_rate=100), tmp_path / "simulator.json")
        assert fresh.revisions == running.exchange().revisions
        printed = running.barwright(
            "simulator", "bars", "--symbol", "BTCUSD", "--start", span["start"], "--end", span["end"]
        )
        assert [line.split(",")[6] for line in printed.stdout.splitlines()[1:]] == [
            row["volumeto"] for row in real(after)
        ]
    finally:
        assert running.stop() == 0


def test_a_share_is_a_share_and_the_same_again() -> None:
    fault = Fault("lose", share=0.3, seed=4)
    hits = [fault.hits("m", number) for number in range(4000)]
    assert hits == [Fault("lose", share=0.3, seed=4).hits("m", number) for number in range(4000)]
    assert 0.27 < sum(hits) / 4000 < 0.33
    held = [Fault("delay", delay=100).held(number) for number in range(1000)]
    assert 50 <= min(held) < 55 < 95 < max(held) <= 100
    assert Fault("slow", delay=3).held("x") == 3


def test_faults_end_with_their_time() -> None:
    now = [100.0]
    faults = Faults(lambda: now[0])
    faults.add(Fault("lose", seconds=5))
    faults.add(Fault("slow", seconds=9, market="a~b~c"))
    assert [fault.kind for fault in faults.on("lose", "slow", market="a~b~c")] == ["lose", "slow"]
    assert faults.on("slow", market="x~y~z") == []
    now[0] = 106.0
    assert [active.fault.kind for active in faults.all()] == ["slow"]
