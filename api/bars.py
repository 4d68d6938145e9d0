"""Answers to requests for bars."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from math import inf

from psycopg.types.numeric import Int8

from barwright.api.blocks import PAGE, Block, block
from barwright.api.cover import OPEN_FOR, Cover, closed_before
from barwright.api.coverage import Summary, Verdict, judge, summary, told
from barwright.api.coverages import Coverages
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
    """The body of an answer, its ETag, the span it answers for and whether that is complete, and what keeps it true: it
    may be sent again for `lasts` seconds while all that `rests` names is alive; not at all where there is nothing."""

    body: bytes
    etag: str
    rests: tuple[Block | Summary, ...] | None = None
    lasts: float = inf
    complete: bool | None = None
    span: Window = (0, 0)


@dataclass(frozen=True, slots=True)
class Found:
    """One bar more than asked for where there are more, as found from its end of the span, and what else the same
    snapshot says."""

    rows: list[Row]
    look: Look
    known: Summary


class Bars:
    """Reads bars for requests."""

    def __init__(self, database: Database, follower: Follower, cover: Cover, coverages: Coverages) -> None:
        self.database = database
        self.follower = follower
        self.cover = cover
        self.coverages = coverages

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
        return self.answer(query, await self.direct(query))

    async def bounded(self, query: BarsQuery) -> BarsQuery:
        """The query with its bounds on bucket starts, `hi` being the database's now where none was given."""
        if query.hi is None and self.follower.look is None:
            await self.follower.ask()
        hi = int(self.follower.clock()) + 1 if query.hi is None else query.hi
        lo, hi = query.interval.ceil(query.lo), query.interval.ceil(hi)
        return replace(query, lo=lo, hi=max(lo, hi))

    async def cached(self, query: BarsQuery) -> tuple[bool, Answer | None]:
        """The answer out of blocks, if few suffice; else whether that was because something newer came between."""
        assert query.hi is not None
        assert query.limit is not None
        known = await self.coverages.of(query.symbol)
        series = query.symbol, query.interval.name
        need, lo = query.limit + 1, query.lo
        void = self.cover.store.void(series)
        if void is not None and void.lo <= lo < void.hi:
            lo = min(void.hi, query.hi)
        for factor in (1, WIDER):
            span = window(query.interval, lo, query.hi, min(need * factor, max(need, 64 * PAGE)), query.backwards)
            blocks = (
                await self.cover.blocks(query.interval, query.symbol, *span, known.heard) if span[0] < span[1] else []
            )
            pieces = tiled(blocks, span)
            if pieces is None or not known.alive or not all(beside(block, known) for block in blocks):
                return True, None
            if span == (lo, query.hi) or sum(j - i for _, i, j in pieces) >= need:
                used = blocks if void is None else [*blocks, void]
                return False, joined(query, chosen(pieces, need, query.backwards), used, known, self.follower.clock())
        return False, None

    async def direct(self, query: BarsQuery) -> Found:
        """One bar more than asked for out of one snapshot."""
        assert query.hi is not None
        assert query.limit is not None
        limit, null, backwards = query.limit + 1, NULLS[query.format], query.backwards
        span = first_window(query.interval, query.lo, query.hi, limit, backwards)
        left = after_window(span, (query.lo, query.hi), backwards)
        asked = time.monotonic()
        async with self.database.snapshot() as snapshot:
            [news], coverage, found = await snapshot.fetch_all(
                (Q["look"], {"seen": Int8(self.follower.rev)}),
                (Q["coverage"], {"symbol": query.symbol}),
                bars_query(query.interval, query.symbol, span, limit, backwards, null),
                last=left is None,
            )
            if not coverage:
                raise unknown_symbol(query.symbol)
            if left is not None and len(found) < limit:
                part = (left, limit - len(found))
                found += await rest(snapshot, query.interval, query.symbol, *part, backwards, null)
        seen = look(news)
        self.follower.hear(seen, asked)
        self._note_void(query, found, seen)
        return Found(found, seen, summary(query.symbol, coverage[0], seen))

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

    def answer(self, query: BarsQuery, found: Found) -> Answer:
        """The JSON of bars as `direct` found them."""
        assert query.limit is not None
        more, bars = len(found.rows) > query.limit, found.rows[: query.limit]
        if query.backwards and query.order == "asc":
            bars.reverse()
        ends = (bars[0][0], bars[-1][0]) if bars else None
        span = answered(query, more, ends)
        verdict = judge(found.known, query.interval, *span, found.look.clock)
        head, tail = _frame(query, more, ends, verdict)
        body = head + b",".join(rows(bars, closed_before(query.interval, found.look))) + tail
        return Answer(body, etag_of(body), complete=verdict.complete, span=span)


def answered(query: BarsQuery, more: bool, ends: tuple[int, int] | None) -> tuple[int, int]:
    """The span that an answer answers for, in whole buckets: as asked, but where bars are counted only as far as they
    reach. `ends` are the buckets of its first and last bar."""
    assert query.hi is not None
    if query.backwards:
        return min(ends) if ends and (more or query.newest) else query.lo, query.hi
    return query.lo, query.interval.after(ends[1]) if ends and more else query.hi


def beside(block: Block, known: Summary) -> bool:
    """Whether a block may stand beside this coverage: closed bars are those of its revision, open ones no older."""
    return block.alive and (block.closed or block.asked >= known.heard)


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


def joined(query: BarsQuery, pieces: list[Piece], blocks: Sequence[Block], known: Summary, clock: float) -> Answer:
    """The JSON of pieces that hold at most one bar more than asked for, with what is known of their span."""
    assert query.limit is not None
    more = sum(j - i for _, i, j in pieces) > query.limit
    pieces = chosen(pieces, query.limit, query.backwards) if more else pieces
    ends = _ends(pieces, query.order == "desc")
    span = answered(query, more, ends)
    verdict = judge(known, query.interval, *span, clock)
    head, tail = _frame(query, more, ends, verdict)
    bars = b"".join(_descending(pieces) if query.order == "desc" else _ascending(pieces))
    tags = (b"%s:%d:%d" % (part.tag, i, j) for part, i, j in pieces)
    closed = tuple(part for part in blocks if part.closed)
    lasts = min(
        known.until - time.monotonic(),
        inf if len(closed) == len(blocks) else OPEN_FOR,
        # At the turn of a minute more must be covered.
        60 - clock % 60 if span[1] > clock else inf,
    )
    etag = etag_of(query.order.encode(), head, *tags, tail)
    return Answer(head + bars[:-1] + tail, etag, (*closed, known), lasts, verdict.complete, span)


def _ends(pieces: list[Piece], descending: bool) -> tuple[int, int] | None:
    """The buckets of the first and last bar as they are sent."""
    if not pieces:
        return None
    (first, i, _), (last, _, j) = pieces[0], pieces[-1]
    ends = first.starts[i], last.starts[j - 1]
    return ends[::-1] if descending else ends


def _ascending(pieces: list[Piece]) -> Iterator[bytes]:
    return (part.body[part.cuts[i] : part.cuts[j]] for part, i, j in pieces)


def _descending(pieces: list[Piece]) -> Iterator[bytes]:
    for part, i, j in reversed(pieces):
        yield from (part.body[part.cuts[n] : part.cuts[n + 1]] for n in range(j - 1, i - 1, -1))


def _frame(query: BarsQuery, more: bool, ends: tuple[int, int] | None, verdict: Verdict) -> tuple[bytes, bytes]:
    """What stands before and after the bars; `ends` are the buckets of the first and last one."""
    cursor = "null"
    # The newest bars in ascending order end at the end: nothing follows them.
    if more and ends and not (query.newest and query.order == "asc"):
        cursor = f'"{make_cursor(query, ends[1] if query.order == "desc" else query.interval.after(ends[1]))}"'
    head = f'{{"symbol":"{query.symbol}","interval":"{query.interval.name}","bars":['
    return head.encode(), f'],"next_cursor":{cursor},"coverage":'.encode() + told(verdict) + b"}"


def etag_of(*parts: bytes) -> str:
    """An ETag that is equal only where all parts are."""
    digest = blake2b(digest_size=12)
    for part in parts:
        digest.update(part)
    return f'"{digest.hexdigest()}"'
