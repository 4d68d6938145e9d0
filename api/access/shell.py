"""The shell around the application: every request, and every WebSocket's handshake, passes here first.

It costs about 4 us where keys are off, no page of another origin asks and nothing is to be compressed.
"""

from typing import Any

from litestar.types import ASGIApp, Receive, Send

from barwright.api.access import OPEN, SCOPE_KEY, access_of, demand, forbidden, unauthorized
from barwright.api.access.compress import asked, gzipping
from barwright.api.access.keys import Keys
from barwright.api.access.limits import ACCOUNT_KEY, POINT, Limiter
from barwright.api.access.login import COOKIE, PAGE
from barwright.api.access.origins import Origins
from barwright.api.access.sending import Watched, adding, bodiless, listing
from barwright.api.errors import ApiError
from barwright.settings import Settings

MOST_URL, MOST_BODY = 8192, 65536  # bytes
SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
WATCHED = "barwright.watched"
_COOKIE = COOKIE.encode()
Raw = dict[bytes, bytes]
Scope = Any  # of an HTTP request or a WebSocket; typed ones know no keys of ours


class Shell:
    """ASGI around ASGI."""

    def __init__(self, app: ASGIApp, settings: Settings, keys: Keys, limiter: Limiter) -> None:
        self.app = app
        self.keys = keys
        self.limiter = limiter
        self.origins = Origins(settings, keys.on)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, one WebSocket, or the application's life."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        origin = headers.get(b"origin")
        if origin is not None and scope["type"] == "http" and self.origins.reads(origin):
            send = adding(send, lambda: self.origins.headers(origin))
        try:
            self._check(scope, headers, origin)
            if origin is not None and _is_preflight(scope, headers):
                await self._preflight(origin, send)
                return
            if self.keys.on or self.limiter.points:
                send = await self._admitted(scope, headers, send)
        except ApiError as error:
            await _refuse(scope, headers, send, error)
            return
        if scope["type"] == "http":
            if scope["method"] == "HEAD":
                scope, send = _as_get(scope), bodiless(send)
            elif scope["method"] == "OPTIONS":
                scope, send = {**scope, "method": "NONE"}, listing(send)
            if asked(headers.get(b"accept-encoding", b"")):
                send = gzipping(send)
        if not self.keys.on:
            await self.app(scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        finally:
            self.keys.streams.discard(scope.get(WATCHED))

    def _check(self, scope: Scope, headers: Raw, origin: bytes | None) -> None:
        """Names, sizes and origins. ApiError 421, 414, 413, 403."""
        host = headers.get(b"host")
        if host is not None and not self.origins.knows(host):
            name = host.decode("latin-1")
            raise ApiError(421, "unknown_host", f"This server does not answer to the name {name!r:.100}.",
                           "BARWRIGHT_ALLOWED_HOSTS names those it has.", details={"host": name[:100]})  # fmt: skip
        size = len(scope["query_string"]) + len(scope["raw_path"] or b"")
        if size > MOST_URL:
            raise ApiError(414, "url_too_long", f"The URL has {size} bytes.", f"At most {MOST_URL} are taken.",
                           details={"maximum": MOST_URL})  # fmt: skip
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > MOST_BODY:
            raise ApiError(413, "too_large", f"The body has {length.decode('latin-1')[:20]} bytes.",
                           f"At most {MOST_BODY} are taken.", details={"maximum": MOST_BODY})  # fmt: skip
        if origin is not None:
            self._check_origin(scope, host, origin)

    def _check_origin(self, scope: Scope, host: bytes | None, origin: bytes) -> None:
        """A browser keeps a page from reading what other sites answer, but not from sending, nor from WebSockets."""
        if scope["type"] == "websocket":
            allowed = self.origins.same(origin, host) or self.origins.reads(origin)
        else:
            allowed = scope["method"] in SAFE or self.origins.writes(origin, host)
        if not allowed:
            name = origin.decode("latin-1")[:200]
            raise forbidden(f"Pages of {name} may not do that here.", "BARWRIGHT_CORS_ORIGINS names those that may.",
                            origin=name)  # fmt: skip

    async def _preflight(self, origin: bytes, send: Send) -> None:
        if not self.origins.reads(origin):
            raise forbidden("Pages of that origin may not ask here.", "BARWRIGHT_CORS_ORIGINS names those that may.")
        await send({"type": "http.response.start", "status": 204, "headers": self.origins.preflight(origin)})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _admitted(self, scope: Scope, headers: Raw, send: Send) -> Send:
        """Find out who asks and charge the request. ApiError 401, 403, 429, 503."""
        path, socket = scope["path"], scope["type"] == "websocket"
        scope[SCOPE_KEY] = OPEN
        if path.startswith("/health/"):
            return send
        if self.keys.on and not path.startswith("/login/"):
            await self._identified(scope, headers, socket)
            send = scope[WATCHED] = Watched(send, self.keys, scope)
        else:
            scope[ACCOUNT_KEY] = self.limiter.of(None, scope["client"])
        account = scope[ACCOUNT_KEY]
        if account is not None:
            send = send if socket else adding(send, account.headers)
            account.charge(POINT)
        if access_of(scope) is not None:
            demand(scope, "read" if socket or scope["method"] in SAFE else "write")
        return send

    async def _identified(self, scope: Scope, headers: Raw, socket: bool) -> None:
        """Let in by the key; a WebSocket without one may still send it. ApiError 401, 429, 503."""
        key = _key(headers)
        if key is not None:
            await self.keys.admit(scope, key)
        elif socket:
            scope[SCOPE_KEY], scope[ACCOUNT_KEY] = None, self.limiter.of(None, scope["client"])
        else:
            raise unauthorized("A key is needed.")


def _key(headers: Raw) -> str | None:
    """The key in a header, or else a session's cookie."""
    scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer":
        return bearer.strip().decode("latin-1")
    given = headers.get(b"x-api-key")
    if given is None:
        for part in headers.get(b"cookie", b"").split(b";"):
            name, _, value = part.strip().partition(b"=")
            if name == _COOKIE:
                given = value
    return None if given is None else given.strip().decode("latin-1")


def _is_preflight(scope: Scope, headers: Raw) -> bool:
    return scope["type"] == "http" and scope["method"] == "OPTIONS" and b"access-control-request-method" in headers


def _as_get(scope: Scope) -> Scope:
    """A HEAD as the GET whose headers it asks for; the server drops its own notion of a body by the old scope."""
    return {**scope, "method": "GET", "barwright.head": True}


async def _refuse(scope: Scope, headers: Raw, send: Any, error: ApiError) -> None:
    """Answer with an error; a WebSocket's handshake too, where the server can."""
    body, kind = error.body(udf=scope["path"].startswith("/udf/")), b"application/json"
    if error.status == 401 and headers.get(b"accept", b"").startswith(b"text/html"):
        body, kind = PAGE, b"text/html; charset=utf-8"
    sent = [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    sent += [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    account, prefix = scope.get(ACCOUNT_KEY), "http"
    if account is not None:
        sent += account.headers()
    if scope["type"] == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1008, "reason": error.message[:120]})
            return
        prefix = "websocket.http"
    await send({"type": f"{prefix}.response.start", "status": error.status, "headers": sent})
    await send({"type": f"{prefix}.response.body", "body": body, "more_body": False})
