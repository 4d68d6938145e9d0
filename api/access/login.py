"""Login: a link that works once makes a browser's session, since a browser cannot send a key with an EventSource, a
WebSocket or a chart library's requests."""

import asyncio
import sys
from typing import Any

from litestar import Request, get
from litestar.datastructures import Cookie
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response.base import ASGIResponse

from barwright.api.access import scopes_of
from barwright.api.access.keys import Q
from barwright.api.access.token import KEY, LINK_LASTS, SESSION_LASTS, digest, fresh, minted
from barwright.api.errors import ApiError
from barwright.api.writer import Writer

COOKIE = "barwright"
_HTML = "text/html"
_HEADERS = {"cache-control": "no-store", "referrer-policy": "no-referrer",
            "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}  # fmt: skip
_FRAME = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    "<title>Barwright</title>{head}<style>:root{{color-scheme:light dark}}body{{font:16px/1.5 system-ui,sans-serif;"
    "max-width:34rem;margin:15vh auto;padding:0 1rem}}</style><h1>Barwright</h1><p>{text}</p></html>"
)
PAGE = _FRAME.format(
    head="",
    text="This server asks for a key. Open the login link that <code>barwright serve</code> printed when it started, "
    "or have <code>barwright key link</code> make another; it works once, for 15 minutes.",
).encode()
USED = _FRAME.format(
    head="", text="This link was used, is too old, or never was one. <code>barwright key link</code> makes another."
).encode()
# Not a redirect: where a page of another site holds the link, a Strict cookie is not sent along a redirect.
WELCOME = _FRAME.format(
    head='<meta http-equiv="refresh" content="0;url=/">', text='Logged in. <a href="/">Go on</a>.'
).encode()


def login_routes(writer: Writer) -> list[HTTPRouteHandler]:
    """`/login/{link}`."""

    @get("/login/{link:str}", include_in_schema=False)
    async def login(request: Request[Any, Any, Any], link: FromPath[str]) -> ASGIResponse:
        """Use a login link: the browser has a session from now on."""
        if "barwright.head" in request.scope:
            return _page(200, WELCOME)
        session, kept = fresh()
        found = None
        if KEY.fullmatch(link):
            async with writer.transaction() as connection:
                args = {"link": digest(link), "lasts": SESSION_LASTS, **kept}
                found = await (await connection.execute(Q["redeem"], args)).fetchone()
        if found is None:
            return _page(401, USED)
        return _page(200, WELCOME, _cookie(session, request.scope["scheme"] == "https"))

    return [login]


def _cookie(session: str, secure: bool) -> Cookie:
    lasts = int(SESSION_LASTS.total_seconds())
    return Cookie(COOKIE, value=session, path="/", max_age=lasts, httponly=True, samesite="strict", secure=secure)


def _page(status: int, body: bytes, *cookies: Cookie) -> ASGIResponse:
    return ASGIResponse(body=body, media_type=_HTML, status_code=status, headers=dict(_HEADERS), cookies=cookies)


async def offer(writer: Writer, address: str) -> None:
    """Make a link and show it to whoever started the server, as soon as the database is there. It is no log line."""
    while True:
        link, args = minted("link", "login", scopes_of("write"), LINK_LASTS)
        try:
            async with writer.transaction() as connection:
                await connection.execute(Q["make"], args)
        except ApiError:
            await asyncio.sleep(2)
        else:
            print(shown(address, link), file=sys.stderr, flush=True)
            return


def shown(address: str, link: str) -> str:
    """What a person is told."""
    return f"Log in, once, within 15 minutes: {address}/login/{link}"
