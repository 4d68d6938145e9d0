"""The blocks this process keeps, most recently used last, and how a revision reaches them."""

from collections import OrderedDict
from collections.abc import Iterable

from barwright.api.blocks import Block, Series
from barwright.api.database import Change

Key = tuple[Series, int]  # the block begins here
EMPTY_COST = 20  # bars' worth of memory that a block costs by itself


class Store:
    """Closed blocks by series and start, at most `capacity` bars of them."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.size = 0
        self.blocks: OrderedDict[Key, Block] = OrderedDict()
        self.keys: dict[str, set[Key]] = {}  # by symbol, for revisions
        self.voids: OrderedDict[Series, Block] = OrderedDict()

    def get(self, series: Series, lo: int) -> Block | None:
        """The block that begins at `lo`."""
        found = self.blocks.get((series, lo))
        if found is not None:
            self.blocks.move_to_end((series, lo))
        return found

    def put(self, block: Block) -> None:
        """Keep a block, instead of a shorter one of the same start."""
        key = (block.series, block.lo)
        old = self.blocks.get(key)
        if len(block) + EMPTY_COST > self.capacity:
            return
        if old is not None:
            if old.hi > block.hi:
                return
            self._drop(key)
        self.blocks[key] = block
        block.tracked = True
        self.keys.setdefault(block.series.symbol, set()).add(key)
        self.size += len(block) + EMPTY_COST
        while self.size > self.capacity:
            self._drop(next(iter(self.blocks)))

    def void(self, series: Series) -> Block | None:
        """A span of the series that is known to hold no bar."""
        return self.voids.get(series)

    def put_void(self, block: Block) -> None:
        """Remember that a span holds no bar, the wider one of two."""
        old = self.voids.get(block.series)
        if old is None or block.hi - block.lo > old.hi - old.lo:
            if old is not None:
                old.tracked = False
            block.tracked = True
            self.voids[block.series] = block
            while len(self.voids) * EMPTY_COST > self.capacity:
                self.voids.popitem(last=False)[1].tracked = False

    def changed(self, changes: list[Change] | None) -> None:
        """Let go of what revisions touch; of everything where it is not known what changed."""
        if changes is None:
            _kill(self.blocks.values())
            _kill(self.voids.values())
            self.__init__(self.capacity)  # type: ignore[misc]
            return
        for _, symbol, lo, hi in changes:
            for key in [key for key in self.keys.get(symbol, ()) if _touches(self.blocks[key], lo, hi)]:
                self.blocks[key].alive = False
                self._drop(key)
            for series in [s for s, block in self.voids.items() if s.symbol == symbol and _touches(block, lo, hi)]:
                self.voids.pop(series).alive = False

    def _drop(self, key: Key) -> None:
        block = self.blocks.pop(key)
        block.tracked = False
        self.size -= len(block) + EMPTY_COST
        keys = self.keys[block.series.symbol]
        keys.discard(key)
        if not keys:
            del self.keys[block.series.symbol]


def _touches(block: Block, lo: int, hi: int) -> bool:
    return block.lo < hi and lo < block.until


def _kill(blocks: Iterable[Block]) -> None:
    for block in blocks:
        block.alive = False
