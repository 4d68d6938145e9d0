"""Points in time as clients write them."""

import re
from datetime import UTC, datetime, timedelta, timezone

from barwright.api.errors import bad
from barwright.api.intervals import EPOCH, FIRST, LAST

ALLOWED = "RFC 3339 (2019-10-11T00:00:00Z, any offset; a date alone is midnight UTC), or epoch seconds or milliseconds"
MILLISECONDS = 10**11  # whole numbers from here on are milliseconds: as seconds they would lie beyond the year 5138
_NUMBER = re.compile(r"(-?\d{1,15})(?:\.(\d+))?", re.ASCII)
# A plus sign that was not escaped in the URL arrives as a space; before an offset it can have been nothing else.
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(?:([Zz])|([+\- ])(\d\d):?(\d\d)))?", re.ASCII
)


def seconds(parameter: str, text: str) -> int:
    """The first whole second at or after the time `text` names: bars begin at whole seconds, so no bound needs more.

    ApiError 400 where it names none between the years 1 and 9999.
    """
    text = text.strip()
    found = _number(text) if _NUMBER.fullmatch(text) else _rfc3339(text)
    if found is None or not FIRST <= found <= LAST:
        raise bad(parameter, text, f"{parameter}={text!r:.60} is no time.", ALLOWED)
    return found


def _number(text: str) -> int:
    match = _NUMBER.fullmatch(text)
    assert match
    whole, fraction = int(match[1]), match[2]
    if fraction is None:
        return -(-whole // 1000) if abs(whole) >= MILLISECONDS else whole
    rounds_up = bool(fraction.strip("0")) and not text.startswith("-")
    return whole + rounds_up


def _rfc3339(text: str) -> int | None:
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, _, sign, zone_hours, zone_minutes = match.groups()
    leap = second == "60"  # a leap second is the second after :59
    try:
        offset = timedelta(hours=int(zone_hours or 0), minutes=int(zone_minutes or 0))
        if int(zone_minutes or 0) > 59:
            return None
        zone = timezone(-offset if sign == "-" else offset) if sign else UTC
        local = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0),
                         59 if leap else int(second or 0), tzinfo=zone)  # fmt: skip
    except ValueError:
        return None
    whole = int((local - EPOCH) / timedelta(seconds=1)) + leap
    return whole + bool(fraction and fraction.strip("0"))
