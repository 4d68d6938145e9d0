"""How long ticks and bars are kept, and which combinations of settings would lose bars that are still needed."""

from math import inf
from typing import Final

# Days are kept for ever: weeks and months are made of them, and a year's are 365 rows.
LEVELS: Final = ("1m", "5m", "15m", "30m", "1h", "4h")
# The engine's own refresh covers at least two buckets of a day that are an hour old.
LEAST_FLOOR: Final = 3.0
FLOOR: Final = 30.0
CHUNK_HOURS: Final = (1, 2, 3, 4, 6, 8, 12, *range(24, 169, 24))


def days_of(text: str) -> dict[str, float]:
    """`1m=730,5m=1825` as days by level. Raises ValueError."""
    days: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.partition("=")
        name = name.strip()
        if name in ("1d", "1w", "1mo"):
            raise ValueError(f"{name} is kept for ever: weeks and months are made of days")
        if name not in LEVELS:
            raise ValueError(f"there is no level {name!r}: give LEVEL=DAYS,… for {', '.join(LEVELS)}")
        try:
            days[name] = float(value)
        except ValueError:
            raise ValueError(f"{part!r} is not LEVEL=DAYS") from None
        if not 0 < days[name] < inf:
            raise ValueError(f"{part!r}: days are more than 0 and an end")
    return days


def check_ticks(days: float, correction_hours: float) -> None:
    """Ticks must be there for as long as anything is computed or corrected. Raises ValueError."""
    least = max(LEAST_FLOOR + 1, correction_hours / 24 + 2)
    if days < least:
        raise ValueError(
            f"ticks must be kept for {least:g} days at least: from them late ticks are repaired, days refreshed, bars "
            f"corrected (BARWRIGHT_CORRECTION_HOURS={correction_hours:g})"
        )


def check_levels(days: dict[str, float], ticks: float | None) -> None:
    """What something is made of may go before it, never after. Raises ValueError."""
    finer, kept = "ticks", ticks
    for name in LEVELS:
        mine = days.get(name)
        if mine is not None and (kept is None or kept > mine):
            needs = "BARWRIGHT_RAW_RETENTION_DAYS" if finer == "ticks" else f"{finer}=…"
            for_time = "for ever" if kept is None else f"{kept:g} days"
            raise ValueError(
                f"{name}={mine:g}, but what it is made of is kept longer ({finer}: {for_time}): give {needs} of at "
                f"most {mine:g}"
            )
        finer, kept = name, mine


def check_floor(days: float, ticks: float | None) -> None:
    """The engine's refresh must stay a day above what is dropped: it would delete the bars. Raises ValueError."""
    if ticks is not None and days > ticks - 1:
        raise ValueError(
            f"it must be a day less than BARWRIGHT_RAW_RETENTION_DAYS={ticks:g}: a refresh where ticks were dropped "
            "deletes their bars"
        )


def check_compression(days: float, ticks: float | None) -> None:
    """Compressed is what is kept. Raises ValueError."""
    if ticks is not None and days >= ticks:
        raise ValueError(
            f"it must be less than BARWRIGHT_RAW_RETENTION_DAYS={ticks:g}: ticks would be dropped before they are "
            "compressed (0: no compression)"
        )
