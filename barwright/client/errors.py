"""What can go wrong for a client, as types."""

from collections.abc import Mapping
from typing import Any

import msgspec

from barwright.errors import BarwrightError


class ClientError(BarwrightError):
    """Anything this client raises."""


class ConnectionFailedError(ClientError):
    """The server cannot be reached, or broke off."""


class AnswerError(ClientError):
    """The server refused: `status` and `code` say why, `details` with which value, `retry_after` (seconds) when to come
    again."""

    def __init__(self, status: int, body: Mapping[str, Any], retry_after: float | None = None) -> None:
        super().__init__(str(body.get("message", f"The server answered {status}.")), str(body.get("hint", "")))
        self.status = status
        self.code = str(body.get("code", ""))
        self.details: Mapping[str, Any] = body.get("details") or {}
        self.retry_after = retry_after


class BadRequestError(AnswerError):
    """400 and its like: a parameter is wrong."""


class NoAccessError(AnswerError):
    """401 or 403: no key, or one that may not."""


class NotFoundError(AnswerError):
    """404: no such symbol."""


class TooManyRequestsError(AnswerError):
    """429: wait `retry_after` seconds."""


class UnavailableError(AnswerError):
    """5xx: what the server needs is away."""


_TYPES = {401: NoAccessError, 403: NoAccessError, 404: NotFoundError, 429: TooManyRequestsError}


def refusal(status: int, body: bytes, retry_after: str | None = None) -> AnswerError:
    """The error of an answer that is not a success."""
    try:
        told = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        told = {}
    kind = _TYPES.get(status, UnavailableError if status >= 500 else BadRequestError)
    return kind(status, told, float(retry_after) if retry_after and retry_after.isdigit() else None)
