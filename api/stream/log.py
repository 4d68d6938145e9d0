"""The newest revisions, in memory: which closed bars changed between two looks at the database."""

from collections import deque
from itertools import takewhile

from barwright.api.database import Change, Look

Revised = tuple[int, int, int]  # a revision of one symbol: rev, and the seconds [from, to) whose closed bars changed
KEPT = 10_000  # revisions; a subscription that is further behind asks the database


class Log:
    """Every revision in (floor, top] that this process has heard of; None while it knows no bounds."""

    def __init__(self) -> None:
        self.floor: int | None = None
        self.top = 0
        self.changes: deque[Change] = deque()

    def heard(self, changes: list[Change] | None) -> None:
        """Revisions that follow the last one without a hole, or None where it is not known what changed."""
        if changes is None:
            self.floor = None
            self.changes.clear()
            return
        for change in changes:
            self.changes.append(change)
            self.top = change[0]
        while len(self.changes) > KEPT:
            self.floor = self.changes.popleft()[0]

    def looked(self, look: Look) -> None:
        """What the follower knows now: where the log begins, if that was lost."""
        if self.floor is None:
            self.floor = self.top = look.rev

    def between(self, symbol: str, after: int, upto: int) -> list[Revised] | None:
        """The revisions of a symbol in (after, upto]; None where the log does not hold all of them."""
        if after >= upto:
            return []
        if self.floor is None or after < self.floor or upto > self.top:
            return None
        recent = takewhile(lambda change: change[0] > after, reversed(self.changes))
        return [(rev, lo, hi) for rev, name, lo, hi in recent if name == symbol and rev <= upto]
