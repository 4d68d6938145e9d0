"""Feeds in threads, their sources scripted, and the tables they work from."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable
from typing import Any

import psycopg

from barwright.errors import BarwrightError
from barwright.ingest import feed
from barwright.ingest.feed.source import Source
from barwright.ingest.kafka import topic_of_symbol
from barwright.settings import Settings
from tests.ingest.conftest import World, eventually
from tests.ingest.scripted import Log, Scripted


class Feeding:
    """A world with feeds."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.settings = world.settings.model_copy(update={"live_margin": 0.2})
        self.feeds: list[tuple[threading.Thread, threading.Event]] = []
        self.logs: list[Log] = []
        world.topic()

    def start(self, *sources: Scripted, **settings: Any) -> threading.Event:
        """A feed that knows these sources."""
        by_name = {source.name: source for source in sources}

        def make(name: str, _: Settings) -> Source:
            if name not in by_name:
                raise BarwrightError(f"no source {name}")
            return by_name[name]

        stop = threading.Event()
        arguments = (self.settings.model_copy(update=settings), stop, make)
        thread = threading.Thread(target=feed.run, args=arguments, daemon=True)
        thread.start()
        self.feeds.append((thread, stop))
        return stop

    def stop(self) -> None:
        """Stop every feed."""
        for _, stop in self.feeds:
            stop.set()
        for thread, _ in self.feeds:
            thread.join(10)
            assert not thread.is_alive()
        self.feeds.clear()

    def execute(self, statement: str, *values: Any) -> None:
        """Change something."""
        with psycopg.connect(self.settings.database_url) as connection:
            connection.execute("set search_path = barwright")
            connection.execute(statement, values or None)  # type: ignore[arg-type]

    def register(self, *symbols: str, source: str = "simulator", history: str | None = None) -> None:
        """Register symbols, followed live; with a giver of history no task is filed by this alone."""
        for symbol in symbols:
            self.execute(
                "select register_symbol(%s, %s, %s, 'B', 'Q', '2023-03-01', %s, '10 seconds', true)",
                symbol, source, f"market of {symbol}", history,
            )  # fmt: skip

    def task(
        self, symbol: str, start: str = "2023-03-01", end: str = "2023-03-02", interval: str = "1m",
        source: str = "simulator",
    ) -> int:  # fmt: skip
        """File a task."""
        self.register(symbol, history=source)
        self.execute(
            "insert into backfill_task (symbol, source, market, interval, span, reason)"
            " values (%s, %s, %s, %s, tstzrange(%s, %s), 'gap')",
            symbol, source, f"market of {symbol}", interval, start, end,
        )  # fmt: skip
        return int(self.world.one("select max(id) from backfill_task"))

    def symbol(self, name: str) -> str:
        """A symbol whose dynamic topic is of this test only."""
        return f"{self.world.dynamic.removeprefix('dynamic-')}{name}"

    def row(self, task: int) -> dict[str, Any]:
        """A task as it stands."""
        (row,) = self.world.query("select * from backfill_task where id = %s", task)
        return row

    def until(self, task: int, status: str, seconds: float = 20) -> dict[str, Any]:
        """Wait until a task is there."""
        eventually(lambda: self.row(task)["status"], status, seconds)
        return self.row(task)

    def log(self, symbol: str | None = None) -> Log:
        """What was published: on the fixed topic, or of a symbol's history."""
        topic, partitions = (topic_of_symbol(symbol), 1) if symbol else (self.settings.tick_topic, 4)
        self.logs.append(Log(self.settings, topic, partitions))
        return self.logs[-1]

    def close(self) -> None:
        """End everything."""
        for log in self.logs:
            log.close()
        self.stop()
        # Clients end in threads of their own. What they leave of a broker that died troubles no later test.
        for thread in threading.enumerate():
            if thread.name.startswith("feed-"):
                thread.join(10)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


def is_true(check: Callable[[], Any], seconds: float = 20) -> None:
    """Wait until a check is true."""
    eventually(lambda: bool(check()), True, seconds)
