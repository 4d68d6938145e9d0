"""What a client asks a stream for: query strings and messages into wishes. Whatever is wrong says what is allowed."""

import re
from typing import Any

import msgspec

from barwright.api.errors import ApiError, bad, unknown_parameter
from barwright.api.intervals import interval
from barwright.api.params import style, symbol
from barwright.api.stream.position import position
from barwright.api.stream.subscription import Wish
from barwright.api.times import seconds

STREAM = ("symbol", "interval", "start", "tz", "session", "numbers", "time", "rate", "since", "ordered")
RATE, LEAST_RATE, MOST_RATE = 10.0, 0.1, 50.0
MOST_ID = 64  # characters
OPS = ("subscribe", "unsubscribe", "auth", "ping")
_NUMBER = re.compile(r"\d{1,3}(\.\d{1,6})?", re.ASCII)


def wish(given: dict[str, str], id: str = "") -> Wish:
    """The subscription that some parameters describe; ApiError 400."""
    for name in given:
        if name not in STREAM:
            raise unknown_parameter(name, STREAM)
    for name in ("symbol", "interval"):
        if not given.get(name):
            raise bad(name, "", f"{name} is missing.", hint="For instance symbol=BTCUSD&interval=1m")
    since = given.get("since")
    if since is not None:
        position(since)
    return Wish(
        id=id, symbol=symbol(given["symbol"]),
        interval=interval(given["interval"], given.get("tz"), given.get("session")),
        style=style(given, "json"), start=seconds("start", given["start"]) if "start" in given else None,
        rate=_rate(given.get("rate")), ordered=_flag(given.get("ordered")), since=since,
    )  # fmt: skip


def message(text: str) -> dict[str, Any]:
    """A client's message: an object with `op`; ApiError 400."""
    try:
        found = msgspec.json.decode(text, type=dict[str, str | int | float | bool | None])
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ApiError(400, "bad_message", "The message is no JSON object of plain values.",
                       'For instance {"op":"subscribe","id":"a","symbol":"BTCUSD","interval":"1m"}',
                       details={"reason": str(error)}) from error  # fmt: skip
    if found.get("op") not in OPS:
        raise bad("op", found.get("op"), "op says what is to be done.", list(OPS))
    return found


def id_of(message: dict[str, Any]) -> str:
    """The name a message gives its subscription; ApiError 400."""
    found = message.get("id", "")
    if not isinstance(found, str) or len(found) > MOST_ID:
        raise bad("id", str(found)[:100], "id names a subscription.", f"a string of at most {MOST_ID} characters")
    return found


def parameters(message: dict[str, Any]) -> dict[str, str]:
    """The parameters of a message as a query string would give them; those that are null are not given."""
    given = {name: value for name, value in message.items() if name not in ("op", "id") and value is not None}
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in given.items()}


def _rate(text: str | None) -> float:
    if text is None:
        return RATE
    if not _NUMBER.fullmatch(text) or not LEAST_RATE <= float(text) <= MOST_RATE:
        raise bad("rate", text, f"rate={text!r:.40} is not from {LEAST_RATE} to {MOST_RATE:g}.",
                  {"minimum": LEAST_RATE, "maximum": MOST_RATE}, "Changes of the open bar in a second.")  # fmt: skip
    return float(text)


def _flag(text: str | None) -> bool:
    if text not in (None, "true", "false"):
        raise bad("ordered", text, f"ordered={text!r:.40} is neither true nor false.", ["true", "false"])
    return text == "true"
