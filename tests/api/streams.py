"""Clients of a stream that keep what they are sent, and check its order."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.api.conftest import Api


def exact(text: str | bytes) -> Any:
    """JSON with its numbers exact."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


class Store:
    """What a client makes of the messages of one subscription: bars by bucket. Every message must keep the promises."""

    def __init__(self) -> None:
        self.bars: dict[Any, dict[str, Any]] = {}
        self.event = ""
        self.live = False
        self.counts: dict[str, int] = {}
        self.newest: Any = None  # bucket of a `bar` message since `live`
        self.closed: Any = None  # the last bucket that closed by a `bar` message
        self.log: list[dict[str, Any]] = []

    def connected(self) -> None:
        """A connection begins: nothing is live yet."""
        self.live = False
        self.newest = self.closed = None

    def take(self, message: dict[str, Any]) -> None:
        """One message."""
        kind = message["type"]
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.log.append(message)
        if kind == "reset":
            self.bars.clear()
            self.event = ""
            self.connected()
            return
        self.event = message["event"]
        match kind:
            case "bars":
                assert not self.live, message
                buckets = [bar["bucket"] for bar in message["bars"]]
                assert buckets == sorted(set(buckets)), message
                for bar in message["bars"]:
                    self._store(bar)
            case "live":
                assert not self.live
                self.live = True
            case "bar":
                assert self.live, message
                self._bar(message["bar"])
            case "revision":
                bar = message["bar"]
                assert bar["closed"] or bar["bucket"] < max(self.bars), message
                self._store(bar)
            case "removed":
                for bucket in [bucket for bucket in self.bars if message["bucket"] <= bucket < message["end"]]:
                    del self.bars[bucket]
            case _:
                raise AssertionError(message)

    def _bar(self, bar: dict[str, Any]) -> None:
        bucket = bar["bucket"]
        if bar["closed"]:
            assert self.closed is None or bucket > self.closed, (bar, self.closed)
            self.closed = bucket
        else:
            assert self.newest is None or bucket >= self.newest, (bar, self.newest)
            assert self.closed is None or bucket > self.closed, (bar, self.closed)
        self.newest = bucket if self.newest is None else max(bucket, self.newest)
        assert self.bars.get(bucket) != bar, ("sent twice", bar)
        self._store(bar)

    def _store(self, bar: dict[str, Any]) -> None:
        old = self.bars.get(bar["bucket"])
        assert not (old and old["closed"] and not bar["closed"]), (old, bar)
        self.bars[bar["bucket"]] = bar

    def list(self) -> list[dict[str, Any]]:
        """The bars, ascending."""
        return [self.bars[bucket] for bucket in sorted(self.bars)]


class Follower:
    """A client of one series that reads in a thread of its own, and comes again wherever it was cut."""

    def __init__(self, apis: list[Api], symbol: str, interval: str, sse: bool = False, **params: Any) -> None:
        self.apis, self.sse = apis, sse
        self.params = {"symbol": symbol, "interval": interval, **params}
        self.store = Store()
        self.lock = threading.Lock()
        self.over = False
        self.errors: list[BaseException] = []
        self.cuts = 0
        self.connection: Any = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def cut(self) -> None:
        """Break the connection."""
        connection = self.connection
        if connection is not None:
            self.cuts += 1
            with suppress(OSError):  # it is cut already
                connection()

    def end(self) -> None:
        """Stop; raises what went wrong."""
        self.over = True
        self.cut()
        self.thread.join(5)
        if self.errors:
            raise self.errors[0]

    def _run(self) -> None:
        turn = 0
        while not self.over:
            api = self.apis[turn % len(self.apis)]
            turn += 1
            try:
                self.store.connected()
                (self._events if self.sse else self._socket)(api)
            except (httpx.TransportError, ConnectionClosed, OSError, ValueError):
                time.sleep(0.02)
            except BaseException as error:
                self.errors.append(error)
                return

    def _socket(self, api: Api) -> None:
        with connect(f"ws://127.0.0.1:{api.client.base_url.port}/v1/stream", max_queue=None) as socket:
            self.connection = lambda: socket.socket.shutdown(2)
            since = {"since": self.store.event} if self.store.event else {}
            socket.send(json.dumps({"op": "subscribe", "id": "a", **self.params, **since}))
            for text in socket:
                self._take(exact(text))

    def _events(self, api: Api) -> None:
        headers = {"Last-Event-ID": self.store.event} if self.store.event else {}
        with (
            httpx.Client(timeout=20) as client,
            client.stream("GET", f"{api.client.base_url}/v1/stream", params=self.params, headers=headers) as answer,
        ):
            stream = answer.extensions["network_stream"].get_extra_info("socket")
            self.connection = lambda: stream.shutdown(2)
            if answer.status_code == 503:
                raise httpx.ReadError("away")
            assert answer.status_code == 200, answer.read()
            for id, data in events(answer.iter_lines()):
                message = exact(data)
                assert id == message.get("event", ""), (id, message)
                self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "error" and message["status"] == 503:
            raise httpx.ReadError("away")
        if message["type"] != "heartbeat":
            with self.lock:
                self.store.take(message)

    def check(self, api: Api) -> None:
        """What is stored equals what /v1/bars says from the first bar on."""
        if self.errors:
            raise self.errors[0]
        with self.lock:
            assert self.store.live
            mine = self.store.list()
        if not mine:
            return
        names = ("symbol", "interval", "start", "tz", "session", "numbers", "time")
        asked = {"start": mine[0]["bucket"], **self.params}
        theirs = api.bars(**{name: value for name, value in asked.items() if name in names}, limit=10000)
        if mine != theirs:
            ours = {bar["bucket"]: bar for bar in mine}
            truth = {bar["bucket"]: bar for bar in theirs}
            raise AssertionError([(b, ours.get(b), truth.get(b)) for b in sorted(ours | truth)
                                  if ours.get(b) != truth.get(b)][:3])  # fmt: skip


def events(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    """The id and the data of each event."""
    id = data = ""
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "id":
            id = value
        elif name == "data":
            data = value
        elif not line and data:
            yield id, data
            id = data = ""


@contextmanager
def socket(api: Api, query: str = "", **options: Any) -> Iterator[ClientConnection]:
    """A WebSocket."""
    with connect(f"ws://127.0.0.1:{api.client.base_url.port}/v1/stream{query}", **options) as opened:
        yield opened


def subscribe(opened: ClientConnection, id: str = "a", **params: Any) -> None:
    """Ask for a series."""
    opened.send(json.dumps({"op": "subscribe", "id": id, **params}))


def read(opened: ClientConnection, kind: str, seconds: float = 5) -> list[Any]:
    """Messages up to the first of a type."""
    return receive(opened, lambda message: message["type"] == kind, seconds)


def receive(opened: ClientConnection, want: Callable[[dict[str, Any]], bool], seconds: float = 5) -> list[Any]:
    """Messages up to the first that is wanted."""
    found = []
    deadline = time.monotonic() + seconds
    while True:
        found.append(exact(opened.recv(timeout=deadline - time.monotonic())))
        if want(found[-1]):
            return found
