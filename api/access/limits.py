"""Limits on how much is asked for."""

from typing import Any

ACCOUNT_KEY = "barwright.account"


def charge(scope: Any, bars: int) -> None:
    """Charge whoever asks for a number of bars, before they are read; the request itself was charged already.

    ApiError 429 with Retry-After when there is nothing left. Give the bars asked for (limit x symbols), as soon as the
    request is understood; a request that may begin may also end, so what is only known while it is answered (the pages
    of an export, a stream's history) is for `spend`.
    """
    account = scope.get(ACCOUNT_KEY)
    if account is not None:
        account.charge(bars)


def spend(scope: Any, bars: int) -> None:
    """Charge without refusing: for pages sent after the answer has begun. The debt is felt by the next request."""
    account = scope.get(ACCOUNT_KEY)
    if account is not None:
        account.spend(bars)
