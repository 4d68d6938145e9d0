"""Random numbers that are a function of a counter (splitmix64), and smooth noise made of them.

Only integer arithmetic and the basic float operations, which IEEE 754 defines to the last bit: the same on every
machine.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Floats = NDArray[np.float64]

_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31, _11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


def mix(counters: Hashes) -> Hashes:
    """64 random bits for each counter."""
    bits = counters * _STEP
    bits ^= bits >> _30
    bits *= _FIRST
    bits ^= bits >> _27
    bits *= _SECOND
    bits ^= bits >> _31
    return bits


def hashes(stream: int, places: Ints) -> Hashes:
    """64 random bits for each place of a stream."""
    return mix(places.view(np.uint64) + np.uint64(stream))


def field(bits: Hashes, shift: int, width: int) -> Ints:
    """`width` of the bits from `shift` on, as a number."""
    found: Any = (bits >> np.uint64(shift)) & np.uint64((1 << width) - 1)
    return found.view(np.int64)  # type: ignore[no-any-return]


def smooth(stream: int, period: int, at: Ints) -> Floats:
    """Smooth noise in [-1, 1] with a new value every `period`, at points of time in ascending order."""
    cell = at // period
    first = int(cell[0])
    values = (hashes(stream, np.arange(first, int(cell[-1]) + 2)) >> _11) * 2.0**-52 - 1
    part = (at - cell * period) / period
    ease = part * part * (3 - 2 * part)
    left = cell - first
    return values[left] * (1 - ease) + values[left + 1] * ease
