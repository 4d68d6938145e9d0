"""Faults on request: what the exchange does wrong, to which share of what, and until when."""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import blake2b
from typing import Annotated, Any, Final, Literal, get_args

from msgspec import Meta, Struct, structs

Kind = Literal["cut", "silent", "error", "garbage", "truncated", "slow", "lose", "repeat", "delay", "reorder", "revise"]
KINDS: Final[tuple[str, ...]] = get_args(Kind)
# Seconds that a message is held back, or an answer, where the request does not say.
_HELD: Final = {"slow": 2.0, "delay": 60.0, "reorder": 0.5, "repeat": 1.0}


class Fault(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A fault as it is asked for. Random choices depend on `seed` and on what they are about.

    cut: every socket (a share of them) is cut at once, and for `seconds` new ones are too; `announce`: said before.
    silent: no frame for `seconds`, sockets stay open. error, garbage, truncated, slow: answers of REST.
    lose, repeat, delay, reorder: trades on the stream; `delay`: how many seconds at most.
    revise: the history of [start, end), of a share of its minutes, is another from now on; `seconds` means nothing.
    """

    kind: Kind
    seconds: Annotated[float, Meta(ge=0)] = 10.0
    share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    seed: int = 1
    market: str | None = None
    symbol: str | None = None
    status: Annotated[int, Meta(ge=400, le=599)] = 500
    delay: Annotated[float, Meta(gt=0)] | None = None
    announce: bool = False
    start: str | None = None
    end: str | None = None

    def chance(self, *about: object) -> float:
        """A number in [0, 1) that depends on the seed and on what it is about."""
        text = "\0".join(map(str, (self.seed, self.kind, *about)))
        return int.from_bytes(blake2b(text.encode(), digest_size=6).digest()) / 2**48

    def hits(self, *about: object) -> bool:
        """Whether this is of the share that the fault befalls."""
        return self.share == 1 or self.chance(*about) < self.share

    def held(self, *about: object) -> float:
        """Seconds that something is held back: for delay at least half of what is asked for, for slow all of it."""
        most = self.delay or _HELD[self.kind]
        least = {"slow": 1.0, "delay": 0.5}.get(self.kind, 0.0)
        return most * (least + (1 - least) * self.chance("held", *about))


class Active(Struct):
    """A fault that is on: its number and when it ends (seconds since 1970)."""

    id: int
    until: float
    fault: Fault

    def to_dict(self) -> dict[str, Any]:
        """As it is told."""
        return {"id": self.id, "until": self.until} | structs.asdict(self.fault)


class Faults:
    """The faults that are on."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._active: list[Active] = []
        self._last = 0

    def add(self, fault: Fault) -> Active:
        """Turn one on."""
        self._last += 1
        active = Active(self._last, self._clock() + fault.seconds, fault)
        self._active = [*self.all(), active]
        return active

    def all(self) -> list[Active]:
        """Those that are on."""
        if self._active:
            now = self._clock()
            self._active = [active for active in self._active if active.until > now]
        return self._active

    def on(self, *kinds: Kind, market: str | None = None) -> list[Fault]:
        """Those of some kinds that befall a market."""
        if not self._active:
            return []
        faults = (active.fault for active in self.all())
        return [fault for fault in faults if fault.kind in kinds and fault.market in (None, market)]

    def clear(self) -> None:
        """Turn all off."""
        self._active = []
