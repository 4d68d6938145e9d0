"""Who may ask, for what, and how much: keys and login, hosts and origins, limits, and the shell around every request.

What the handlers see of it: `scope["barwright.access"]`, `limits.charge(scope, bars)`, and `demand(scope, need)` where
the method does not say what is needed.
"""

from dataclasses import dataclass
from typing import Any, Literal

from barwright.api.errors import ApiError

Need = Literal["read", "write", "admin"]
SCOPES: tuple[Need, ...] = ("read", "write", "admin")  # each holds those before it
SCOPE_KEY = "barwright.access"
_HOW = "Send it as `Authorization: Bearer …` or `X-API-Key: …`; in a browser, open the link of `barwright key link`."


@dataclass(frozen=True, slots=True)
class Access:
    """Who asks: the name of the key (never the key), what it may, the SHA-256 it is known by, empty without keys, and
    until when (epoch seconds; None: until it is revoked)."""

    name: str
    scopes: frozenset[str]
    hash: bytes = b""
    until: float | None = None

    def may(self, need: Need) -> bool:
        """Whether its scopes hold what is needed; write holds read, admin both."""
        return need in self.scopes


OPEN = Access("anyone", frozenset(SCOPES))  # keys are off


def scopes_of(highest: Need) -> list[str]:
    """A scope and those it holds."""
    return list(SCOPES[: SCOPES.index(highest) + 1])


def access_of(scope: Any) -> Access | None:
    """The access of an ASGI scope (HTTP or WebSocket); None where a WebSocket has still to send its key. Without the
    shell around the application, everything is open."""
    found: Access | None = scope.get(SCOPE_KEY, OPEN)
    return found


def demand(scope: Any, need: Need) -> None:
    """ApiError 401 or 403 where whoever asks may not."""
    access = access_of(scope)
    if access is None:
        raise unauthorized("A key is needed.")
    if not access.may(need):
        raise forbidden(f"The key {access.name!r} may not {need}.", f"`barwright key create --scope {need}` makes one.",
                        need=need, scopes=sorted(access.scopes))  # fmt: skip


def unauthorized(message: str) -> ApiError:
    """401: no key, or none that counts."""
    return ApiError(401, "unauthorized", message, _HOW, headers={"WWW-Authenticate": "Bearer"})


def forbidden(message: str, hint: str, **details: Any) -> ApiError:
    """403: we know who asks, or from where, and it is not allowed."""
    return ApiError(403, "forbidden", message, hint, details=details)
