"""A registration as a client writes it, checked word for word. The command line checks by the same rules."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec

from barwright import sources
from barwright.api.errors import ApiError, bad, unknown_parameter
from barwright.api.intervals import moment
from barwright.api.params import symbol
from barwright.api.times import seconds
from barwright.errors import BarwrightError

T = TypeVar("T")
FIRST_START: Final = 0  # 1970: days are what is asked for, and there must not be a million of them
FIELDS = ("source", "market", "base", "quote", "start", "history_source")


@dataclass(frozen=True, slots=True)
class Registration:
    """What query `register` takes, but for the grace and whether a feed follows the symbol, which the source tells."""

    symbol: str
    source: str
    market: str | None
    base: str | None
    quote: str | None
    start: datetime
    history_source: str | None

    @property
    def live(self) -> bool:
        """Whether a feed of ours follows it; other programs send what comes from kafka."""
        return self.source != "kafka"

    def arguments(self) -> dict[str, Any]:
        """The query's arguments."""
        given = {name: getattr(self, name) for name in ("symbol", *FIELDS)}
        return {**given, "grace": sources.grace_of(self.history_source or self.source), "live": self.live}


def decoded(body: bytes) -> dict[str, Any]:
    """The JSON object of a body; ApiError 400."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise _bad_body(f"The body is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise _bad_body("The body is no JSON object.")
    return found


def _bad_body(message: str) -> ApiError:
    hint = 'For instance {"source": "simulator", "start": "2020-01-01"}.'
    return ApiError(400, "bad_body", message, hint, details={"allowed": list(FIELDS)})


def registration(name: str, given: Mapping[str, Any], clock: float) -> Registration:
    """The registration of a symbol; `clock` is now, in seconds. ApiError 400 says what is wrong with which field."""
    for field in given:
        if field not in FIELDS:
            raise unknown_parameter(field, FIELDS)
    name = symbol(name)
    source = _source(given, "source")
    history = _history(given, source)
    market, pair = _market(given, name, history)
    base, quote = (_words(given, field) or part for field, part in zip(("base", "quote"), pair, strict=True))
    return Registration(name, source, market, base, quote, _start(given, clock), history)


def _words(given: Mapping[str, Any], field: str) -> str | None:
    """A field that holds a text, None where it is left out or null."""
    value = given.get(field)
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= 200 or not value.isprintable():
        raise bad(field, value, f"{field} must be a text.", "1 to 200 printable characters")
    return value


def _source(given: Mapping[str, Any], field: str) -> str:
    value = _words(given, field)
    if value is None:
        raise bad(field, None, f"{field} is missing.", list(sources.NAMES), f"Sources: {', '.join(sources.NAMES)}.")
    return _checked(field, value, lambda: sources.check(value), list(sources.NAMES))


def _history(given: Mapping[str, Any], source: str) -> str | None:
    """Who gives the history: the source itself, or for kafka none or the source that is named."""
    if _words(given, "history_source") is None:
        return None if source == "kafka" else source
    history = _source(given, "history_source")
    if history == "kafka":
        raise bad("history_source", history, "kafka has no history.", list(sources.NAMES[:-1]), "Leave it out.")
    if source != "kafka" and not sources.same_notation(source, history):
        message = f"{history} does not know the markets of {source}."
        raise bad("history_source", history, message, source, "Leave it out: the source gives its own history.")
    return history


def _market(
    given: Mapping[str, Any], name: str, history: str | None
) -> tuple[str | None, tuple[str | None, str | None]]:
    """The market in the notation of who gives the history, and its base and quote."""
    market = _words(given, "market")
    if history is None:
        return market, (None, None)
    market = market or sources.market_of(history, name)
    assert market is not None
    return market, _checked("market", market, lambda: sources.pair_of(history, market), None)


def _start(given: Mapping[str, Any], clock: float) -> datetime:
    value = given.get("start")
    if value is None:
        raise bad("start", None, "start is missing.", hint='For instance "start": "2020-01-01".')
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise bad("start", value, "start must be a text or a whole number.", hint='For instance "2020-01-01".')
    start = seconds("start", str(value))
    if start > clock:
        raise bad("start", value, f"start={value!r:.60} lies in the future.", "a time up to now")
    if start < FIRST_START:
        raise bad("start", value, f"start={value!r:.60} lies before 1970.", "a time from 1970-01-01 on")
    return moment(start)


def _checked(field: str, value: str, check: Callable[[], T], allowed: list[str] | None) -> T:
    """What `check` gives; its error as one about a field."""
    try:
        return check()
    except BarwrightError as error:
        raise bad(field, value, error.message, allowed, error.hint) from error
