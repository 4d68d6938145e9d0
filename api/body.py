"""Answers written: JSON of bars or of columns, of one symbol or of several."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import chain
from math import inf

import msgspec

from barwright.api.blocks import Block
from barwright.api.cover import OPEN_FOR
from barwright.api.coverage import Summary, Verdict, judge, told
from barwright.api.encode import FIELDS
from barwright.api.params import BarsQuery, make_cursor
from barwright.api.pieces import Picked, chosen
from barwright.api.span import Window


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of an answer, its ETag, the span it answers for and whether that is complete, and what keeps it true: it
    may be sent again for `lasts` seconds while all that `rests` names is alive; not at all where there is nothing.

    `closed`: no bucket of its span is open. `next`: the bucket at which the next page goes on. `since`: the epoch and
    the revision it is of."""

    body: bytes
    etag: str
    rests: tuple[Block | Summary, ...] | None = None
    lasts: float = inf
    complete: bool | None = None
    span: Window = (0, 0)
    closed: bool = False
    next: int | None = None
    since: tuple[str, int] = ("", 0)


def answer(query: BarsQuery, picked: Picked) -> Answer:
    """The JSON of at most one bar more than asked for, with what is known of their span."""
    assert query.limit is not None
    more = len(picked) > query.limit
    if more:
        picked = replace(picked, pieces=chosen(picked.pieces, query.limit, query.backwards))
    descending = query.order == "desc"
    ends = ((picked.last, picked.first) if descending else (picked.first, picked.last)) if len(picked) else None
    span = answered(query, more, ends)
    reach = span[0], query.interval.reach(*span)
    verdict = judge(picked.known, query.interval, *reach, picked.clock)
    place = _next(query, more, ends)
    head, tail = _frame(query, place, verdict)
    since = picked.known.epoch, picked.known.rev
    bars = (picked.reversed if descending else picked.body)[:-1]
    bars = _columns(bars) if query.format == "columns" else b"[%s]" % bars
    # Of the bytes, not of where they come from: 0.1 ms, and every process and every way to them gives the same.
    etag = etag_of(head, bars, tail)
    body = head + bars + tail + _since(since)
    rests, lasts = _kept(picked, span)
    closed = span[1] <= picked.edge
    return Answer(body, etag, rests, lasts, verdict.complete, reach, closed, place, since)


def together(query: BarsQuery, parts: Sequence[Answer]) -> Answer:
    """The answers for several symbols as one."""
    places = [part.next for part in parts]
    cursor = "null" if places.count(None) == len(places) else f'"{make_cursor(query, *places)}"'
    head = f'{{"interval":"{query.interval.name}"{_echo(query)},"series":['.encode()
    tail = f'],"next_cursor":{cursor}}}'.encode()
    rests = [part.rests for part in parts if part.rests is not None]
    said = {part.complete for part in parts}
    epochs = {part.since[0] for part in parts}
    return Answer(
        body=head + b",".join(part.body for part in parts) + tail,
        etag=etag_of(head, *(part.etag.encode() for part in parts), tail),
        rests=tuple(chain.from_iterable(rests)) if len(rests) == len(parts) else None,
        lasts=min(part.lasts for part in parts),
        complete=False if False in said else None if None in said else True,
        span=(min(part.span[0] for part in parts), max(part.span[1] for part in parts)),
        closed=all(part.closed for part in parts),
        since=(epochs.pop() if len(epochs) == 1 else "", min(part.since[1] for part in parts)),
    )


def answered(query: BarsQuery, more: bool, ends: tuple[int, int] | None) -> Window:
    """The span that an answer answers for, in whole buckets: as asked, but where bars are counted only as far as they
    reach. `ends` are the buckets of its first and last bar."""
    assert query.hi is not None
    if query.backwards:
        return min(ends) if ends and (more or query.newest) else query.lo, query.hi
    return query.lo, query.interval.after(ends[1]) if ends and more else query.hi


def _kept(picked: Picked, span: Window) -> tuple[tuple[Block | Summary, ...] | None, float]:
    """What keeps an answer true, and for how long."""
    if picked.used is None:
        return None, inf
    closed = tuple(part for part in picked.used if part.closed)
    return (*closed, picked.known), min(
        picked.known.until - time.monotonic(),
        inf if len(closed) == len(picked.used) else OPEN_FOR,
        # At the turn of a minute more must be covered.
        60 - picked.clock % 60 if span[1] > picked.clock else inf,
    )


def _next(query: BarsQuery, more: bool, ends: tuple[int, int] | None) -> int | None:
    """Where the next page goes on; `ends` are the buckets of the first and last bar as they are sent."""
    # The newest bars in ascending order end at the end: nothing follows them.
    if not more or not ends or (query.newest and query.order == "asc"):
        return None
    return ends[1] if query.order == "desc" else query.interval.after(ends[1])


def _frame(query: BarsQuery, place: int | None, verdict: Verdict) -> tuple[bytes, bytes]:
    """What stands before and after the bars."""
    cursor = "null" if place is None else f'"{make_cursor(query, place)}"'
    name = "columns" if query.format == "columns" else "bars"
    head = f'{{"symbol":"{query.symbol}","interval":"{query.interval.name}"{_echo(query)},"{name}":'
    return head.encode(), f',"next_cursor":{cursor},"coverage":'.encode() + told(verdict)


def _echo(query: BarsQuery) -> str:
    """What else was asked for of the buckets."""
    said = {"tz": query.tz, "session": query.session, "fill": None if query.fill == "none" else query.fill}
    return "".join(f',"{name}":"{value}"' for name, value in said.items() if value is not None)


def _since(since: tuple[str, int]) -> bytes:
    """The end of an answer: the revision it is of, which its ETag does not count."""
    return f',"rev":"{revision(*since)}"}}'.encode()


def revision(epoch: str, rev: int) -> str:
    """The name of a revision; whoever sends it back as `rev` may be told to keep the answer."""
    return f"{epoch[:8]}-{rev}"


_Bar = msgspec.defstruct("_Bar", [(name, msgspec.Raw) for name in (*FIELDS, "closed")])
_bars = msgspec.json.Decoder(list[_Bar]).decode  # type: ignore[valid-type]


def _columns(bars: bytes) -> bytes:
    """The JSON of an array for each field, every value as it is."""
    found = _bars(b"[%s]" % bars)
    columns = (
        b'"%s":[%s]' % (name.encode(), b",".join(getattr(bar, name) for bar in found)) for name in (*FIELDS, "closed")
    )
    return b"{%s}" % b",".join(columns)


def etag_of(*parts: bytes) -> str:
    """An ETag that is equal only where all parts are."""
    digest = blake2b(digest_size=12)
    for part in parts:
        digest.update(part)
    return f'"{digest.hexdigest()}"'
