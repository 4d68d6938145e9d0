"""What is read of a window: its bars as lines of text, or only how many there are; and where a query begins."""

from dataclasses import replace

from psycopg import sql as psql

from barwright.api.bars import Bars
from barwright.api.database import Q
from barwright.api.intervals import FIRST, LEVELS
from barwright.api.params import BarsQuery
from barwright.api.span import Query, bars_query, window
from barwright.api.tables.walk import Walk, last_close

_PLAIN = {
    (name, backwards): psql.SQL(Q["plain"]).format(view=psql.Identifier(f"ohlcv_{name}"), order=psql.SQL(order))
    for name in LEVELS
    for backwards, order in ((False, "asc"), (True, "desc"))
}
_LINES, _COUNTED = psql.SQL(Q["lines"]), psql.SQL(Q["counted"])


def text(query: BarsQuery) -> Query:
    """Bars with their numbers as JSON has them, trimmed."""
    bars, args = _bars(query)
    return _LINES.format(bars=bars), args


def numbers(query: BarsQuery) -> Query:
    """Bars to make numbers of."""
    bars, args = _bars(query)
    return _LINES.format(bars=bars if query.interval.derived else _PLAIN[query.interval.name, query.backwards]), args


def counted(query: BarsQuery) -> Query:
    """How many bars, and their first and last bucket."""
    bars, args = _bars(query)
    return _COUNTED.format(bars=bars), args


def _bars(query: BarsQuery) -> Query:
    assert query.hi is not None
    return bars_query(query.interval, query.symbol, (query.lo, query.hi), query.limit, query.backwards, "")


async def begun(bars: Bars, query: BarsQuery) -> BarsQuery:
    """The query with its bounds, and with the start it has, though it was given by its last bars. ApiError 404, 503."""
    query = await bars.bounded(query)
    if query.fill != "none":
        query = await _from_first(bars, query)
    if query.newest and query.order == "asc":
        query = await _from_newest(bars, query)
    return query


async def _from_first(bars: Bars, query: BarsQuery) -> BarsQuery:
    """Where the grid begins: with the first bar there is, unless it is given or has a close before it."""
    assert query.hi is not None
    if (query.fill == "null" and query.lo > FIRST) or await last_close(bars, query, query.lo) is not None:
        return query
    found = (await bars.slice(query.symbol, query.interval, query.lo, query.hi, 1)).bars
    return replace(query, lo=found[0].bucket if found else query.hi)


async def _from_newest(bars: Bars, query: BarsQuery) -> BarsQuery:
    """The same bars from where they begin: the newest `limit` are counted backwards, sent forwards."""
    assert query.hi is not None
    assert query.limit is not None
    if query.fill != "none":
        lo, _ = window(query.interval, query.lo, query.hi, query.limit, True)
        return replace(query, lo=lo, newest=False)
    walk, lo = Walk(bars, query), query.hi
    while not walk.done:
        page = await walk.page(counted)
        lo = page.ends[0] if page.ends else lo
    return replace(query, lo=query.lo if walk.left.limit else lo, newest=False)
