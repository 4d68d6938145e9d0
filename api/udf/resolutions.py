"""UDF's resolutions: minutes as a bare number, then days, weeks and months."""

import re

from barwright.api.errors import ApiError, bad
from barwright.api.intervals import Interval, interval

# What a chart's menu offers; any other number of minutes, days, weeks or months is answered too.
INTRADAY = ("1", "3", "5", "15", "30", "60", "120", "240", "360", "720")
SUPPORTED = (*INTRADAY, "1D", "1W", "1M")
_RESOLUTION = re.compile(r"(\d{0,6})([DWM]?)", re.ASCII)
_UNITS = {"": "m", "D": "d", "W": "w", "M": "mo"}


def resolution(text: str) -> Interval:
    """The interval of a resolution; `M` is months here, and its number may be left out. ApiError 400."""
    match = _RESOLUTION.fullmatch(text)
    if not text or match is None:
        raise bad("resolution", text, f"There is no resolution {text!r:.40}.", list(SUPPORTED))
    try:
        return interval(f"{match[1] or 1}{_UNITS[match[2]]}")
    except ApiError as error:
        raise bad("resolution", text, f"There is no resolution {text!r:.40}.", list(SUPPORTED)) from error
