"""Trades that go on and on, and what becomes of them: in the database and in the API."""

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from barwright import sql
from tests.api.conftest import Api
from tests.ingest.conftest import World
from tests.upgrades import load

SYMBOLS = ("S0", "S1", "S2")
START = datetime(2023, 2, 26, 22, tzinfo=UTC)


class Feed:
    """Trades of three symbols, on and on, one of four earlier than the one before; each is in `sent` once it is
    acknowledged."""

    def __init__(self, world: World) -> None:
        self.world, self.sent, self.over = world, 0, threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not self.over.is_set():
            later = []
            for n in range(self.sent, self.sent + 10):
                ts = START + timedelta(seconds=n * 47 - (86_400 if n % 4 == 0 else 0), microseconds=n % 3)
                trade = {"type": "trade", "symbol": SYMBOLS[n % 3], "ts": ts.isoformat(), "id": str(n + 1),
                         "price": f"{100 + n * 7 % 31}.{n % 97:02}", "size": f"0.{n % 89 + 1}",
                         "side": "buy"}  # fmt: skip
                later.append(self.world.send_later(trade, partition=n % 3))
            for future in later:
                future.get(timeout=30)
            self.sent += len(later)
            time.sleep(0.02)

    def end(self) -> int:
        """Send no more; how many there were."""
        self.over.set()
        self.thread.join(30)
        return self.sent


def landed(world: World) -> int:
    return int(world.one("select count(*) from ticks"))


def is_repaired(world: World) -> bool:
    """Whether every late tick is in the bars."""
    return world.one("select not exists (select from late_range)") is True


def bars(api: Api) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Every bar of all symbols, of some levels."""
    ask = {"start": "2023-01-01", "limit": 10_000}
    return {(s, i): api.bars(s, i, **ask) for s in SYMBOLS for i in ("15m", "1h", "1mo")}


def check(database: str, count: int) -> None:
    """Each tick is there once, and every bar is what the oracle makes of them."""
    with sql.connect(database, "test") as connection:
        found = load.state(connection)
        assert [row[2] for row in sorted(found["ticks"], key=lambda row: row[2])] == list(range(1, count + 1))
        for interval in load.INTERVALS:
            assert found[interval] == load.truth(connection, interval), interval


def in_api(api: Api, database: str) -> bool:
    """Whether the API shows every bar that the database does."""
    with sql.connect(database, "test") as connection:
        found = load.state(connection)
    names = ("open", "high", "low", "close", "volume", "quote_volume", "vwap", "trades", "buy_volume", "imported")
    return all(
        [tuple(bar[name] for name in names) for bar in shown]
        == [row[2:] for row in found[interval] if row[0] == symbol]
        for (symbol, interval), shown in bars(api).items()
    )
