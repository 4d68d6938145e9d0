"""What a batch is made of: holds on partitions, consecutive records of one, and what became no row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from barwright.ingest.decode import Decoder, native
from barwright.ingest.states import Topic


@dataclass(eq=False)
class Claim:
    """This process's hold on a partition from one assignment to its end.

    `generation` fences it in the database; `next` is the offset to be read next, `begun` where it began, `doubted` the
    first offset that was read beyond that; `lost` says that what is still in hand must be dropped. `slow_until` is the
    monotonic time up to which its batches take the slow path. `state` is the state machine of a topic with history.
    """

    topic: str
    partition: int
    topic_id: UUID
    generation: int
    next: int
    decoder: Decoder = native
    state: Topic | None = None
    lost: bool = False
    begun: int = 0
    doubted: int = -1
    landed: int = 0
    slow_until: float = 0.0

    def doubts(self, first: int) -> bool:
        """Whether the first records, from offset `first` on, are to be read once more, since those before are missing.

        The log may have none there: control records, or it is compacted. Then they begin there again. Or the client was
        not where it was put, as librdkafka was not in 1 of 233 members: assigned at a log's end, on a busy machine.
        """
        if self.next > self.begun or first in (self.next, self.doubted):
            return False
        self.doubted = first
        return True

    def lose(self) -> None:
        """It is no longer ours."""
        self.lost = True
        if self.state:
            self.state.leave()


class Unreadable(bytes):
    """The value of a record that a client could not give us, or not whole: what there is of it, and why."""

    reason = ""


@dataclass(frozen=True)
class Chunk:
    """Consecutive records (offset, value) of one claim: `begin` is where the one before ended."""

    claim: Claim
    begin: int
    records: Sequence[tuple[int, bytes | None]]

    @property
    def end(self) -> int:
        """The offset after the last record."""
        return self.records[-1][0] + 1


@dataclass(frozen=True)
class Letter:
    """An item that became no row."""

    claim: Claim
    offset: int
    item: int
    reason: str
    raw: bytes


@dataclass
class Span:
    """How far a batch carries one claim: positions from `begin` to `end`, and the rows found between."""

    begin: int
    end: int
    rows: int = 0
