"""`barwright audit`: what the auditor found, or look at every closed bar of a symbol now."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import click
from psycopg import sql as psql
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from barwright.commands.common import Connection, Q, connected, console, named, one, plain, put_json
from barwright.settings import Settings
from barwright.sql.engine import Level, levels

FIELDS = ("found_at", "symbol", "interval", "bucket", "expected", "found", "repaired_at")
DAY = timedelta(days=1)
# Buckets compared in one transaction: it holds the maintenance lock, and a bucket takes a millisecond or two.
TOGETHER = 120


@click.command("audit")
@click.option("--all", "everything", is_flag=True, help="compare every closed bar with its ticks, now")
@click.option("--symbol", help="only this symbol's")
@click.option("--limit", type=click.IntRange(1), default=50, help="at most so many findings, newest first (50)")
@click.option("--json", "as_json", is_flag=True, help="one JSON object a line")
@click.pass_context
def command(context: click.Context, everything: bool, symbol: str | None, limit: int, as_json: bool) -> None:
    """What the auditor has looked at and found: bars that differed from their ticks, which are repaired.

    With --all it looks at every closed bar of every level now. The status is 1 if that finds something.
    """
    settings: Callable[[], Settings] = context.obj
    with connected(settings(), "audit") as connection:
        if symbol is not None:
            symbol = named(connection, symbol)
        if not everything:
            _show(connection, symbol, limit, as_json)
            return
        wrong = audit(connection, [symbol] if symbol else _symbols(connection), as_json)
    if wrong:
        context.exit(1)


def _symbols(connection: Connection) -> list[str]:
    return [name for (name,) in connection.execute(Q["names"])]


def _show(connection: Connection, symbol: str | None, limit: int, as_json: bool) -> None:
    buckets, findings, at = one(connection, "audited")
    rows = connection.execute(Q["findings"], {"symbol": symbol, "limit": limit}).fetchall()
    if as_json:
        put_json(plain({"buckets": buckets, "findings": findings, "at": at}))
        for row in rows:
            put_json(plain(dict(zip(FIELDS, row, strict=True))))
        return
    last = f", the last at {at:%F %T} UTC" if at else ""
    click.echo(f"{buckets:,} bars looked at, {findings:,} finding{'' if findings == 1 else 's'}{last}")
    if rows:
        table = Table("found", "symbol", "interval", "bucket", "should be", "was", "repaired")
        for found, name, interval, bucket, expected, was, repaired in rows:
            done = "" if repaired is None else f"{repaired:%F %T}"
            table.add_row(f"{found:%F %T}", name, interval, f"{bucket:%F %T}", _text(expected), _text(was), done)
        console().print(table)


def _text(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value)


def audit(connection: Connection, symbols: list[str], as_json: bool) -> int:
    """Compare every bucket of these symbols with its ticks; tells what differs, and returns how many do."""
    counts: Counter[bool | None] = Counter()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not Console(stderr=True).is_terminal) as progress:
        for symbol in symbols:
            first, last = one(connection, "audit_reach", symbol=symbol)
            days = 0 if first is None else (last - first) // DAY + 1
            task = progress.add_task(symbol, total=days)
            for n in range(days):
                for interval, bucket, right in _day(connection, symbol, first + n * DAY):
                    counts[right] += 1
                    if right is False:
                        _tell(symbol, interval, bucket, as_json)
                progress.advance(task)
    told = {"right": counts[True], "wrong": counts[False], "not_judged": counts[None]}
    if as_json:
        put_json(told)
    else:
        click.echo(f"{told['right']:,} bars right, {told['wrong']:,} wrong, {told['not_judged']:,} open, made of hours "
                   "or days, or awaiting repair")  # fmt: skip
    return counts[False]


def _day(connection: Connection, symbol: str, day: datetime) -> Iterator[tuple[str, datetime, bool | None]]:
    """Every bucket that begins on a day: (interval, bucket, whether it is right)."""
    for level in levels(connection):
        query = psql.SQL(Q["audit_window"]).format(view=psql.Identifier(f"ohlcv_{level.name}"))
        for lo, hi in _windows(level, day):
            args = {"symbol": symbol, "interval": level.name, "width": level.width, "lo": lo, "hi": hi}
            for bucket, right in connection.execute(query, args):
                yield level.name, bucket, right


def _windows(level: Level, day: datetime) -> Iterator[tuple[datetime, datetime]]:
    """A day in pieces of at most TOGETHER buckets."""
    step = min(DAY, level.width * TOGETHER)
    lo = day
    while lo < day + DAY:
        yield lo, min(lo + step, day + DAY)
        lo += step


def _tell(symbol: str, interval: str, bucket: datetime, as_json: bool) -> None:
    if as_json:
        put_json(plain({"symbol": symbol, "interval": interval, "bucket": bucket}))
    else:
        click.echo(f"{symbol} {interval} {bucket:%F %T}: differs from its ticks; it is repaired")
