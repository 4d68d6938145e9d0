"""What any route may answer before, or instead of, what it gives: said once in the OpenAPI document."""

from typing import Any

from litestar.openapi.spec import (
    Components,
    Example,
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    Reference,
    Schema,
    SecurityScheme,
)
from litestar.openapi.spec.enums import OpenAPIType as T

from barwright.api.access import forbidden, unauthorized
from barwright.api.access.limits import Account
from barwright.api.errors import ApiError, unavailable, unknown_symbol
from barwright.api.examples import ERROR

_STRING, _NUMBER = Schema(type=T.STRING), Schema(type=T.INTEGER)
PROBLEM = Schema(
    type=T.OBJECT, required=["code", "details", "hint", "message"], description="An error, whatever its status.",
    properties={
        "code": Schema(type=T.STRING, description="for programs"),
        "message": Schema(type=T.STRING, description="what was wrong, with which value"),
        "details": Schema(type=T.OBJECT, description="the same for programs"),
        "hint": Schema(type=T.STRING, description="what to do about it; may be empty"),
    },
)  # fmt: skip
RETRY = {"Retry-After": OpenAPIHeader(schema=_NUMBER, description="Seconds.")}
LIMITS = {
    "RateLimit-Limit": OpenAPIHeader(schema=_NUMBER, description="Points a minute."),
    "RateLimit-Remaining": OpenAPIHeader(schema=_NUMBER, description="Points that are left."),
    "RateLimit-Reset": OpenAPIHeader(schema=_NUMBER, description="Seconds until there are more."),
}
_CHALLENGE = {"WWW-Authenticate": OpenAPIHeader(schema=_STRING, description="Bearer.")}
SIZES = {
    "413": ("TooLarge", "The body is too large.",
            ApiError(413, "too_large", "The body has 70000 bytes.", "At most 65536 are taken.")),
    "414": ("UrlTooLong", "The URL is too long.",
            ApiError(414, "url_too_long", "The URL has 9000 bytes.", "At most 8192 are taken.")),
    "431": ("HeadersTooLarge", "The headers are too large.",
            ApiError(431, "headers_too_large", "The headers have more than 65536 bytes.")),
    "421": ("UnknownHost", "The `Host` header names another server.",
            ApiError(421, "unknown_host", "This server does not answer to the name 'a.example'.")),
}  # fmt: skip
RIGHTS = {
    "401": ("Unauthorized", "Keys are on, and none was sent that counts.", unauthorized("A key is needed.")),
    "403": ("Forbidden", "The key may not do this, or not from a page of that origin.",
            forbidden("The key 'desk' may not write.", "`barwright key create --scope write` makes one.")),
    "429": ("TooManyRequests", "The limit is reached.", Account("", 6000).exhausted()),
}  # fmt: skip
_HEADERS: dict[str, Any] = {"401": _CHALLENGE, "429": {**RETRY, **LIMITS}}


_EXAMPLES: dict[str, ApiError] = {"404": unknown_symbol("NOPE"), "503": unavailable("The database cannot be reached.")}


def own(status: str, description: str) -> OpenAPIResponse:
    """A route's own refusal."""
    example = shown(_EXAMPLES[status]) if status in _EXAMPLES else ERROR
    return problem(description, example, RETRY if status == "503" else None)


def problem(description: str, example: Any, headers: dict[str, Any] | None = None) -> OpenAPIResponse:
    """An answer that is an error; `example` is one."""
    content = OpenAPIMediaType(schema=PROBLEM,
                               examples={"an error": Example(value=example)})  # fmt: skip
    return OpenAPIResponse(description, headers=headers and dict(headers), content={"application/json": content})


def anywhere(guarded: bool) -> dict[str, Reference]:
    """References to what every route may answer; `guarded`: it asks for a key, and counts."""
    answers = SIZES | (RIGHTS if guarded else {})
    return {status: Reference(ref=f"#/components/responses/{name}") for status, (name, _, _) in answers.items()}


def components() -> Components:
    """What the references point to."""
    return Components(
        responses={
            name: problem(description, shown(error), _HEADERS.get(status))
            for status, (name, description, error) in {**SIZES, **RIGHTS}.items()
        },
        security_schemes={
            "bearer": SecurityScheme(type="http", scheme="bearer", description="`Authorization: Bearer bw_…`"),
            "key": SecurityScheme(type="apiKey", name="X-API-Key", security_scheme_in="header"),
            "session": SecurityScheme(type="apiKey", name="barwright", security_scheme_in="cookie",
                                      description="Of a login link, for browsers."),
        },
    )  # fmt: skip


def shown(error: ApiError) -> dict[str, Any]:
    """An error as an example."""
    return {"code": error.code, "message": error.message, "details": error.details, "hint": error.hint}
