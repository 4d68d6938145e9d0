"""Which names we are reached by, and whose pages may use us. A page of another site can make a browser send requests
here: that its name resolves to our address (DNS rebinding) is seen by the Host header, where it is from by Origin."""

import socket
from ipaddress import ip_address

from barwright.api.access.policy import loopback
from barwright.settings import Settings

EXPOSED = (
    b"ETag, Retry-After, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, X-Barwright-Complete, "
    b"Content-Disposition"
)
_TAKEN = b"Authorization, X-API-Key, Content-Type, Accept, If-None-Match, Last-Event-ID"
Headers = list[tuple[bytes, bytes]]


class Origins:
    """Hosts and origins of one API."""

    def __init__(self, settings: Settings, keys: bool) -> None:
        self.names = _listed(settings.allowed_hosts)
        if not loopback(settings.host):
            self.names |= {settings.host.lower(), socket.gethostname().lower()}
        self.origins = {origin.rstrip("/") for origin in _listed(settings.cors_origins)}
        self.local = not keys and loopback(settings.host)
        self.good: set[bytes] = set()  # what was found good before

    def knows(self, host: bytes) -> bool:
        """Whether a Host header names us. An address always does: rebinding needs a name."""
        if host in self.good:
            return True
        name = hostname(host.decode("latin-1").lower())
        known = "*" in self.names or _here(name) or name in self.names or any(
            listed.startswith(".") and name.endswith(listed) for listed in self.names
        )  # fmt: skip
        if known and len(self.good) < 1000:
            self.good.add(host)
        return known

    def same(self, origin: bytes, host: bytes | None) -> bool:
        """Whether a page is one of ours."""
        return host is not None and origin.partition(b"://")[2].lower() == host.lower()

    def listed(self, origin: bytes) -> bool:
        """Whether the settings name it."""
        return origin.decode("latin-1").lower() in self.origins

    def reads(self, origin: bytes) -> bool:
        """Whether a page of that origin may read what we answer."""
        if self.listed(origin) or "*" in self.origins:
            return True
        scheme, _, host = origin.decode("latin-1").lower().partition("://")
        return self.local and scheme in ("http", "https") and _local(hostname(host))

    def writes(self, origin: bytes, host: bytes | None) -> bool:
        """Whether it may also change something."""
        return self.same(origin, host) or self.listed(origin)

    def headers(self, origin: bytes) -> Headers:
        """What tells a browser that a page of this origin may read the answer."""
        allowed = b"*" if "*" in self.origins else origin
        return [(b"access-control-allow-origin", allowed), (b"access-control-expose-headers", EXPOSED),
                (b"vary", b"Origin")]  # fmt: skip

    def preflight(self, origin: bytes) -> Headers:
        """… and, before it asks, what it may send."""
        methods = b"GET, HEAD, PUT, DELETE" if self.listed(origin) else b"GET, HEAD"
        return [
            (b"access-control-allow-methods", methods), (b"access-control-allow-headers", _TAKEN),
            (b"access-control-max-age", b"600"),
        ]  # fmt: skip


def hostname(host: str) -> str:
    """The name in `name:port` or `[::1]:port`."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _listed(text: str) -> set[str]:
    return {part.strip().lower().removeprefix("*") or "*" for part in text.split(",") if part.strip()}


def _local(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost") or (_is_address(name) and loopback(name))


def _here(name: str) -> bool:
    return _is_address(name) or _local(name)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
