"""Errors of the API: each knows its status, and all reach the client in one shape."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import msgspec

from barwright.errors import BarwrightError


class ApiError(BarwrightError):
    """An answer with `status` and the body `{"code", "message", "details", "hint"}`."""

    def __init__(
        self, status: int, code: str, message: str, hint: str = "", *,
        details: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message, hint)
        self.status = status
        self.code = code
        self.details = dict(details or {})
        self.headers = dict(headers or {})

    def body(self, udf: bool = False) -> bytes:
        """The JSON of this error; under `/udf` it says the same in UDF's words too."""
        told = {"code": self.code, "message": self.message, "details": self.details, "hint": self.hint}
        return msgspec.json.encode({"s": "error", "errmsg": str(self), **told} if udf else told)


def bad(parameter: str, value: object, message: str, allowed: object = None, hint: str = "") -> ApiError:
    """400: this parameter's value is not among the allowed."""
    details = {"parameter": parameter, "value": value, **({"allowed": allowed} if allowed is not None else {})}
    return ApiError(400, "bad_parameter", message, hint, details=details)


def unknown_parameter(name: str, known: Sequence[str]) -> ApiError:
    """400: a parameter nobody reads, with the nearest that exists."""
    near = get_close_matches(name.lower(), known, 1, 0.5)
    hint = f"Did you mean {near[0]}?" if near else f"Known parameters: {', '.join(known) or 'none'}."
    details = {"parameter": name, "allowed": list(known)}
    return ApiError(400, "unknown_parameter", f"There is no parameter {name!r:.80}.", hint, details=details)


def unknown_symbol(symbol: str) -> ApiError:
    """404: well-formed, but we hold nothing by that name."""
    return ApiError(404, "unknown_symbol", f"There is no symbol {symbol}.", "GET /v1/symbols lists them.",
                    details={"symbol": symbol})  # fmt: skip


def unavailable(reason: str, code: str = "database_unavailable", hint: str = "Try again in a second.") -> ApiError:
    """503: what we need is away for now, and the client may try again."""
    return ApiError(503, code, reason, hint, headers={"Retry-After": "1"})


class CutError(ApiError):
    """A read that was cut off and may be made again at once: on another server, or after what stood in its way."""

    def __init__(self, reason: str) -> None:
        super().__init__(503, "database_unavailable", reason, "Try again in a second.", headers={"Retry-After": "1"})
