"""How far a symbol's history is, shown until all is there: a bar on a terminal, lines elsewhere."""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from barwright.api.history import progress
from barwright.commands.common import Connection, Q, one

PERIOD: Final = 0.5  # seconds between two looks
LINES: Final = 2.0  # seconds between two lines where there is no terminal
RECENT: Final = 30.0  # seconds whose rate is taken for the rate of the rest
ALONE: Final = 10.0  # seconds without any progress after which it is asked whether anybody works


@dataclass
class Pace:
    """How many seconds of history are covered in one of ours, of late."""

    seen: deque[tuple[float, float]] = field(default_factory=deque)

    def left(self, at: float, missing: float) -> float | None:
        """Seconds until nothing is missing if it goes on like this, None where nothing moves."""
        self.seen.append((at, missing))
        while at - self.seen[0][0] > RECENT:
            self.seen.popleft()
        began, before = self.seen[0]
        done = before - missing
        return missing * (at - began) / done if done > 0 and at > began else None


def look(connection: Connection, symbol: str) -> dict[str, Any]:
    """How far it is now."""
    return progress(one(connection, "progress", symbol=symbol))


def watch(connection: Connection, symbol: str, tasks_too: bool = False) -> dict[str, Any]:
    """Show it until nothing is missing (and no task is open, with `tasks_too`); returns how far it was at last."""
    shown = Console(stderr=True, markup=False, highlight=False)
    if not shown.is_terminal:
        return _lines(connection, symbol, tasks_too)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"), TimeElapsedColumn())
    pace, began = Pace(), time.monotonic()
    with Progress(*columns, console=shown) as bar:
        task = bar.add_task(symbol, total=1.0, told="")
        while True:
            found = look(connection, symbol)
            at = time.monotonic()
            left = pace.left(at, found["seconds_missing"])
            bar.update(task, completed=found["share"] or 0.0, told=told(found, left))
            if _over(found, tasks_too):
                bar.update(task, completed=1.0)
                return found
            began = _say_if_alone(connection, pace, at, began)
            time.sleep(PERIOD)


def _lines(connection: Connection, symbol: str, tasks_too: bool) -> dict[str, Any]:
    pace, began, line, due = Pace(), time.monotonic(), "", 0.0
    while True:
        found = look(connection, symbol)
        at, over = time.monotonic(), _over(found, tasks_too)
        left = pace.left(at, found["seconds_missing"])
        new = f"{symbol}: {told(found, left)}"
        if (new != line and at >= due) or over:
            click.echo(new, err=True)
            line, due = new, at + LINES
        if over:
            return found
        began = _say_if_alone(connection, pace, at, began)
        time.sleep(PERIOD)


def told(found: dict[str, Any], left: float | None) -> str:
    """One line of it."""
    share = 1.0 if found["share"] is None else found["share"]
    parts = [
        f"{'100' if not found['seconds_missing'] else f'{min(share * 100, 99.9):.1f}'} %",
        f"{found['bars_imported']:,} bars", f"{found['tasks_open']} task{'' if found['tasks_open'] == 1 else 's'} open",
    ]  # fmt: skip
    if found["seconds_missing"]:
        parts.append("time left unknown" if left is None else f"about {duration(left)} left")
    if found["error"]:
        parts.append(f"error: {' '.join(found['error'].split())[:200]}")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(1, seconds):.0f} s"


def _over(found: dict[str, Any], tasks_too: bool) -> bool:
    return not found["seconds_missing"] and not (tasks_too and found["tasks_open"])


def _say_if_alone(connection: Connection, pace: Pace, at: float, began: float) -> float:
    """Where nothing has moved for a while and no feed tells of itself, say so once; returns when to begin counting."""
    if at - began < ALONE or pace.seen[0][1] > pace.seen[-1][1]:
        return began
    roles = {row[0] for row in connection.execute(Q["roles"])}
    for role in sorted({"feed", "ingest", "maintain"} - roles):
        click.echo(f"No {role} tells of itself: is `barwright {role}` running?", err=True)
    return float("inf")
