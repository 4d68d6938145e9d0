"""Pieces of blocks, tiled and chosen: the bars of an answer before they are written."""

from collections.abc import Sequence
from dataclasses import dataclass

from barwright.api.blocks import Block
from barwright.api.coverage import Summary
from barwright.api.span import Window

Piece = tuple[Block, int, int]  # bars [from, to) of a block


@dataclass(frozen=True, slots=True)
class Picked:
    """Bars as they were found, ascending, and what else is known as of the same revision.

    `used` is what they rest on, None where nothing keeps them true; bars before `edge` are closed; `clock` is the
    database's, in seconds.
    """

    pieces: list[Piece]
    known: Summary
    edge: int
    clock: float
    used: tuple[Block, ...] | None

    def __len__(self) -> int:
        return sum(j - i for _, i, j in self.pieces)

    @property
    def first(self) -> int:
        """The bucket of the first bar."""
        part, i, _ = self.pieces[0]
        return part.starts[i]

    @property
    def last(self) -> int:
        """The bucket of the last bar."""
        part, _, j = self.pieces[-1]
        return part.starts[j - 1]

    @property
    def body(self) -> bytes:
        """The bars as JSON, a comma after each."""
        return b"".join(part.body[part.cuts[i] : part.cuts[j]] for part, i, j in self.pieces)

    @property
    def reversed(self) -> bytes:
        """The same, descending."""
        return b"".join(
            part.body[part.cuts[n] : part.cuts[n + 1]]
            for part, i, j in reversed(self.pieces)
            for n in range(j - 1, i - 1, -1)
        )

    @property
    def starts(self) -> list[int]:
        """The buckets."""
        return [start for part, i, j in self.pieces for start in part.starts[i:j]]


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
