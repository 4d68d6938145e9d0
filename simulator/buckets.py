"""Buckets of UTC time in minutes since 1970; a week starts on Monday, months are calendar months."""

from __future__ import annotations

from typing import Final

import numpy as np

from barwright.simulator.noise import Ints

WIDTHS: Final = {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240, "1d": 1440, "1w": 10_080}
INTERVALS: Final = (*WIDTHS, "1mo")
_MONDAY: Final = 4 * 1440  # 1970-01-05


def floor(minutes: Ints, interval: str) -> Ints:
    """The start of the bucket that holds each minute."""
    if interval == "1mo":
        months = minutes.astype("datetime64[m]").astype("datetime64[M]")
        return months.astype("datetime64[m]").astype(np.int64)
    width, origin = WIDTHS[interval], _MONDAY if interval == "1w" else 0
    return (minutes - origin) // width * width + origin


def start_of(minute: int, interval: str) -> int:
    """The start of the bucket that holds a minute."""
    return int(floor(np.array([minute]), interval)[0])


def ceil(minute: int, interval: str) -> int:
    """The start of the first bucket that does not begin before a minute."""
    start = start_of(minute, interval)
    return start if start == minute else start_of(start + 32 * 1440, interval) if interval == "1mo" else (
        start + WIDTHS[interval]
    )  # fmt: skip
