"""The largest of each thing that is taken, the next beyond, and the most memory of the process that takes it."""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
from kafka.errors import CorruptRecordError
from pydantic import ValidationError
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from barwright import sql
from barwright.errors import BarwrightError
from barwright.ingest import unpacking
from barwright.ingest.batch import MOST_BYTES, Batch
from barwright.ingest.claims import Chunk, Claim
from barwright.ingest.decode import decoder_of
from barwright.ingest.items import MOST_CUTS
from barwright.ingest.replay import MOST_LINE, Trades
from barwright.ingest.store import Clock, Store
from barwright.ingest.ticks import ITEMS, Window
from barwright.settings import Settings
from barwright.sql.engine import engine_of, levels
from tests.api.conftest import Api, eventually
from tests.fuzz.corpus import AGGREGATE, CRYPTOFEED, STREAMER
from tests.fuzz.raw import endless_trailers, opened, unread_pings
from tests.fuzz.records import DECODERS
from tests.fuzz.requests import GOOD_LINE, peak
from tests.ingest.messages import TOPIC_ID, trade
from tests.ingest.packing import parts, squeezed

MB = 2**20
WINDOW = Window(0, 2**60)
SYMBOLS = [f"L{n}" for n in range(50)]


@dataclass(frozen=True)
class Row:
    """A line of the table; `peak` and `bound` in MB."""

    limit: str
    largest: str
    beyond: str
    peak: int
    bound: int

    def __str__(self) -> str:
        return f"| {self.limit} | {self.largest} | {self.beyond} | {self.peak} of {self.bound} MB |"


def renew(pid: int | str = "self") -> None:
    """Forget the most memory a process ever had."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def apart(does: Callable[[], str]) -> tuple[str, int]:
    """What a function says in a process of its own, and the most memory that took, in MB; not what it began with, which
    is that of whoever asks."""

    def run(end: Any) -> None:
        renew()
        before = peak("self")
        try:
            said = does()
        except BaseException as error:
            said = f"FAILED: {error!r}"
        end.send((said, peak("self") - before))

    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=run, args=(theirs,))
    process.start()
    theirs.close()
    try:
        said, most = ours.recv()
    except EOFError:
        said, most = "FAILED: it died", 0
    process.join()
    assert not said.startswith("FAILED"), said
    return said, most


def added(topic: str, values: list[bytes], most_symbols: int = 100_000) -> str:
    """What becomes of records in one batch, in a few words."""
    batch = Batch({"BTCUSD": "id"}, WINDOW, most_symbols)
    claim = Claim(topic, 0, TOPIC_ID, 1, 0, decoder_of(topic, DECODERS))
    rest = batch.add(Chunk(claim, 0, list(enumerate(values))), 10_000)
    reason = f", {batch.letters[-1].reason[:60]}" if batch.letters else ""
    left = f"; {len(rest.records):,} records wait" if rest else ""
    return f"{batch.rows:,} rows, {len(batch.letters):,} dead letters{reason}{left}"


def both(limit: str, largest: Callable[[], str], beyond: Callable[[], str], bound: int) -> Row:
    """A row of two processes; what they are given is made in them, so that it counts once."""
    (one, a), (two, b) = apart(largest), apart(beyond)
    return Row(limit, one, two, max(a, b), bound)


def records(quick: bool) -> Iterator[Row]:
    """What Kafka may bring, by decoder and batch."""
    whole = 1 if quick else 16  # MB of a record: the usual message.max.bytes, and one that was raised

    def trades(count: int) -> bytes:
        return msgspec.json.encode([trade(n % 1_000) for n in range(count)])

    def refused() -> bytes:
        one = msgspec.json.encode(trade(1, price="0"))
        return b"[" + b",".join([one] * (whole * MB // (len(one) + 1))) + b"]"

    if not quick:
        yield both(f"trades in one record: {ITEMS:,}", lambda: added("t", [trades(ITEMS)]),
                   lambda: added("t", [trades(ITEMS + 1)]), 300)  # fmt: skip
    yield both(f"a record of {whole} MB of items that are refused; two", lambda: added("t", [refused()]),
               lambda: added("t", [refused(), refused()]), 300)  # fmt: skip
    for topic in ("native", "cryptofeed", "binance", "cryptocompare")[: 1 if quick else 4]:
        yield _hostile(topic, whole * MB)
    other = b'{"e":"depthUpdate","b":"%s"}' % (b"x" * 20_000)
    yield both(f"bytes of records in one batch: {MOST_BYTES // MB} MB, and a run of 500",
               lambda: added("binance", [other] * (MOST_BYTES // len(other))),
               lambda: added("binance", [other] * 2_000), 60)  # fmt: skip
    marks = [{"type": "mark", "event": "missed", "from": 0, "to": 86_340_000, "symbol": f"S{n}"} for n in range(13_000)]
    yield both(f"minutes that missed marks of a record cut: {MOST_CUTS:,}",
               lambda: added("t", [msgspec.json.encode(marks[: MOST_CUTS // 1440])]),
               lambda: added("t", [msgspec.json.encode(marks)]), 60)  # fmt: skip
    new = [msgspec.json.encode([trade(n, symbol=f"N{n}") for n in range(8_000)])]
    yield both("symbols that ticks register: BARWRIGHT_MOST_SYMBOLS", lambda: added("t", new, 8_001),
               lambda: added("t", new, 101), 60)  # fmt: skip
    bound = 32 * MB
    for codec in ("gzip",) if quick else ("gzip", "zstd"):
        yield both(f"a batch by {codec}, unpacked: BARWRIGHT_UNPACKED_BYTES, 32 MB",
                   lambda codec=codec: _unpacked(codec, bound - 100, bound),
                   lambda codec=codec: _unpacked(codec, (40 if quick else 900) * MB, bound), 120)  # fmt: skip


def _hostile(topic: str, size: int) -> Row:
    """A number as long as a record, and nesting as deep."""
    digits = b"9" * size
    long = {
        "native": lambda: b'{"type":"trade","symbol":"A","ts":0,"size":1,"price":%s}' % digits,
        "cryptofeed": lambda: CRYPTOFEED.replace(b"27180.12", digits),
        "binance": lambda: AGGREGATE.replace(b"1.5", digits),
        "cryptocompare": lambda: STREAMER.replace(b"27180.12", digits),
    }[topic]
    return both(f"{topic}: a number of {size // MB} MB; nesting {size // MB} M deep", lambda: added(topic, [long()]),
                lambda: added(topic, [b"[" * size, b'{"a":' * (size // 5)]), 150)  # fmt: skip


def _unpacked(codec: str, size: int, most: int) -> str:
    """What becomes of a batch of zeros of some size. They are packed in pieces: it is the unpacking that counts."""
    unpacking.bound(most)
    head, _ = parts([b""], codec)
    value = squeezed(codec, (b"\0" * MB for _ in range(size // MB)))
    try:
        [record] = unpacking.DefaultRecordBatch(head + value)
    except CorruptRecordError:
        return f"{len(value) / 1024:,.0f} KB of {codec} unpacked, and read"
    return f"{len(value) / 1024:,.0f} KB of {codec}: " + added("t", [record.value])


def files(quick: bool) -> Iterator[Row]:
    """CSV for replay, and settings."""

    def read(length: int) -> str:
        """By a file of its own, whose lines are not in memory."""
        told: list[str] = []
        with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
            file.write("ts_ms,trade_id,side,price,size\n1677628800000,1,buy,1,1")
            for _ in range(0, length - 23, 65_536 - 24):
                file.write(" " * min(length - 23, 65_536 - 24))
            file.write("\n" + GOOD_LINE.format(n=7))
            file.seek(0)
            found = [one for _, one in Trades(file, "BTCUSD", told.append)]
        return f"{len(found)} trades; {''.join(told)}".strip("; ")

    yield both(f"replay: characters of a line of CSV: {MOST_LINE:,}", lambda: read(MOST_LINE - 1),
               lambda: read((2 if quick else 100) * MB), 60)  # fmt: skip

    def values(text: str) -> str:
        refused = 0
        for name in Settings.model_fields:
            try:
                Settings(**{name: text})
            except (ValidationError, BarwrightError):
                refused += 1
        return f"{refused} of {len(Settings.model_fields)} refuse it, each by its name"

    yield both("settings: a value of 4,000 digits; of a million", lambda: values("9" * 4_000),
               lambda: values("9" * MB), 60)  # fmt: skip


def filled(database: str) -> None:
    """Fifty symbols with a trade each in 2023: `fill` makes as many bars of it as are asked for."""
    store = Store(database, Clock(), {})
    names = {"topic": "limits", "partition": 0, "topic_id": TOPIC_ID}
    [(place, fence)] = store.connection.execute(sql.queries("ingest")["claim"], names).fetchall()
    batch, claim = Batch(store.rules, WINDOW), Claim("limits", 0, TOPIC_ID, fence, place)
    batch.add(
        Chunk(claim, place, [(place + n, msgspec.json.encode(trade(n, symbol=s))) for n, s in enumerate(SYMBOLS)]),
        10**9,
    )
    assert store.register(batch)
    store.land(batch)
    store.close()
    with sql.connect(database, "test", autocommit=True) as connection:
        engine = engine_of(connection)
        for level in levels(connection):
            engine.advance(level.name)
        while engine.repair():
            pass


class Serve:
    """The rows of an API process."""

    def __init__(self, api: Api) -> None:
        self.api, self.pid = api, api.process.pid

    def row(self, limit: str, largest: Callable[[], str], beyond: Callable[[], str], bound: int) -> Row:
        """A row of what one process answers."""
        renew(self.pid)
        said = largest(), beyond()
        return Row(limit, *said, peak(self.pid), bound)

    def asked(self, path: str, method: str = "GET", content: Any = None) -> str:
        """The status and size of an answer, none of which is kept."""
        size, name = 0, ""
        with self.api.client.stream(
            method, path, content=content, headers={"accept-encoding": "identity"}, timeout=300
        ) as answer:
            for part in answer.iter_raw():
                name = name or str(part[:200])
                size += len(part)
        code = name.partition('"code":"')[2].partition('"')[0] if answer.status_code >= 400 else f"{size / MB:.1f} MB"
        return f"{answer.status_code} {code}" if size > 4_096 or answer.status_code >= 400 else str(answer.status_code)

    def requests(self, quick: bool) -> Iterator[Row]:
        """REST and UDF."""
        asked, row = self.asked, self.row
        yield row(
            "REST: bytes of a URL: 8,192", lambda: asked("/" + "a" * 8_191), lambda: asked("/" + "a" * 60_000), 250
        )
        yield row("REST: characters of a symbol: 64", lambda: asked("/v1/symbols/" + "a" * 64),
                  lambda: asked("/v1/symbols/" + "a" * 65), 250)  # fmt: skip
        put = partial(asked, "/v1/symbols/NEW", "PUT")
        yield row("REST: bytes of a body: 65,536", lambda: put(b" " * 65_536),
                  lambda: f"{put(b' ' * 65_537)}; in chunks without end {put(b' ' * 16_384 for _ in range(640))}",
                  250)  # fmt: skip
        yield row("REST: nesting of a body", lambda: put(b'{"a":' * 100 + b"1" + b"}" * 100),
                  lambda: put(b"[" * 65_536), 250)  # fmt: skip
        yield row("REST: bytes of a body's trailers: 65,536", lambda: str(endless_trailers(self.api, 16_384, b"\r\n")),
                  lambda: str(endless_trailers(self.api, 10 * MB)), 250)  # fmt: skip
        most = 200 if quick else 10_000
        for format in ("json", "columns")[: 1 if quick else 2]:
            yield self._json(format, most)
        for format in ("csv", "arrow", "parquet")[: 1 if quick else 3]:
            yield self._table(format, quick)
        yield row("UDF: countback: 20,000", lambda: asked(f"/udf/history?symbol=L0&resolution=1&countback={most}"),
                  lambda: asked("/udf/history?symbol=L0&resolution=1&countback=999999999"), 400)  # fmt: skip
        yield row("UDF: characters of a symbol or a search", lambda: asked("/udf/search?query=" + "a" * 8_000),
                  lambda: asked("/udf/search?query=" + "a" * 9_000), 400)  # fmt: skip

    def _json(self, format: str, most: int) -> Row:
        url = f"/v1/bars?start=2023-03-02&fill=previous&interval=1m&format={format}&symbol={','.join(SYMBOLS)}"
        return self.row(
            f"REST: {format}: {len(SYMBOLS)} symbols, 10,000 bars each", lambda: self.asked(f"{url}&limit={most}"),
            lambda: f"{self.asked(url + '&limit=10001')}; a 51st {self.asked(url + ',ONE')}", 700,
        )  # fmt: skip

    def _table(self, format: str, quick: bool) -> Row:
        """No limit: what is written is let go of page by page, so ten times the bars take no more memory."""
        url = f"/v1/bars?start=2023-03-02&end=2023-{'03-09' if quick else '09-01'}&fill=previous&interval=1m"
        few, many = ",".join(SYMBOLS[:1]), ",".join(SYMBOLS[: 2 if quick else 10])
        return self.row(
            f"REST: {format}: any number of bars", lambda: self.asked(f"{url}&format={format}&symbol={few}"),
            lambda: self.asked(f"{url}&format={format}&symbol={many}"), 500,
        )  # fmt: skip

    def sockets(self, quick: bool) -> Iterator[Row]:
        """WebSockets."""
        url, row = str(self.api.client.base_url).rstrip("/").replace("http", "ws", 1) + "/v1/stream", self.row
        told = partial(self.told, url)
        yield row("WebSocket: bytes of a message: 4,096", lambda: told(" " * 4_096),
                  lambda: f"{told(' ' * 4_097)}; from 65,537 on {told(' ' * 65_537)}", 400)  # fmt: skip
        yield row("WebSocket: subscriptions of one: 100", lambda: self.subscribed(url, 100),
                  lambda: self.subscribed(url, 101), 400)  # fmt: skip
        yield row("WebSocket: pings whose pongs nobody reads: one packet's", lambda: self.pinged(1_000),
                  lambda: self.pinged(2_000 if quick else 300_000), 400)  # fmt: skip
        if not quick:
            yield row("WebSocket: one that asks and never reads: 10 s", lambda: self.unread(1),
                      lambda: self.unread(4), 400)  # fmt: skip

    def told(self, url: str, message: str) -> str:
        """What a message is answered with."""
        with connect(url, open_timeout=20) as socket:
            try:
                socket.send(message)
                answer = json.loads(socket.recv(timeout=20))
                return f"{answer['status']} {answer['code']}: {answer['message']}"
            except ConnectionClosed as closed:
                return f"closed {closed.rcvd.code if closed.rcvd else 1006}"

    def subscribed(self, url: str, count: int) -> str:
        """What so many subscriptions on one socket are answered with, the last first."""
        with connect(url, open_timeout=20, max_size=None) as socket:
            for n in range(count):
                socket.send(json.dumps({"op": "subscribe", "id": str(n), "symbol": SYMBOLS[n % 50], "interval": "1m"}))
            live, until = 0, time.monotonic() + 30
            while live < min(count, 100) and time.monotonic() < until:
                told = json.loads(socket.recv(timeout=20))
                if told["type"] == "error":
                    return f"{told['status']} {told['code']}"
                live += told["type"] == "live"
            return f"{live} live"

    def pinged(self, pings: int) -> str:
        """Sends them."""
        unread_pings(self.api, pings)
        return f"{pings:,} sent, no memory kept"

    def unread(self, count: int) -> str:
        """Sockets that say 40,000 words nobody understands, and read none of the answers."""
        before = eventually(self._slow, 20, ValueError, httpx.HTTPError)
        with ExitStack() as stack:
            for socket in [stack.enter_context(opened(self.api)) for _ in range(count)]:
                socket.settimeout(1)
                with suppress(TimeoutError):
                    socket.sendall(b"\x81\x81\0\0\0\0x" * 40_000)

            def ended() -> None:
                assert self._slow() - before == count

            eventually(ended, 90, ValueError, httpx.HTTPError)
        return f"{count} closed with 1013"

    def _slow(self) -> float:
        """How many were ended since they did not read. ValueError where that is not told."""
        text = self.api.client.get("/metrics").text
        return float(text.partition("\nbarwright_stream_slow_clients_total ")[2].partition("\n")[0])


def table(api: Api | None, quick: bool = False) -> list[Row]:
    """All rows; AssertionError where one needs more memory than its bound."""
    rows = []

    def all_rows() -> Iterator[Row]:
        yield from records(quick)
        yield from files(quick)
        if api is not None:
            serve = Serve(api)
            yield from serve.requests(quick)
            yield from serve.sockets(quick)

    for row in all_rows():
        print(row, flush=True)
        rows.append(row)
    over = [row.limit for row in rows if row.peak > row.bound]
    assert not over, f"more memory than their bound: {over}"
    return rows
