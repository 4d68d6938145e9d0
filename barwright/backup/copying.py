"""Another engine: all of one database is copied into an empty one, its bars are made again there and compared."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import psycopg
import tenacity
from psycopg.sql import SQL, Composed, Identifier

from barwright import sql
from barwright.errors import BarwrightError
from barwright.settings import Settings
from barwright.sql.engine import engine_of, levels

Q = sql.queries("copy")
WEEK = timedelta(days=7)
INTERVALS = ("1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w", "1mo")
BAR = ("symbol", "bucket", "open", "high", "low", "close", "volume", "quote_volume", "vwap", "trades", "buy_volume",
       "imported")  # fmt: skip
# TimescaleDB's own policies refresh too, from the moment they are made; they are soon done.
PATIENTLY = tenacity.Retrying(
    retry=tenacity.retry_if_exception_type(psycopg.errors.LockNotAvailable),
    wait=tenacity.wait_fixed(0.5),
    stop=tenacity.stop_after_delay(600),
    reraise=True,
)
Connection = psycopg.Connection[Any]


def copy(origin: str, settings: Settings, told: Callable[[str], None]) -> dict[str, int]:
    """Fill the empty database of the settings from the one at `origin`; returns how many bars of each interval there
    are, each compared. `told` gets the name of each step.

    Raises BarwrightError, before anything is changed, where they do not fit; and where a bar differs in the end.
    """
    with (
        sql.connect(origin, "copy", autocommit=True) as source,
        sql.connect(settings.database_url, "copy", autocommit=True) as target,
    ):
        source.execute(Q["no_hurry"])
        source.execute(Q["snapshot"])
        first, last = _fit(source, target)
        with _undisturbed(target):
            lines = _lines(source, first)
            if first is not None and last is not None:
                _ticks(source, target, first, last, told)
                _old_bars(source, target, lines, told)
            _tables(source, target, told)
            _roll_up(source, target, lines, told)
        return _compare(source, target, told)


@contextmanager
def _undisturbed(target: Connection) -> Iterator[None]:
    """TimescaleDB's policies stand still: they would refresh what is only half there."""
    if not _is_timescaledb(target):
        yield
        return
    jobs = _row(target.execute(Q["pause_jobs"]))[0]
    try:
        while _row(target.execute(Q["running_jobs"]))[0]:
            time.sleep(0.1)
        yield
    finally:
        target.execute(Q["resume_jobs"], {"jobs": jobs or []})


def _fit(source: Connection, target: Connection) -> tuple[datetime | None, datetime | None]:
    """The first and the last tick; BarwrightError where the databases do not fit."""
    try:
        engine, revision, late, first, last = _row(source.execute(Q["facts"]))
        into, there, *_ = _row(target.execute(Q["facts"]))
    except psycopg.errors.UndefinedTable as error:
        hint = "`barwright migrate` on each, by this version; the engine is chosen by BARWRIGHT_ENGINE."
        raise BarwrightError("One of the two databases is not migrated.", hint) from error
    if revision != there:
        raise BarwrightError(
            f"The schemas differ: revision {revision} is copied into {there}.", "`barwright migrate` on each."
        )
    if _row(target.execute(Q["is_used"]))[0]:
        raise BarwrightError(f"The {into} database has ticks or symbols already.", "Copy into a new, migrated one.")
    if late:
        raise BarwrightError(
            f"{late} late ranges of the {engine} database await repair: its bars are not what its ticks say.",
            "Stop feed and ingest, let maintain finish, and copy again.",
        )
    return first, last


def _ticks(
    source: Connection, target: Connection, first: datetime, last: datetime, told: Callable[[str], None]
) -> None:
    """A week at a time: what is read and written then lies in one partition, or in seven chunks."""
    columns = _row(target.execute(Q["columns"]))[0]
    while first <= last:
        told(f"ticks from {first:%Y-%m-%d}")
        target.execute(Q["prepare_ticks"], {"lo": first, "hi": first + WEEK})
        where = SQL(" where ts >= {} and ts < {}").format(first, first + WEEK)
        _stream(source, target, "ticks", columns, where)
        first += WEEK


def _tables(source: Connection, target: Connection, told: Callable[[str], None]) -> None:
    """What both engines hold beside: in one transaction, with the positions in Kafka."""
    both = {table for table, *_ in source.execute(Q["tables"])}
    with target.transaction():
        for table, columns, numbered in target.execute(Q["tables"]).fetchall():
            if table not in both:
                continue
            told(table)
            target.execute(SQL("delete from {}").format(Identifier(table)))
            _stream(source, target, table, columns, SQL(""))
            if numbered:
                highest = SQL("select max({}) from {}").format(Identifier(numbered), Identifier(table))
                names = {"table": table, "column": numbered, "highest": _row(target.execute(highest))[0]}
                target.execute(Q["number_on"], names)


def _lines(source: Connection, first: datetime | None) -> dict[str, datetime]:
    """From when on each level can be made: from the day of the first tick, or where retention has left what it is made
    of. Bars before are kept as they are."""
    known = dict(source.execute(Q["lines" if _row(source.execute(Q["has_lines"]))[0] else "no_lines"]).fetchall())
    day = first and first.replace(hour=0, minute=0, second=0, microsecond=0)
    sealed = dict(source.execute(Q["levels"]).fetchall())
    return {name: known[name] or day or sealed[name] for name in sealed}


def _old_bars(source: Connection, target: Connection, lines: dict[str, datetime], told: Callable[[str], None]) -> None:
    """Bars that can no longer be made, since what they were made of has been dropped."""
    oldest = _row(source.execute(Q["oldest"]))[0]
    if oldest is None or oldest >= max(lines.values()):
        return
    # Rolled up while there is nothing: a TimescaleDB refresh would else take that time for never looked at, and empty
    # it.
    _advance(target, dict.fromkeys(lines, oldest), lines, told)
    into_timescaledb = _is_timescaledb(target)
    for name, home in target.execute(Q["homes" if into_timescaledb else "homes_plain"]).fetchall():
        told(f"bars of {name} older than the ticks")
        columns = [column for column in BAR if into_timescaledb or column != "vwap"]
        where = SQL(
            " as bar where bucket < {} and not exists (select from coarse_bars as c where c.symbol = bar.symbol "
            "and c.bucket >= day_floor(bar.bucket) and c.bucket < day_floor(bar.bucket) + interval '1 day')"
        ).format(lines[name])
        _stream(source, target, f"ohlcv_{name}", columns, where, home)


def _roll_up(source: Connection, target: Connection, lines: dict[str, datetime], told: Callable[[str], None]) -> None:
    """Make the bars, and lay coarse days into them."""
    _advance(target, lines, dict(source.execute(Q["levels"]).fetchall()), told)
    target.execute(Q["coarse_days"])
    PATIENTLY(engine_of(target).repair)


def _advance(
    target: Connection, begin: dict[str, datetime], sealed: dict[str, datetime], told: Callable[[str], None]
) -> None:
    """Roll every level up from a time to where it is sealed."""
    for name, until in sealed.items():
        target.execute(Q["begin_at"], {"name": name, "sealed": until, "first": min(begin[name], until)})
    for level in levels(target):
        told(f"making the bars of {level.name}")
        PATIENTLY(engine_of(target).advance, level.name)


def _compare(source: Connection, target: Connection, told: Callable[[str], None]) -> dict[str, int]:
    """How many bars there are of each interval; BarwrightError where one differs."""
    counts, wrong = {}, []
    for interval in INTERVALS:
        told(f"comparing the bars of {interval}")
        query = Q["sums"].replace("{view}", f"ohlcv_{interval}")
        theirs, ours = (set(connection.execute(query).fetchall()) for connection in (source, target))
        counts[interval] = sum(count for _, count, _ in ours)
        wrong += sorted({f"{symbol} {interval}" for symbol, *_ in theirs ^ ours})
    if wrong:
        raise BarwrightError(
            f"Bars differ from those they were copied from: {', '.join(wrong[:10])}{' …' if wrong[10:] else ''}.",
            "Keep the old database, and report it.",
        )
    return counts


def _stream(
    source: Connection,
    target: Connection,
    relation: str,
    columns: list[str],
    where: SQL | Composed,
    into: str | None = None,
) -> None:
    """Rows of one relation, as they come; `into` is named as SQL writes it."""
    names = SQL(", ").join(map(Identifier, columns))
    out = SQL("copy (select {} from {}{}) to stdout").format(names, Identifier(relation), where)
    there = SQL(into) if into else Identifier(relation)
    with (
        source.cursor().copy(out) as rows,
        target.cursor().copy(SQL("copy {} ({}) from stdin").format(there, names)) as sink,
    ):
        for block in rows:
            sink.write(block)


def _is_timescaledb(connection: Connection) -> bool:
    return bool(_row(connection.execute(Q["engine"]))[0] == "timescaledb")


def _row(cursor: Any) -> tuple[Any, ...]:
    row = cursor.fetchone()
    assert row is not None
    return tuple(row)
