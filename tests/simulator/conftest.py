"""The simulated exchange as programs reach it: a process of its own on a free port."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from barwright.embedded.ports import free_port
from barwright.simulator.exchange import Exchange
from barwright.simulator.trades import Trade, trades

BITCOIN = "Coinbase~BTC~USD"
Frame = dict[str, Any]


class Running:
    """`barwright simulator` in a home, with settings of its own."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{free_port()}"
        self.environment = {
            **os.environ, "BARWRIGHT_HOME": str(home), "SIMULATOR_URL": self.url,
            "BARWRIGHT_SIMULATOR_MARKET_RATE": "100", "BARWRIGHT_SIMULATOR_HEARTBEAT": "0.1", **environment,
        }  # fmt: skip
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.process = subprocess.Popen([sys.executable, "-m", "barwright", "simulator"], env=self.environment)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.exchange()
                return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError("the simulated exchange does not answer")

    def stop(self) -> int:
        """Stop it."""
        self.process.terminate()
        return self.process.wait(timeout=20)

    def exchange(self) -> Exchange:
        """The same exchange here: what it says is the truth."""
        return Exchange.from_dict(httpx.get(f"{self.url}/admin/exchange").json())

    def get(self, path: str, **parameters: object) -> httpx.Response:
        """A REST call about bitcoin."""
        given = {"fsym": "BTC", "tsym": "USD", "e": "Coinbase", **parameters}
        return httpx.get(
            f"{self.url}/data/v2/{path}", params={name: str(value) for name, value in given.items()}, timeout=20
        )

    def fault(self, kind: str, **more: object) -> dict[str, Any]:
        """Ask for a fault."""
        answer = httpx.post(f"{self.url}/admin/faults", json={"kind": kind, **more})
        assert answer.status_code == 201, answer.text
        return answer.json()  # type: ignore[no-any-return]

    def clear(self) -> None:
        """End all faults."""
        assert httpx.delete(f"{self.url}/admin/faults").status_code == 200

    def barwright(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command in the same environment."""
        command = [sys.executable, "-m", "barwright", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)

    def socket(self, query: str = "") -> ClientConnection:
        """A socket."""
        return connect(f"{self.url.replace('http', 'ws')}/v2{query}", proxy=None, compression=None)

    @contextmanager
    def subscribed(self, *markets: str) -> Iterator[ClientConnection]:
        """A socket on which markets were asked for."""
        with self.socket() as socket:
            ask(socket, "SubAdd", *(f"0~{market}" for market in markets or [BITCOIN]))
            yield socket


def ask(socket: ClientConnection, action: str, *subs: str) -> None:
    """Say something."""
    socket.send(json.dumps({"action": action, "subs": subs}))


def hear(socket: ClientConnection, seconds: float) -> list[Frame]:
    """All frames of some seconds, every digit of their numbers."""
    found, deadline = [], time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            found.append(json.loads(socket.recv(timeout=left), parse_float=Decimal))
        except TimeoutError:
            break
        except ConnectionClosed:
            if not found:
                raise
            break
    return found


def hear_until(socket: ClientConnection, reached: Callable[[list[Frame]], bool], seconds: float = 10) -> list[Frame]:
    """Frames until they are enough."""
    found, deadline = list[Frame](), time.monotonic() + seconds
    while not reached(found):
        assert time.monotonic() < deadline, found[-3:]
        found += hear(socket, 0.1)
    return found


def traded(frames: list[Frame]) -> list[Frame]:
    """The trades among frames."""
    return [frame for frame in frames if frame.get("TYPE") == "0"]


def numbers(frames: list[Frame]) -> list[int]:
    """The CCSEQ of each trade."""
    return [frame["CCSEQ"] for frame in traded(frames)]


def truth(exchange: Exchange, frames: list[Frame]) -> dict[int, Trade]:
    """The trades of bitcoin around some messages, by CCSEQ, as they come live."""
    times = [frame["TS"] for frame in traded(frames)]
    market = exchange.market(BITCOIN)
    return {one.number: one for one in trades(market, min(times) // 60, max(times) // 60 + 1, revised=False)}


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An exchange that beats fast; faults are over after each test that asks for `faulty`."""
    server = Running(
        tmp_path_factory.mktemp("exchange"),
        BARWRIGHT_SIMULATOR_LIMITS="second=1000,minute=10000,opens=1000,sockets=3,subs=4",
    )
    yield server
    assert server.stop() == 0


@pytest.fixture
def faulty(running: Running) -> Iterator[Running]:
    """The same; its faults end with the test."""
    yield running
    running.clear()
