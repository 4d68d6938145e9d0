"""The pages for people: bundled from web/ into web/dist by `make pages`, held in memory, nothing from other hosts."""

from hashlib import sha256
from pathlib import Path
from typing import Any

from litestar import Request, Router, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.params import FromPath
from litestar.response.base import ASGIResponse

from barwright.api.answers import not_modified, unchanged
from barwright.api.errors import ApiError

DIST = Path(__file__).parent / "web" / "dist"
# The hash is of the one style element that lightweight-charts adds for TradingView's logo, which its licence asks for.
LOGO = "'sha256-3pRED1tOXas1FXFoPb9TGCjmYe9XQsmO9OV23khV2nY='"
POLICY = (
    f"default-src 'self'; style-src 'self' {LOGO}; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "cache-control": "no-cache", "content-security-policy": POLICY, "referrer-policy": "same-origin",
    "vary": "accept-encoding", "x-content-type-options": "nosniff",
}  # fmt: skip
# Not by `mimetypes`: what that says depends on the machine.
KINDS = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}
NOT_BUILT = ("The pages have not been built.", "Run `make pages` in the checkout and start the API again.")


class File:
    """A file of the bundle, plain and compressed, ready to send."""

    def __init__(self, path: Path) -> None:
        body, packed = path.read_bytes(), path.with_name(path.name + ".gz").read_bytes()
        self.body = body
        self.etag = f'"{sha256(body).hexdigest()[:16]}"'
        kind = KINDS[path.suffix]
        headers = {**HEADERS, "etag": self.etag}
        self.plain = ASGIResponse(body=body, media_type=kind, headers=headers)
        self.packed = ASGIResponse(body=packed, media_type=kind, headers={**headers, "content-encoding": "gzip"})


def files(folder: Path = DIST) -> dict[str, File]:
    """What was built, by name; empty where nothing was."""
    return {path.stem: File(path.with_suffix("")) for path in folder.glob("*.gz")}


class Docs(OpenAPIRenderPlugin):
    """`/schema`: Swagger UI."""

    def __init__(self, found: dict[str, File]) -> None:
        super().__init__(path="/")
        self.found = found

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        """The page. ApiError 503 where it was not built."""
        return file(self.found, "schema.html").body

    def receive_router(self, router: Router) -> None:
        """The page's policy, and its document's too."""
        router.response_headers = HEADERS  # type: ignore[assignment]


def pages_routes(found: dict[str, File]) -> list[HTTPRouteHandler]:
    """`/`, `/symbols` and `/assets/…`."""

    @get("/", include_in_schema=False)
    async def chart(request: Request[Any, Any, Any]) -> ASGIResponse:
        return _send(request, file(found, "index.html"))

    @get("/symbols", include_in_schema=False)
    async def symbols(request: Request[Any, Any, Any]) -> ASGIResponse:
        return _send(request, file(found, "symbols.html"))

    @get("/assets/{name:str}", include_in_schema=False)
    async def asset(request: Request[Any, Any, Any], name: FromPath[str]) -> ASGIResponse:
        return _send(request, file(found, name))

    return [chart, symbols, asset]


def file(found: dict[str, File], name: str) -> File:
    """A file by its name; ApiError 404, 503 where nothing was built."""
    if not found:
        raise ApiError(503, "pages_not_built", *NOT_BUILT)
    if name not in found:
        raise ApiError(404, "not_found", f"There is nothing at /assets/{name:.200}.", "/ is the chart.")
    return found[name]


def _send(request: Request[Any, Any, Any], found: File) -> ASGIResponse:
    if unchanged(request.scope["headers"], found.etag):
        return not_modified(found.etag)
    return found.packed if "gzip" in request.headers.get("accept-encoding", "") else found.plain
