"""Who may ask, for what, and how much: keys and login, hosts and origins, limits, and the shell around every request.

What the handlers see of it: `scope["barwright.access"]`, and `limits.charge(scope, bars)`.
"""

from dataclasses import dataclass
from typing import Any, Literal

Need = Literal["read", "write", "admin"]
SCOPES: tuple[Need, ...] = ("read", "write", "admin")  # each holds those before it
SCOPE_KEY = "barwright.access"


@dataclass(frozen=True, slots=True)
class Access:
    """Who asks: the name of the key (never the key), what it may, and its number in the database, 0 without keys."""

    name: str
    scopes: frozenset[str]
    id: int = 0

    def may(self, need: Need) -> bool:
        """Whether its scopes hold what is needed; write holds read, admin both."""
        return need in self.scopes


OPEN = Access("anyone", frozenset(SCOPES))  # keys are off


def access_of(scope: Any) -> Access | None:
    """The access of an ASGI scope (HTTP or WebSocket); None where a WebSocket has still to send its key. Without the
    shell around the application, everything is open."""
    found: Access | None = scope.get(SCOPE_KEY, OPEN)
    return found
