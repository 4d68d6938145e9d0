"""ccxt's errors as those of a source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from barwright.errors import BarwrightError
from barwright.ingest.feed.source import MarketError, RateLimitedError, UnavailableError

# By name, most special first: ccxt is an extra, that this module must do without.
_LIMITED: Final = {"RateLimitExceeded", "DDoSProtection"}
_FORBIDDEN: Final = {"AuthenticationError", "PermissionDenied", "AccountSuspended", "NotSupported"}


class RefusalError(BarwrightError):
    """The exchange answers, and says that it has nothing of what was asked."""


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Around a call of ccxt. Raises SourceError, RefusalError."""
    try:
        yield
    except BarwrightError:
        raise
    except Exception as error:
        names = {kind.__name__ for kind in type(error).__mro__}
        if not names & {"BaseError", "OSError", "TimeoutError"}:
            raise
        raise _of(names, f"{name}: {type(error).__name__}: {error!s:.300}") from error


def _of(names: set[str], message: str) -> BarwrightError:
    if "BadSymbol" in names:
        return MarketError(message)
    if names & _LIMITED:
        return RateLimitedError(message, retry_after=10.0)
    if names & _FORBIDDEN:
        return UnavailableError(message, retry_after=300.0)
    if "BadRequest" in names:
        return RefusalError(message)
    return UnavailableError(message)
