"""A small server that speaks CryptoCompare's protocol, with any data and any habits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve

STEPS = {"histominute": 60, "histohour": 3_600, "histoday": 86_400}
Reply = tuple[int, dict[str, str], bytes]


def row(time: int, open_: Any, high: Any, low: Any, close: Any, volume: Any, quote: Any) -> dict[str, Any]:
    """A row as the vendor sends it."""
    return {"time": time, "high": high, "low": low, "open": open_, "volumefrom": volume, "volumeto": quote,
            "close": close, "conversionType": "direct", "conversionSymbol": ""}  # fmt: skip


def flat(time: int, price: Any = 0) -> dict[str, Any]:
    """A row without trades; before the listing all is zero."""
    return row(time, price, price, price, price, 0, 0)


def answer(rows: Iterable[Any], **fields: Any) -> bytes:
    """A successful answer of v2."""
    envelope = {"Response": "Success", "Message": "", "HasWarning": False, "Type": 100, "RateLimit": {}}
    return msgspec.json.encode(envelope | {"Data": {"Aggregated": False, "Data": [*rows]}} | fields)


def error(message: str, kind: int = 2, **fields: Any) -> bytes:
    """An error with HTTP 200, as the vendor likes them."""
    body = {"Response": "Error", "Message": message, "HasWarning": False, "Type": kind, "RateLimit": {}, "Data": {}}
    return msgspec.json.encode(body | fields)


class Vendor:
    """A market's trades by the minute, served at every interval, with the habits of the real one.

    `trades`: minute (seconds since 1970) to (price, volume). `reach`: by path, the oldest time served with data; what
    `beyond` says comes before it: zeros, error, empty, later. `now`: its clock.
    """

    def __init__(self, trades: dict[int, tuple[float, float]], now: int, beyond: str = "zeros") -> None:
        self.trades, self.now, self.beyond = trades, now, beyond
        self.reach: dict[str, int] = {}
        self.calls: list[tuple[str, dict[str, str]]] = []
        self.headers: list[dict[str, str]] = []
        # Answers given before anything else, one for each call.
        self.scripted: list[Reply | bytes] = []
        self.alter: Callable[[str, list[dict[str, Any]]], list[dict[str, Any]]] = lambda _, rows: rows
        self.most = 2_000
        self.broken: set[str] = set()

    def reply(self, path: str, query: dict[str, str]) -> Reply:
        """What the server answers."""
        name = path.rpartition("/")[2]
        self.calls.append((name, query))
        headers = {"date": formatdate(self.now, usegmt=True)}
        if self.scripted:
            scripted = self.scripted.pop(0)
            return (
                (200, headers, scripted)
                if isinstance(scripted, bytes)
                else (scripted[0], headers | scripted[1], scripted[2])
            )
        if name in self.broken:
            return 200, headers, error("Something is wrong", 1)
        if query["fsym"] == "NONE":
            return 200, headers, error("Coinbase market does not exist for this coin pair (NONE-USD)", e="Coinbase")
        return 200, headers, self._history(name, query)

    def _history(self, name: str, query: dict[str, str]) -> bytes:
        step = STEPS[name]
        last = min(int(query.get("toTs", self.now)), self.now) // step * step
        times = range(last - min(int(query["limit"]), self.most) * step, last + step, step)
        reach = self.reach.get(name, 0)
        if reach > last and self.beyond == "error":
            return error("toTs is out of range", ParamWithError="toTs")
        if reach > last and self.beyond == "empty":
            return answer([])
        if self.beyond == "later":
            times = range(max(times[0], min(reach, self.now) // step * step), times[-1] + step, step)
        return answer(self.alter(name, [self._row(time, step) if time >= reach else flat(time) for time in times]))

    def _row(self, time: int, step: int) -> dict[str, Any]:
        found = [self.trades[minute] for minute in range(time, min(time + step, self.now), 60) if minute in self.trades]
        if not found:
            before = [self.trades[minute] for minute in self.trades if minute < time]
            return flat(time, before[-1][0] if before else 0)
        prices = [price for price, _ in found]
        volume = sum(volume for _, volume in found)
        quote = sum(price * volume for price, volume in found)
        return row(time, prices[0], max(prices), min(prices), prices[-1], volume, quote)


@asynccontextmanager
async def http(reply: Callable[[str, dict[str, str]], Reply], vendor: Vendor | None = None) -> AsyncIterator[str]:
    """An HTTP server on a free port; gives its address."""
    writers: list[asyncio.StreamWriter] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                line, *headers = head.decode().split("\r\n")
                if vendor:
                    pairs = (header.split(": ", 1) for header in headers if header)
                    vendor.headers.append({name.lower(): value for name, value in pairs})
                url = urlsplit(line.split()[1])
                status, extra, body = reply(url.path, {k: v[0] for k, v in parse_qs(url.query).items()})
                fields = {"content-length": str(len(body)), "content-type": "application/json"} | extra
                text = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
                writer.write(f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{text}\r\n".encode() + body)
                await writer.drain()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


LOADED = {"TYPE": "3", "MESSAGE": "LOADCOMPLETE", "INFO": "All your valid subs have been loaded."}
Talk = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The server's end of one socket, driven by a test step by step."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        assert connection.request
        self.path = connection.request.path

    async def send(self, *frames: Any) -> None:
        """Send frames; bytes and text go as they are."""
        for frame in frames:
            await self.connection.send(frame if isinstance(frame, str) else msgspec.json.encode(frame).decode())

    async def heard(self) -> dict[str, Any]:
        """The next message of the client."""
        return msgspec.json.decode(await self.connection.recv())  # type: ignore[no-any-return]

    async def welcome(self, ms: int) -> None:
        """The first frame."""
        await self.send({"TYPE": "20", "MESSAGE": "STREAMERWELCOME", "SERVER_TIME_MS": ms, "SERVER_NAME": "test"})

    async def accept(self, *replay: Any) -> list[str]:
        """Answer a SubAdd: all complete, the replay, loaded."""
        message = await self.heard()
        assert message["action"] == "SubAdd"
        for sub in message["subs"]:
            await self.send({"TYPE": "16", "MESSAGE": "SUBSCRIBECOMPLETE", "SUB": sub})
        await self.send(
            *replay, {"TYPE": "3", "MESSAGE": "LOADCOMPLETE", "INFO": "All your valid subs have been loaded."}
        )
        return message["subs"]  # type: ignore[no-any-return]


def heartbeat(ms: int) -> dict[str, Any]:
    """A heartbeat."""
    return {"TYPE": "999", "MESSAGE": "HEARTBEAT", "TIMEMS": ms}


def trade(n: int, seconds: float, market: str = "Coinbase~BTC~USD", **fields: Any) -> dict[str, Any]:
    """A trade frame; n is its CCSEQ and ID."""
    exchange, base, quote = market.split("~")
    ts, part = divmod(round(seconds * 1_000_000), 1_000_000)
    good = {"TYPE": "0", "M": exchange, "FSYM": base, "TSYM": quote, "F": "1", "ID": str(n), "TS": ts, "Q": 0.00012,
            "P": 27180.12, "TOTAL": 3.2616144, "RTS": ts + 1, "CCSEQ": n, "TSNS": part * 1000, "RTSNS": 5}  # fmt: skip
    return good | fields


@asynccontextmanager
async def streamer(talk: Talk, refuse: Callable[[ServerConnection, Any], Any] | None = None) -> AsyncIterator[str]:
    """A WebSocket server that talks to every client as the test says; gives its address."""

    async def handle(connection: ServerConnection) -> None:
        await talk(Peer(connection))

    server: Server = await serve(handle, "127.0.0.1", 0, process_request=refuse, ping_interval=None)
    try:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/v2"
    finally:
        server.close()
        await server.wait_closed()
