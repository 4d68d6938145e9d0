"""Another program that sends trades: up to three days late, in disorder, some twice, whatever is broken."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import msgspec

from tests.chaos.system import System

SYMBOL = "LATE"
PERIOD = 0.5


class LateProducer(threading.Thread):
    """Sends a few trades at a time; what was not acknowledged is sent again."""

    def __init__(self, system: System, seed: int) -> None:
        super().__init__(name="late", daemon=True)
        self.system, self.random = system, Random(f"late {seed}")
        self.sent: list[dict[str, Any]] = []
        self._over = threading.Event()

    def run(self) -> None:
        """Send until closed; the last batch too is sent until it is acknowledged."""
        while not self._over.wait(PERIOD):
            batch = [self._trade() for _ in range(self.random.randint(1, 40))]
            while not self._send(batch + self.random.choices(self.sent, k=3) if self.sent else batch):
                time.sleep(0.5)
            self.sent += batch

    def close(self) -> None:
        """Send no more, and wait until all is acknowledged."""
        self._over.set()
        self.join()

    def _trade(self) -> dict[str, Any]:
        ago = timedelta(seconds=self.random.choice((1, 60, 3600, 3 * 86_400)) * self.random.random())
        ts = datetime.now(UTC) - ago
        ms = ts.replace(microsecond=ts.microsecond // 1000 * 1000)
        price, size = f"{self.random.randrange(9_000, 11_000) / 100}", f"{self.random.randrange(1, 5_000) / 1000}"
        # One number for each trade of the symbol, growing with its time.
        seq = int(ms.timestamp() * 1000) * 10**6 + len(self.sent) * 100 + self.random.randrange(100)
        return {"symbol": SYMBOL, "ts": ms, "seq": seq, "price": Decimal(price), "size": Decimal(size),
                "side": self.random.choice("bs"), "open": None, "high": None, "low": None, "quote": None,
                "trades": None}  # fmt: skip

    def _send(self, trades: list[dict[str, Any]]) -> bool:
        """In a process of its own: a client that lost its broker leaves sockets open."""
        self.random.shuffle(trades)
        lines = b"\n".join(msgspec.json.encode({
            "type": "trade", "symbol": t["symbol"], "ts": t["ts"], "seq": t["seq"], "price": str(t["price"]),
            "size": str(t["size"]), "side": {"b": "buy", "s": "sell"}[t["side"]]}) for t in trades)  # fmt: skip
        command = [sys.executable, "-m", "tests.chaos.send", self.system.services["kafka"].url]
        try:
            return subprocess.run(command, input=lines, capture_output=True, timeout=30).returncode == 0
        except subprocess.TimeoutExpired:
            return False
