"""Numbers as text, from whole numbers of units: never through a float."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def plain(units: int, places: int) -> str:
    """A number of units of 10^-places, without trailing zeros."""
    if not places:
        return str(units)
    whole, part = divmod(units, 10**places)
    return f"{whole}.{part:0{places}d}".rstrip("0") if part else str(whole)


def stamp(seconds: int, ns: int = 0) -> str:
    """Seconds since 1970 as RFC 3339, with as many digits of the second as it needs."""
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{ns:09d}".rstrip("0") + "Z" if ns else f"{text}Z"
