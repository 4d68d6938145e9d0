"""Every endpoint and parameter of the API, symbols' names and UDF among them, WebSocket messages, CSV and settings."""

from __future__ import annotations

import io
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
from pydantic import ValidationError
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from barwright.api.app import create_app
from barwright.errors import BarwrightError
from barwright.ingest.replay import Trades
from barwright.settings import Settings
from tests.fuzz.corpus import VALUES, chance, mutated, text

PATHS = create_app(Settings()).openapi_schema.to_schema()["paths"]
KNOWN = {
    "symbol": "BTCUSD",
    "interval": "1m",
    "resolution": "60",
    "wait": "0",
    "from": "1677628800",
    "to": "1677715200",
}
GOOD_LINE = "1677628800000,{n},buy,100.5,2\n"


class Requests:
    """Sends cases to an API; `counts` is by status."""

    def __init__(self, client: httpx.Client, seed: int) -> None:
        self.client, self.seed = client, seed
        self.counts: Counter[str] = Counter()
        self.operations = [(path, method, one) for path, item in PATHS.items() for method, one in item.items()]

    def run(self, first: int, cases: int) -> None:
        """So many requests; none may be answered with 5xx, and the process must be there after the last."""
        for number in range(first, first + cases):
            rng = chance(self.seed, number)
            path, method, operation = rng.choice(self.operations)
            sent = self._request(rng, path, method, operation)
            try:
                with self.client.stream(method.upper(), sent[0], content=sent[1], headers=sent[2]) as answer:
                    status = answer.status_code
                    if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                        answer.read()
            except httpx.HTTPError as error:
                raise AssertionError(f"seed {self.seed}, request {number}: {sent!r:.500}: {error!r}") from error
            assert status < 500, f"seed {self.seed}, request {number}: {status}: {method} {sent!r:.500}"
            self.counts[str(status)] += 1

    def _request(self, rng: random.Random, path: str, method: str, operation: Any) -> tuple[str, bytes, dict[str, str]]:
        for name in ("{name}", "{symbol}"):
            path = path.replace(name, quote(text(rng), safe="") or "X")
        query = {}
        for one in operation.get("parameters", []):
            if one["in"] == "query" and (one.get("required") or rng.random() < 0.3):
                known = KNOWN.get(one["name"])
                query[one["name"]] = known if known and rng.random() < 0.6 else text(rng)
        if "wait" in query:
            query["wait"] = rng.choice(("0", "-1", "NaN", "x", "1e9", "\0"))
        body = b""
        if operation.get("requestBody"):
            body = mutated(rng, b'{"source":"kafka","market":"x","start":"2020-01-01","history_source":"simulator"}')
        url = path + ("?" + urlencode(query) if query else "")
        if rng.random() < 0.1:
            url += ("&" if query else "?") + rng.choice(
                ("%ff=%fe", "symbol=%00", "a&&b==", "=" * 50, "symbol=BTCUSD&symbol=X")
            )
        return url, body, {"content-type": "application/json"} if body else {}


def sockets(url: str, seed: int, first: int, cases: int) -> Counter[str]:
    """So many messages to WebSockets, many on each; every one is answered, or the connection ends with a reason."""
    counts: Counter[str] = Counter()
    seeds = [b'{"op":"subscribe","id":"a","symbol":"BTCUSD","interval":"1m"}', b'{"op":"unsubscribe","id":"a"}',
             b'{"op":"ping"}']  # fmt: skip
    number = first
    while number < first + cases:
        with connect(url, open_timeout=20) as socket:
            while number < first + cases:
                rng = chance(seed, number)
                message = mutated(rng, rng.choice(seeds))
                number += 1
                try:
                    socket.send(message if rng.random() < 0.1 else message.decode(errors="replace"))
                    counts["answers"] += bool(socket.recv(timeout=0.005))
                except TimeoutError:
                    counts["silent"] += 1
                except ConnectionClosed as closed:
                    code = closed.rcvd.code if closed.rcvd else 1006
                    told = f"seed {seed}, message {number - 1}: closed with {code}: {message!r:.300}"
                    assert code not in (1006, 1011), told
                    counts[f"closed {code}"] += 1
                    break
    return counts


def lines(seed: int, first: int, cases: int) -> Counter[str]:
    """So many bad lines of CSV, a good one after each: every good one is read, every bad one read or told."""
    told: list[str] = []
    written, good = ["ts_ms,trade_id,side,price,size\n"], 0
    for number in range(first, first + cases):
        rng = chance(seed, number)
        fields = ["1677628800000", f"b{number}", "sell", "1", "1"]
        for _ in range(rng.randint(1, 2)):
            value = rng.choice(VALUES).decode(errors="replace") if rng.random() < 0.5 else text(rng)
            fields[rng.randrange(5)] = value
        line = ",".join(fields[: rng.choice((5, 5, 5, 4, 6))]).replace("\r", "").replace("\n", "")
        written += [line + "\n", GOOD_LINE.format(n=10**12 + number)]
        good += 1
    trades = Trades(io.StringIO("".join(written)), "BTCUSD", told.append)
    found = [trade for _, trade in trades]
    lost = good - sum(str(one.id).startswith("1000") and len(str(one.id)) == 13 for one in found)
    blank = sum(line.isspace() for line in written)
    assert lost == 0, f"seed {seed}, lines from {first}: {lost} good lines lost"
    assert len(found) + len(told) + blank == 2 * cases, f"seed {seed}, lines from {first}"
    return Counter(accepted=len(found) - good, refused=len(told))


def settings(seed: int, first: int, cases: int) -> Counter[str]:
    """So many settings with rubbish: taken, or refused by pydantic or by what reads them, with their name."""
    counts: Counter[str] = Counter()
    names = [*Settings.model_fields]
    for number in range(first, first + cases):
        rng = chance(seed, number)
        name, value = rng.choice(names), text(rng)
        try:
            Settings(**{name: value})
            counts["accepted"] += 1
        except (ValidationError, BarwrightError):
            counts["refused"] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}, setting {number}: {name}={value!r:.200}: {error!r}") from error
    return counts


def peak(pid: int | str) -> int:
    """The most memory a process ever had, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def shown(counts: Counter[str]) -> str:
    """Counts as a line."""
    return json.dumps(dict(sorted(counts.items())))
