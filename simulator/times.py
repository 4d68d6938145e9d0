"""Points of time as people write them."""

from __future__ import annotations

from datetime import UTC, datetime

from barwright.errors import BarwrightError


def minute_of(text: str) -> int:
    """The first whole minute since 1970 at or after a time in RFC 3339, or a date; UTC unless it says otherwise.

    BarwrightError where it is no time.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise BarwrightError(f"{text!r:.60} is no time.", "Write it as 2024-05-01 or 2024-05-01T10:30Z.") from error
    seconds = (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    return int(-(-seconds // 60))
