"""`barwright replay`: trades from a CSV file to the tick topic, through Kafka like any other."""

from __future__ import annotations

import csv
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, Final

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from barwright.errors import BarwrightError
from barwright.ingest import kafka
from barwright.ingest.bootstrap import UnreachableError
from barwright.ingest.kafka import KafkaError
from barwright.ingest.ticks import RefusedError, Trade, Window, number_of, symbol_of, trade_row
from barwright.settings import Settings

# Trades in one record: ten times the speed of one a record, and far below the usual 1 MB limit.
TOGETHER: Final = 100
UNDER_WAY: Final = 500
# Trades held back until there are enough of their symbol: a file may have a symbol for each.
MOST_HELD: Final = 20_000
MOST_LINE: Final = 65_536  # characters; of a longer line nothing is kept
# Columns by what they hold, each with the names it may bear.
COLUMNS: Final = {
    "ts": ("ts_ms", "ts"), "id": ("trade_id", "id"), "side": ("side",), "price": ("price",), "size": ("size",),
    "symbol": ("symbol",),
}  # fmt: skip


@dataclass
class Trades:
    """The trades of a CSV file, each checked by the rules ingest has; a bad line is told by its number, and counted."""

    file: IO[str]
    symbol: str | None
    tell: Callable[[str], None]
    future_skew: float = 5.0
    bad: int = 0

    def __iter__(self) -> Iterator[tuple[int, Trade]]:
        """(microseconds since 1970, trade). Raises BarwrightError when a column is missing."""
        lines = self._lines()
        columns = self._columns(next(lines, ""))
        for number, line in enumerate(lines, 2):
            if not line.isspace():
                try:
                    if len(line) > MOST_LINE:
                        raise RefusedError(f"more than {MOST_LINE:,} characters")
                    yield self._trade(_fields(line), columns)
                except RefusedError as refused:
                    self.bad += 1
                    self.tell(f"line {number}: {refused.message}")

    def _lines(self) -> Iterator[str]:
        """The lines; of one that is too long only its beginning: a file of zeros has one of gigabytes."""
        while line := self.file.readline(MOST_LINE + 1):
            yield line
            while len(line) > MOST_LINE and not line.endswith("\n"):
                line = self.file.readline(MOST_LINE + 1)

    def _columns(self, header: str) -> dict[str, int]:
        """Where each column is."""
        if not header:
            raise BarwrightError(
                "The file is empty.", "Its first line names the columns: ts_ms,trade_id,side,price,size."
            )
        names = [name.strip() for name in _fields(header.removeprefix("\ufeff"))]
        places = {
            column: names.index(found)
            for column, choice in COLUMNS.items()
            if (found := next((name for name in choice if name in names), None))
        }
        needed = {"ts", "id", "price", "size"} | (set() if self.symbol else {"symbol"})
        if missing := sorted(needed - places.keys()):
            wanted = ", ".join(" or ".join(COLUMNS[column]) for column in missing)
            hint = " Name the symbol by --symbol." if missing == ["symbol"] else ""
            raise BarwrightError(f"The header lacks {wanted}: {','.join(names)[:200]!r}.", hint.strip())
        return places

    def _trade(self, line: list[str], columns: dict[str, int]) -> tuple[int, Trade]:
        try:
            value = {column: line[place].strip() for column, place in columns.items()}
        except IndexError as error:
            raise RefusedError(f"{len(line)} fields are too few") from error
        ts = value["ts"]
        trade = Trade(
            value.get("symbol") or self.symbol or "",
            int(ts) if ts.isascii() and ts.isdigit() and len(ts) < 20 else ts,
            value["price"],
            value["size"],
            value["id"],
            None,
            value.get("side", "").lower() or None,
        )
        window = Window(0, int((time.time() + self.future_skew) * 1_000_000))
        if number_of(trade, 0)[1] != "id":
            raise RefusedError(f"id: not a non-negative 64-bit number: {value['id'][:80]!r}")
        return trade_row(trade, 0, window)[1], trade


def _fields(line: str) -> list[str]:
    """A line's fields. A quote left open ends with its line: it must not swallow the good lines after it."""
    if '"' not in line:
        return line.rstrip("\n").split(",")
    try:
        return next(csv.reader((line,), strict=True))
    except csv.Error as error:
        raise RefusedError(f"not CSV: {error}") from error


class Sender:
    """Sends trades in arrays, in order by symbol, and knows what is acknowledged."""

    def __init__(self, settings: Settings) -> None:
        kafka.ensure_topic(settings, settings.tick_topic, settings.tick_partitions)
        self.topic = settings.tick_topic
        self.producer = kafka.producer(settings, linger_ms=5, batch_size=262_144)
        self.acknowledged = 0
        self._held: dict[str, list[Trade]] = {}
        self._count = 0
        self._under_way: deque[tuple[int, Any]] = deque()

    def add(self, trade: Trade) -> None:
        """Send a trade, together with others."""
        held = self._held.setdefault(trade.symbol, [])
        held.append(trade)
        self._count += 1
        if len(held) >= TOGETHER:
            self._send(trade.symbol)
        elif self._count >= MOST_HELD:
            self.flush()

    def flush(self) -> None:
        """Send what is held back."""
        for symbol in list(self._held):
            self._send(symbol)

    def finish(self) -> None:
        """Send everything and wait until it is acknowledged. Raises KafkaError."""
        self.flush()
        while self._under_way:
            self._acknowledge()

    def close(self) -> None:
        """Leave Kafka; what is under way has a moment to arrive."""
        self.producer.close(timeout=5)

    def _send(self, symbol: str) -> None:
        trades = self._held.pop(symbol)
        self._count -= len(trades)
        future = self.producer.send(self.topic, key=symbol.encode(), value=msgspec.json.encode(trades))
        self._under_way.append((len(trades), future))
        while len(self._under_way) > UNDER_WAY or (self._under_way and self._under_way[0][1].is_done):
            self._acknowledge()

    def _acknowledge(self) -> None:
        count, future = self._under_way.popleft()
        future.get(timeout=130)
        self.acknowledged += count


def replay(settings: Settings, trades: Trades, speed: float | None, progress: Progress, task: TaskID) -> int:
    """Send them all; returns how many were acknowledged. `speed` is a multiple of event time, None: as fast as it goes.

    Raises KafkaError, BarwrightError.
    """
    with closing(Sender(settings)) as sender:
        pace = _Pace(speed) if speed else None
        shown = time.monotonic()
        for ts, trade in trades:
            if pace and pace.behind(ts) > 0:
                sender.flush()
                pace.wait(ts)
            sender.add(trade)
            if time.monotonic() - shown > 0.1:
                progress.update(task, completed=sender.acknowledged)
                shown = time.monotonic()
        sender.finish()
    progress.update(task, completed=sender.acknowledged, total=sender.acknowledged)
    return sender.acknowledged


class _Pace:
    """Keeps event time and real time in step."""

    def __init__(self, speed: float) -> None:
        self.speed, self._first, self._began = speed, 0, 0.0
        self._never = threading.Event()

    def behind(self, ts: int) -> float:
        """Seconds until this event time is due."""
        if not self._began:
            self._first, self._began = ts, time.monotonic()
        return (ts - self._first) / 1_000_000 / self.speed - (time.monotonic() - self._began)

    def wait(self, ts: int) -> None:
        """Wait until it is due."""
        self._never.wait(min(max(self.behind(ts), 0), threading.TIMEOUT_MAX))


def _speed(_context: click.Context, _parameter: click.Parameter, value: str) -> float | None:
    if value == "max":
        return None
    try:
        speed = float(value)
    except ValueError:
        speed = 0
    if not 0 < speed < 1e9:
        raise click.BadParameter("a number above 0, or max")
    return speed


@click.command("replay")
@click.argument("file", type=click.File("r", encoding="utf-8", errors="replace"))
@click.option("--symbol", help="the trades' symbol, where the file has no such column")
@click.option("--speed", default="max", callback=_speed, help="multiple of the trades' own pace, or max (default)")
@click.pass_obj
def command(settings: Callable[[], Settings], file: IO[str], symbol: str | None, speed: float | None) -> None:
    """Send the trades of a CSV FILE (or `-`) to the tick topic. Sending them twice changes nothing.

    The header names the columns: ts_ms or ts, trade_id or id, side, price, size, and symbol unless --symbol is given.
    A bad line is reported and skipped; if there was one, the status is 1.
    """
    console = Console(stderr=True, markup=False, highlight=False)
    if symbol is not None:
        symbol_of(symbol)
    current = settings()
    trades = Trades(file, symbol, partial(console.print, soft_wrap=True), current.future_skew)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=console) as progress:
            count = replay(current, trades, speed, progress, progress.add_task("replay", total=None))
    except UnreachableError:
        raise
    except KafkaError as error:
        raise BarwrightError(f"Kafka: {type(error).__name__}: {error}", "Is it running?") from error
    console.print(f"{count:,} trades acknowledged")
    if trades.bad:
        raise BarwrightError(f"{trades.bad:,} bad line{'s were' if trades.bad > 1 else ' was'} skipped.")
