"""Answers to requests for bars."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from math import inf

from psycopg.types.numeric import Int8

from barwright.api.blocks import PAGE, Block, block
from barwright.api.cover import OPEN_FOR, Cover, closed_before
from barwright.api.database import Database, Look, Q, Row, look
from barwright.api.encode import NULLS, rows
from barwright.api.errors import unknown_symbol
from barwright.api.follower import Follower
from barwright.api.params import BarsQuery, make_cursor
from barwright.api.span import Window, after_window, bars_query, first_window, rest, window

TRIES = 3  # of an answer from blocks that a revision overtakes meanwhile, before one snapshot gives all of it
WIDER = 4  # how much wider the window of the second look is; beyond it the database finds the bars of a sparse symbol
Piece = tuple[Block, int, int]  # bars [from, to) of a block


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of an answer, its ETag, and what keeps it true: it may be sent again for `lasts` seconds while all the
    blocks are alive; not at all where there are none."""

    body: bytes
    etag: str
    blocks: tuple[Block, ...] | None = None
    lasts: float = inf


class Bars:
    """Reads bars for requests."""

    def __init__(self, database: Database, follower: Follower, cover: Cover) -> None:
        self.database = database
        self.follower = follower
        self.cover = cover

    async def read(self, query: BarsQuery) -> Answer:
        """The answer to a request for JSON; ApiError 404, 503."""
        query = await self.bounded(query)
        for _ in range(TRIES):
            if not self.follower.fresh or not self.cover.keeps:
                break
            spoiled, answer = await self.cached(query)
            if answer is not None:
                return answer
            if not spoiled:
                break
        return self.answer(query, *await self.direct(query))

    async def bounded(self, query: BarsQuery) -> BarsQuery:
        """The query with its bounds on bucket starts, `hi` being the database's now where none was given."""
        if query.hi is None and self.follower.look is None:
            await self.follower.ask()
        hi = int(self.follower.clock()) + 1 if query.hi is None else query.hi
        lo, hi = query.interval.ceil(query.lo), query.interval.ceil(hi)
        return replace(query, lo=lo, hi=max(lo, hi))

    async def cached(self, query: BarsQuery) -> tuple[bool, Answer | None]:
        """The answer out of blocks, if few suffice; else whether that was because a revision came between."""
        assert query.hi is not None
        assert query.limit is not None
        series = query.symbol, query.interval.name
        need, lo = query.limit + 1, query.lo
        void = self.cover.store.void(series)
        if void is not None and void.lo <= lo < void.hi:
            lo = min(void.hi, query.hi)
        for factor in (1, WIDER):
            span = window(query.interval, lo, query.hi, min(need * factor, max(need, 64 * PAGE)), query.backwards)
            blocks = await self.cover.blocks(query.interval, query.symbol, *span) if span[0] < span[1] else []
            pieces = tiled(blocks, span)
            if pieces is None or not all(block.alive for block in blocks):
                return True, None
            if span == (lo, query.hi) or sum(j - i for _, i, j in pieces) >= need:
                used = blocks if void is None else [*blocks, void]
                return False, joined(query, chosen(pieces, need, query.backwards), used)
        return False, None

    async def direct(self, query: BarsQuery) -> tuple[list[Row], Look]:
        """One bar more than asked for, as found from its end of the span, and the look of the same snapshot."""
        assert query.hi is not None
        assert query.limit is not None
        limit, null, backwards = query.limit + 1, NULLS[query.format], query.backwards
        span = first_window(query.interval, query.lo, query.hi, limit, backwards)
        left = after_window(span, (query.lo, query.hi), backwards)
        asked = time.monotonic()
        async with self.database.snapshot() as snapshot:
            [news], [[known]], found = await snapshot.fetch_all(
                (Q["look"], {"seen": Int8(self.follower.rev)}),
                (Q["symbol_state"], {"symbol": query.symbol}),
                bars_query(query.interval, query.symbol, span, limit, backwards, null),
                last=left is None,
            )
            if not known:
                raise unknown_symbol(query.symbol)
            if left is not None and len(found) < limit:
                part = (left, limit - len(found))
                found += await rest(snapshot, query.interval, query.symbol, *part, backwards, null)
        seen = look(news)
        self.follower.hear(seen, asked)
        self._note_void(query, found, seen)
        return found, seen

    def _note_void(self, query: BarsQuery, found: list[Row], seen: Look) -> None:
        """Remember where the series has no bars below the first found, so that nobody looks there again."""
        assert query.hi is not None
        assert query.limit is not None
        if query.backwards and len(found) > query.limit:
            return
        first = query.hi if not found else found[-1 if query.backwards else 0][0]
        hi = min(first, closed_before(query.interval, seen))
        current = self.follower.look
        if current is not None and (current.epoch, current.rev) == (seen.epoch, seen.rev) and query.lo < hi:
            self.cover.store.put_void(block((query.symbol, query.interval.name), query.lo, hi, [], hi))

    def answer(self, query: BarsQuery, found: list[Row], news: Look) -> Answer:
        """The JSON of bars as `direct` found them."""
        assert query.limit is not None
        more, found = len(found) > query.limit, found[: query.limit]
        if query.backwards and query.order == "asc":
            found.reverse()
        lines = rows(found, closed_before(query.interval, news))
        head, tail = _frame(query, more, found[-1][0] if found else None)
        body = head + b",".join(lines) + tail
        return Answer(body, etag_of(body))


def tiled(blocks: Sequence[Block], span: Window) -> list[Piece] | None:
    """The bars of a span, ascending, out of blocks that may overlap; None where they leave a hole."""
    pieces: list[Piece] = []
    at, hi = span
    for part in sorted(blocks, key=lambda block: (block.lo, -block.hi)):
        if at < hi and part.hi > at:
            if part.lo > at:
                return None
            pieces.append((part, *part.between(at, min(hi, part.hi))))
            at = part.hi
    return pieces if at >= hi else None


def chosen(pieces: list[Piece], need: int, backwards: bool) -> list[Piece]:
    """At most `need` bars from one end, still ascending."""
    result: list[Piece] = []
    for part, i, j in reversed(pieces) if backwards else pieces:
        count = min(need, j - i)
        need -= count
        if count:
            result.append((part, j - count, j) if backwards else (part, i, i + count))
    return result[::-1] if backwards else result


def joined(query: BarsQuery, pieces: list[Piece], blocks: Sequence[Block]) -> Answer:
    """The JSON of pieces that hold at most one bar more than asked for."""
    assert query.limit is not None
    more = sum(j - i for _, i, j in pieces) > query.limit
    pieces = chosen(pieces, query.limit, query.backwards) if more else pieces
    last = None
    if pieces:
        part, i, j = pieces[0] if query.order == "desc" else pieces[-1]
        last = part.starts[i if query.order == "desc" else j - 1]
    head, tail = _frame(query, more, last)
    bars = b"".join(_descending(pieces) if query.order == "desc" else _ascending(pieces))
    tags = (b"%s:%d:%d" % (part.tag, i, j) for part, i, j in pieces)
    closed = tuple(part for part in blocks if part.closed)
    return Answer(head + bars[:-1] + tail, etag_of(query.order.encode(), head, *tags, tail), closed,
                  inf if len(closed) == len(blocks) else OPEN_FOR)  # fmt: skip


def _ascending(pieces: list[Piece]) -> Iterator[bytes]:
    return (part.body[part.cuts[i] : part.cuts[j]] for part, i, j in pieces)


def _descending(pieces: list[Piece]) -> Iterator[bytes]:
    for part, i, j in reversed(pieces):
        yield from (part.body[part.cuts[n] : part.cuts[n + 1]] for n in range(j - 1, i - 1, -1))


def _frame(query: BarsQuery, more: bool, last: int | None) -> tuple[bytes, bytes]:
    """What stands before and after the bars; `last` is the bucket of the last one."""
    cursor = "null"
    # The newest bars in ascending order end at the end: nothing follows them.
    if more and last is not None and not (query.newest and query.order == "asc"):
        cursor = f'"{make_cursor(query, last if query.order == "desc" else query.interval.after(last))}"'
    head = f'{{"symbol":"{query.symbol}","interval":"{query.interval.name}","bars":['
    return head.encode(), f'],"next_cursor":{cursor}}}'.encode()


def etag_of(*parts: bytes) -> str:
    """An ETag that is equal only where all parts are."""
    digest = blake2b(digest_size=12)
    for part in parts:
        digest.update(part)
    return f'"{digest.hexdigest()}"'
