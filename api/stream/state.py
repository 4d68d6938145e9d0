"""What one snapshot says of a series from its watermark on, and how one state follows another."""

from asyncio import Event
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from barwright.api.database import Row
from barwright.api.encode import Style, rows

RING = 16  # bars that closed last and stay at hand: a client rarely lags more than one turn of the bucket


class Bar:
    """A row of query `bars`, and its JSON, made once for all who are sent it."""

    __slots__ = ("_digest", "_lines", "bucket", "row")

    def __init__(self, row: Row) -> None:
        self.row = row
        self.bucket: int = row[0]
        self._digest = ""
        self._lines: dict[tuple[Style, bool], bytes] = {}

    @property
    def digest(self) -> str:
        """What tells this state of the bucket from every other: 48 bits."""
        if not self._digest:
            self._digest = blake2b("|".join(map(str, self.row)).encode(), digest_size=6).hexdigest()
        return self._digest

    def line(self, style: Style, closed: bool) -> bytes:
        """The bar as JSON."""
        found = self._lines.get((style, closed))
        if found is None:
            found = self._lines[style, closed] = rows([self.row], self.bucket + closed, style)[0]
        return found


@dataclass(frozen=True, slots=True)
class State:
    """The bars of a series from `lo` on, as of one snapshot: closed below `edge`, open from there on.

    `turn` grows when the database went back (a restore, another epoch): nothing sent before holds. `asked` is the
    monotonic time before the snapshot. `newer` is set when there is a state with something new.
    """

    epoch: str
    rev: int
    edge: int
    lo: int
    bars: tuple[Bar, ...]
    asked: float
    turn: int = 0
    newer: Event = field(default_factory=Event, compare=False, repr=False)

    def between(self, lo: int, hi: int | None = None) -> list[Bar]:
        """The bars of [lo, hi)."""
        return [bar for bar in self.bars if lo <= bar.bucket and (hi is None or bar.bucket < hi)]


def following(old: State | None, new: State, touched: bool) -> State:
    """The state after `old` of a snapshot that read from `new.lo` on. `touched`: a revision since `old` changed bars
    below its edge, perhaps. Where there is nothing new it shares `newer` with `old`."""
    if old is None:
        return new
    if old.epoch != new.epoch or new.rev < old.rev or new.edge < old.edge:
        return replace(new, turn=old.turn + 1)
    bars = _kept(old.bars, new.bars)
    lo = new.lo
    if not touched and old.lo < lo <= old.edge:
        bars, lo = [*(bar for bar in old.bars if bar.bucket < lo), *bars], old.lo
    closed = sum(bar.bucket < new.edge for bar in bars)
    if closed > RING:
        bars = bars[closed - RING :]
        lo = bars[0].bucket
    same = not touched and old.edge == new.edge and old.between(old.edge) == [b for b in bars if b.bucket >= new.edge]
    return State(new.epoch, new.rev, new.edge, lo, tuple(bars), new.asked, old.turn, old.newer if same else new.newer)


def _kept(old: Iterable[Bar], new: Sequence[Bar]) -> list[Bar]:
    """The new bars, those that have not changed being the old objects."""
    known = {bar.bucket: bar for bar in old}
    return [found if (found := known.get(bar.bucket)) is not None and found.row == bar.row else bar for bar in new]
