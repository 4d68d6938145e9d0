"""Blocks: encoded bars of one symbol and interval over a span of time, ready to be sliced and joined.

A *page* is a block over an aligned span of buckets (`Interval.page`) that is wholly closed. A shorter block of closed
bars ends at the watermark; an open one goes on to the end of time.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import accumulate, pairwise

import msgspec

from barwright.api.database import Row
from barwright.api.encode import PLAIN, Style
from barwright.api.encode import rows as encoded
from barwright.api.intervals import Interval

MOST_BYTES = 4 * 2**20  # of a page in Redis; 3,000 bars with every digit are 1 MB


@dataclass(frozen=True, slots=True)
class Series:
    """The bars of one symbol and interval in one style: what blocks are kept by."""

    symbol: str
    name: str
    interval: Interval = field(compare=False, repr=False)
    style: Style = field(compare=False, repr=False)


def series(symbol: str, interval: Interval, style: Style = PLAIN) -> Series:
    """A series with its name, which Redis knows too."""
    return Series(symbol, f"{interval.key}|{style.name}" if style.name else interval.key, interval, style)


@dataclass(slots=True, eq=False)
class Block:
    """Bars whose buckets start in [lo, hi) seconds.

    `alive` ends when a revision changes one of them; only while the store has the block (`tracked`) does that happen.
    What is known of an open block (not `closed`) is as of its snapshot, asked for at the monotonic time `asked`: bars
    before `edge` are closed.
    """

    series: Series
    lo: int
    hi: int
    starts: "array[int]" = field(repr=False)
    cuts: "array[int]" = field(repr=False)  # bar n is body[cuts[n]:cuts[n + 1]], its comma included
    body: bytes = field(repr=False)
    closed: bool = True
    alive: bool = True
    tracked: bool = False
    asked: float = 0.0
    edge: int = 0

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def until(self) -> int:
        """Where what its bars are made of has ended."""
        return self.hi + self.series.interval.calendar.overhang

    def between(self, lo: int, hi: int) -> tuple[int, int]:
        """The positions of the bars that start in [lo, hi)."""
        return bisect_left(self.starts, lo), bisect_left(self.starts, hi)


class SpoiledError(ValueError):
    """A stored page that is not what its key says."""


def block(series: Series, lo: int, hi: int, found: Sequence[Row], closed_before: int) -> Block:
    """A block of rows of query `bars`, ascending; it is closed where its end is."""
    lines = [line + b"," for line in encoded(found, closed_before, series.style)]
    return of_lines(series, lo, hi, (row[0] for row in found), lines, closed_before)


def of_lines(series: Series, lo: int, hi: int, starts: Iterable[int], lines: list[bytes], edge: int) -> Block:
    """A block of bars that are encoded already, a comma after each."""
    cuts = array("I", accumulate(map(len, lines), initial=0))
    return Block(series, lo, hi, array("q", starts), cuts, b"".join(lines), hi <= edge, edge=edge)


def split(series: Series, lo: int, hi: int, found: Sequence[Row], watermark: int) -> list[Block]:
    """The rows of [lo, hi) as blocks: whole pages, then what is closed of the next page, then what is open."""
    edges, interval = [lo], series.interval
    while (end := interval.page_span(interval.page(edges[-1]))[1]) <= min(hi, watermark):
        edges.append(end)
    edges += sorted({min(hi, max(watermark, edges[-1])), hi} - {edges[-1]})
    starts = [row[0] for row in found]
    cuts = [bisect_left(starts, edge) for edge in edges]
    return [
        block(series, edges[n], edges[n + 1], found[cuts[n] : cuts[n + 1]], watermark) for n in range(len(edges) - 1)
    ]


def extended(old: Block, more: Block) -> Block:
    """A closed block and the one that follows it, as one."""
    assert old.hi == more.lo
    cuts = old.cuts + array("I", (old.cuts[-1] + cut for cut in more.cuts[1:]))
    return Block(old.series, old.lo, more.hi, old.starts + more.starts, cuts, old.body + more.body, edge=more.edge)


_Stored = tuple[str, int, int, bytes, bytes, bytes]  # key, lo, hi, starts, cuts, body
_decoder = msgspec.msgpack.Decoder(_Stored)


def dump(key: str, page: Block) -> bytes:
    """A page as Redis keeps it: with its key and a checksum."""
    packed = msgspec.msgpack.encode((key, page.lo, page.hi, page.starts.tobytes(), page.cuts.tobytes(), page.body))
    return blake2b(packed, digest_size=16).digest() + packed


def parse(key: str, series: Series, span: tuple[int, int], value: bytes) -> Block:
    """A page out of Redis; SpoiledError when it was cut, changed, or belongs to another key."""
    if len(value) > MOST_BYTES or blake2b(value[16:], digest_size=16).digest() != value[:16]:
        raise SpoiledError(key)
    try:
        stored, lo, hi, starts, cuts, body = _decoder.decode(value[16:])
        found = Block(series, lo, hi, _array("q", starts), _array("I", cuts), body)
    except (msgspec.DecodeError, ValueError) as error:
        raise SpoiledError(key) from error
    sound = len(found.cuts) == len(found) + 1 and found.cuts[-1] == len(body) and found.cuts[0] == 0
    if stored != key or (lo, hi) != span or not sound or not _ordered(found):
        raise SpoiledError(key)
    return found


def _ordered(page: Block) -> bool:
    """Whether its bars lie in its span and in order."""
    inside = not page.starts or page.lo <= page.starts[0] <= page.starts[-1] < page.hi
    return inside and all(a < b for part in (page.starts, page.cuts) for a, b in pairwise(part))


def _array(code: str, data: bytes) -> "array[int]":
    result = array(code)
    result.frombytes(data)
    return result
