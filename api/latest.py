"""The newest bar of many symbols, open or closed."""

import time
from typing import Any

from psycopg import sql as psql
from psycopg.types.numeric import Int8

from barwright.api.bars import Answer, etag_of
from barwright.api.cover import AHEAD, OPEN_FOR, closed_before
from barwright.api.database import Database, Q, Row, Snapshot, look, retried
from barwright.api.encode import COLUMNS, NULL, PLAIN, Style, rows
from barwright.api.errors import unknown_symbol
from barwright.api.follower import Follower
from barwright.api.intervals import DAY, LAST, LEVELS, Interval, moment
from barwright.api.span import Query, bars_query, derived_many_query

LATEST_SQL = {
    name: psql.SQL(Q["latest"]).format(columns=COLUMNS, view=psql.Identifier(f"ohlcv_{name}")) for name in LEVELS
}
RECENT = 60  # buckets in which the newest bar is looked for first


@retried
async def latest(
    database: Database, follower: Follower, symbols: list[str], interval: Interval, style: Style = PLAIN
) -> Answer:
    """The newest bars in the order asked for, from one snapshot; symbols without any are left out.

    ApiError 404, 503.
    """
    if follower.look is None:
        await follower.ask()
    now = int(follower.clock())
    asked = time.monotonic()
    async with database.snapshot() as snapshot:
        [news], known, recent = await snapshot.fetch_all(
            (Q["look"], {"seen": Int8(follower.rev)}),
            (Q["known"], {"symbols": symbols}),
            _recent(symbols, interval, now),
        )
        unknown = set(symbols) - {symbol for (symbol,) in known}
        if unknown:
            raise unknown_symbol(next(symbol for symbol in symbols if symbol in unknown))
        found = {row[0]: row[1:] for row in recent}
        found |= await _quiet(snapshot, [symbol for symbol in symbols if symbol not in found], interval)
    seen = look(news)
    follower.hear(seen, asked)
    held = [symbol for symbol in symbols if symbol in found]
    lines = rows([found[symbol] for symbol in held], closed_before(interval, seen), style)
    bars = b",".join(
        b'{"symbol":"%s",%s' % (symbol.encode(), line[1:]) for symbol, line in zip(held, lines, strict=True)
    )
    body = b'{"interval":"%s","bars":[%s]}' % (interval.name.encode(), bars)
    return Answer(body, etag_of(body), (), OPEN_FOR)


def _recent(symbols: list[str], interval: Interval, now: int) -> Query:
    """The query for bars of the newest buckets, each symbol's newest last."""
    since = interval.after(now, -RECENT)
    if interval.derived:
        return derived_many_query(interval, symbols, (since, interval.after(now + AHEAD)))
    return LATEST_SQL[interval.name], {"symbols": symbols, "lo": moment(since), "null": NULL}


async def _quiet(snapshot: Snapshot, symbols: list[str], interval: Interval) -> dict[str, Row]:
    """The newest bars of symbols that had none lately: on their newest day."""
    if not symbols:
        return {}
    args: dict[str, Any] = {"symbols": symbols}
    overhang = interval.calendar.overhang
    days = await snapshot.fetch(Q["newest_days"], args)
    found = await snapshot.fetch_all(*(
        bars_query(interval, symbol, (interval.floor(day - overhang), interval.ceil(min(day + DAY, LAST))), 1, True,
                   NULL)
        for symbol, day in days
    ))  # fmt: skip
    return {symbol: result[0] for (symbol, _), result in zip(days, found, strict=True) if result}
