"""Is this process alive, and can it answer?"""

from typing import Any

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from barwright.api.database import Q
from barwright.api.errors import ApiError
from barwright.api.services import Services


def health_routes(services: Services) -> list[HTTPRouteHandler]:
    """`/health/live` and `/health/ready`."""

    @get("/health/live")
    async def live() -> dict[str, str]:
        """This process runs."""
        return {"status": "live"}

    @get("/health/ready")
    async def ready() -> Response[dict[str, Any]]:
        """Whether requests can be answered, and what is down."""
        checks = {"database": "up", "migration": "up"}
        try:
            [[engine, *_]] = await services.database.fetch(Q["status"])
            checks["engine"] = engine
        except ApiError as error:
            failed = "migration" if error.code == "database_not_migrated" else "database"
            checks = {"database": "up", failed: "down"}
            return Response({"status": "down", "checks": checks}, status_code=503, headers=error.headers)
        return Response({"status": "ready", "checks": checks})

    return [live, ready]
