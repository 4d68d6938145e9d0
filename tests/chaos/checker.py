"""Clients that ask all the time: no answer shows a bar twice, and one that says `complete` shows the truth."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import httpx
import msgspec

from tests import oracle
from tests.chaos.system import System
from tests.chaos.truth import NUMBERS, Bars, Truth, differences

# A message that the exchange lost shows only by the next one's number: until that has come nobody can know.
SURE = timedelta(seconds=60)
Span = tuple[datetime, datetime]
_decoder = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)


class Checker(threading.Thread):
    """One client. `wrong` are the answers that were no truth, `counts` how many answers there were of each kind."""

    def __init__(
        self, system: System, truth: Truth, symbols: list[str], since: datetime, quiet: Span, seed: int
    ) -> None:
        super().__init__(name="checker", daemon=True)
        self.system, self.truth, self.symbols, self.since, self.quiet = system, truth, symbols, since, quiet
        self.random = Random(f"checker {seed}")
        self.wrong: list[str] = []
        self.counts = {"complete": 0, "incomplete": 0, "unknown": 0, "unavailable": 0}
        self._over = threading.Event()

    def run(self) -> None:
        """Ask until closed."""
        with httpx.Client(base_url=self.system.api, timeout=10, trust_env=False) as client:
            while not self._over.wait(0.05):
                self._ask(client)

    def close(self) -> None:
        """Ask no more."""
        self._over.set()
        self.join()

    def _ask(self, client: httpx.Client) -> None:
        symbol, interval = self.random.choice(self.symbols), self.random.choice(("1m", "1m", "5m", "1h"))
        width = timedelta(minutes=oracle.WIDTHS[interval])
        latest = oracle.bucket(datetime.now(UTC) - SURE, interval)
        start = max(latest - width * self.random.randint(1, 400), self.since)
        start = oracle.bucket(start, interval)
        end = min(start + width * self.random.randint(1, 200), latest)
        if start >= end:
            return
        query = {"symbol": symbol, "interval": interval, "start": _iso(start), "end": _iso(end), "limit": 1000}
        try:
            answer = client.get("/v1/bars", params=query)
        except httpx.TransportError:
            self.counts["unavailable"] += 1
            return
        if answer.status_code in (404, 503):
            self.counts["unavailable"] += 1
        else:
            self._judge(answer, query, start, end)

    def _judge(self, answer: httpx.Response, query: dict[str, Any], start: datetime, end: datetime) -> None:
        if answer.status_code != 200:
            self.wrong.append(f"{query}: {answer.status_code} {answer.text[:300]}")
            return
        body = _decoder.decode(answer.content)
        buckets = [bar["bucket"] for bar in body["bars"]]
        if buckets != sorted(set(buckets)):
            self.wrong.append(f"{query}: buckets repeat or go back")
        complete = body["coverage"]["complete"]
        self.counts[{True: "complete", False: "incomplete", None: "unknown"}[complete]] += 1
        corrected = start < self.quiet[1] and self.quiet[0] < end
        if complete is True and not corrected:
            truth = self.truth.bars(query["symbol"], query["interval"], start, end)
            self.wrong += [f"{query}: {line}" for line in differences(told(body["bars"]), truth)[:5]]


def told(bars: list[dict[str, Any]]) -> Bars:
    """The bars of an answer, by bucket."""
    names = (*NUMBERS, "trades", "buy_volume")
    return {
        datetime.fromisoformat(bar["bucket"]): {
            name: None if bar[name] is None else bar[name] if name == "trades" else Decimal(bar[name]) for name in names
        }
        for bar in bars
    }


def _iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
