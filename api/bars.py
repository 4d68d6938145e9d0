"""Answers to requests for bars."""

import time
from dataclasses import dataclass, replace

from barwright.api.database import Database, Look, Q, Row, look
from barwright.api.encode import NULLS, rows
from barwright.api.errors import unknown_symbol
from barwright.api.follower import Follower
from barwright.api.params import BarsQuery, make_cursor
from barwright.api.span import after_window, bars_query, first_window, rest


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of an answer, and its ETag."""

    body: bytes
    etag: str


class Bars:
    """Reads bars for requests."""

    def __init__(self, database: Database, follower: Follower) -> None:
        self.database = database
        self.follower = follower

    async def read(self, query: BarsQuery) -> Answer:
        """The answer to a request; ApiError 404, 503."""
        found, news = await self.direct(await self.bounded(query))
        return self.json(query, found, news)

    async def bounded(self, query: BarsQuery) -> BarsQuery:
        """The query with its bounds on bucket starts, `hi` being the database's now where none was given."""
        if query.hi is None and self.follower.look is None:
            await self.follower.ask()
        hi = int(self.follower.clock()) + 1 if query.hi is None else query.hi
        lo, hi = query.interval.ceil(query.lo), query.interval.ceil(hi)
        return replace(query, lo=lo, hi=max(lo, hi))

    async def direct(self, query: BarsQuery) -> tuple[list[Row], Look]:
        """One bar more than asked for, as found from its end of the span, and the look of the same snapshot."""
        assert query.hi is not None
        assert query.limit is not None
        limit, null, backwards = query.limit + 1, NULLS[query.format], query.backwards
        window = first_window(query.interval, query.lo, query.hi, limit, backwards)
        left = after_window(window, (query.lo, query.hi), backwards)
        asked = time.monotonic()
        async with self.database.snapshot() as snapshot:
            [news], [[known]], found = await snapshot.fetch_all(
                (Q["look"], {"seen": self.follower.rev}),
                (Q["symbol_state"], {"symbol": query.symbol}),
                bars_query(query.interval, query.symbol, window, limit, backwards, null),
                last=left is None,
            )
            if not known:
                raise unknown_symbol(query.symbol)
            if left is not None and len(found) < limit:
                span = (left, limit - len(found))
                found += await rest(snapshot, query.interval, query.symbol, *span, backwards, null)
        seen = look(news)
        self.follower.hear(seen, asked)
        return found, seen

    def json(self, query: BarsQuery, found: list[Row], news: Look) -> Answer:
        """The JSON of bars as `direct` found them."""
        assert query.limit is not None
        more, found = len(found) > query.limit, found[: query.limit]
        if query.backwards and query.order == "asc":
            found.reverse()
        # A bucket is closed when its end lies at or below the watermark: when it begins below the watermark's bucket.
        closed_before = query.interval.floor(news.watermarks[query.interval.closed_by])
        cursor = "null"
        if more and not (query.newest and query.order == "asc"):
            last = found[-1][0]
            cursor = f'"{make_cursor(query, last if query.order == "desc" else query.interval.after(last))}"'
        body = b'{"symbol":"%s","interval":"%s","bars":[%s],"next_cursor":%s}' % (
            query.symbol.encode(), query.interval.name.encode(), b",".join(rows(found, closed_before)), cursor.encode(),
        )  # fmt: skip
        return Answer(body, "")
