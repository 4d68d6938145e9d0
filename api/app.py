"""The Litestar application: routes, error shape, documentation."""

from typing import Any

import structlog
from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin

from barwright import __version__
from barwright.api.access.login import login_routes
from barwright.api.access.shell import MOST_BODY
from barwright.api.documentation import DESCRIPTION
from barwright.api.errors import ApiError
from barwright.api.health import health_routes
from barwright.api.history import history_routes
from barwright.api.pages import Docs, files, pages_routes
from barwright.api.problems import components
from barwright.api.reading import bars_routes
from barwright.api.services import Services
from barwright.api.stream.routes import stream_routes
from barwright.api.symbols import symbols_routes
from barwright.api.udf.routes import udf_routes
from barwright.settings import Settings

log = structlog.get_logger()
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 400: "bad_request"}


def create_app(settings: Settings) -> Litestar:
    """The API of one process."""
    services, pages = Services(settings), files()
    app = Litestar(
        route_handlers=[
            *bars_routes(services),
            *stream_routes(services),
            *symbols_routes(services),
            *history_routes(services),
            *health_routes(services),
            *login_routes(services.writer),
            *pages_routes(pages),
            udf_routes(services),
        ],
        exception_handlers={ApiError: _ours, HTTPException: _http, Exception: _bug},
        lifespan=[services.lifespan],
        logging_config=None,
        request_max_body_size=MOST_BODY,
        openapi_config=OpenAPIConfig(
            title="Barwright",
            version=__version__,
            description=DESCRIPTION,
            path="/schema",
            components=components(),
            security=[{"bearer": []}, {"key": []}, {"session": []}, *([] if services.access.on else [{}])],
            use_handler_docstrings=True,
            render_plugins=[Docs(pages), JsonRenderPlugin(path="/openapi.json")],
        ),
    )
    app.state.services = services
    return app


def _answer(error: ApiError) -> Response[bytes]:
    return Response(error.body(), status_code=error.status, headers=error.headers, media_type="application/json")


def _ours(_: Request[Any, Any, Any], error: ApiError) -> Response[bytes]:
    return _answer(error)


def _http(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Litestar's own refusals: no such path, method not allowed, body too large."""
    status, path = error.status_code, request.url.path
    message, hint = {
        404: (f"There is nothing at {path:.200}.", "/schema lists the paths."),
        405: (f"{path:.200} does not take {request.method}.", f"Allowed: {(error.headers or {}).get('Allow', 'GET')}."),
    }.get(status, (error.detail, ""))
    return _answer(ApiError(status, _CODES.get(status, "http_error"), message, hint, headers=error.headers))


def _bug(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """What nobody foresaw: logged whole, told without detail."""
    log.error("unexpected error", path=request.url.path, query=request.url.query, exc_info=error)
    return _answer(ApiError(500, "internal_error", "Something went wrong on our side.", "It has been logged."))
