"""What a client of a stream has: all that another process needs to go on where it was cut."""

import re
from dataclasses import dataclass, field
from hashlib import blake2b

from barwright.api.errors import bad

MOST = 4  # parts of the closed bars an event tells apart
_PART = r"-?\d{1,12}"
_EVENT = re.compile(
    rf"([0-9a-f]{{12}})\.({_PART})((?:_\d{{1,19}}_{_PART})*)\.((?:[0-9a-f]{{1,10}}-[0-9a-f]{{12}}(?:~|$))*)", re.ASCII
)


@dataclass(slots=True)
class Position:
    """Bars from `start` on. Below `edge` they are closed: `known` are (hi, rev), ascending, up to `edge`: the bars from
    the part before up to `hi` are as of `rev`. From `edge` on, `tail` has the digest of each bar, by bucket."""

    start: int
    known: list[tuple[int, int]] = field(default_factory=list)
    tail: dict[int, str] = field(default_factory=dict)

    @property
    def edge(self) -> int:
        """Up to here bars are closed."""
        return self.known[-1][0] if self.known else self.start

    def append(self, hi: int, rev: int) -> None:
        """The closed bars from the edge up to `hi`, as of `rev`, are there too."""
        if hi <= self.edge:
            return
        if self.known and self.known[-1][1] == rev:
            self.known.pop()
        self.known.append((hi, rev))

    def renew(self, upto: int, rev: int) -> None:
        """What is closed below `upto` is as of `rev` now."""
        upto = min(upto, self.edge)
        rest = [(hi, old) for hi, old in self.known if hi > upto]
        if upto > self.start:
            rest = [(upto, rev), *rest]
        if len(rest) > 1 and rest[0][1] == rest[1][1]:
            rest = rest[1:]
        self.known = rest

    def close(self, hi: int, rev: int) -> None:
        """Bars up to `hi` have closed, as of `rev`."""
        self.append(hi, rev)
        self.tail = {bucket: digest for bucket, digest in self.tail.items() if bucket >= hi}

    def event(self, tag: str) -> str:
        """The id of the event that brings a client here."""
        known = self.known
        if len(known) > MOST:  # what is older is told as the oldest: it may be sent again, but not be missed
            known = [(known[-MOST][0], min(rev for _, rev in known[: 1 - MOST])), *known[1 - MOST :]]
        edge = self.edge
        parts = "".join(f"_{rev}_{hi}" for hi, rev in known)
        return f"{tag}.{self.start}{parts}." + "~".join(f"{b - edge:x}-{digest}" for b, digest in self.tail.items())


def tag(epoch: str, symbol: str, interval: str) -> str:
    """What an event begins with: which database, in which of its lives, and which series."""
    return epoch[:8] + blake2b(f"{symbol} {interval}".encode(), digest_size=2).hexdigest()


def position(text: str) -> tuple[str, Position]:
    """The tag and the position of an event; ApiError 400."""
    match = _EVENT.fullmatch(text)
    if match is None:
        raise bad("since", text[:200], "since is no event of a stream.", "`event` of the last message received")
    numbers = [int(part) for part in match[3].split("_")[1:]]
    known = [(hi, rev) for rev, hi in zip(numbers[::2], numbers[1::2], strict=True)]
    found = Position(int(match[2]), known)
    if any(a >= b for a, b in zip([found.start, *(hi for hi, _ in known)], (hi for hi, _ in known), strict=False)):
        raise bad("since", text[:200], "since is no event of a stream.", "`event` of the last message received")
    for part in filter(None, match[4].split("~")):
        offset, _, digest = part.partition("-")
        found.tail[found.edge + int(offset, 16)] = digest
    return match[1], found
