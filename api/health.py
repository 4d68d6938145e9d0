"""Is this process alive, can it answer, and how does the database stand?"""

from typing import Any

from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from barwright import __version__
from barwright.api.database import Q
from barwright.api.errors import ApiError
from barwright.api.metrics import Serving
from barwright.api.operations import LiveOperation, MetricsOperation, ReadyOperation, StatusOperation
from barwright.api.params import single
from barwright.api.replica import Replica
from barwright.api.services import Services
from barwright.api.writer import Q as HISTORY
from barwright.metrics import overview
from barwright.metrics.families import Fixed, Page

ACTOR = ("role", "instance", "machine", "subject", "state", "error", "at")


def health_routes(services: Services) -> list[HTTPRouteHandler]:
    """`/health/live`, `/health/ready`, `/metrics` and `/v1/status`."""

    @get("/health/live", operation_class=LiveOperation)
    async def live() -> dict[str, str]:
        """This process runs."""
        return {"status": "live"}

    @get("/health/ready", operation_class=ReadyOperation)
    async def ready() -> Response[dict[str, Any]]:
        """Whether requests can be answered, and what is down. Without Redis they can, slower."""
        checks = {"database": "up", "migration": "up", "redis": "up" if await services.shared.ping() else "down"}
        try:
            [[engine, *_]] = await services.database.fetch(Q["status"])
        except ApiError as error:
            if error.code == "database_not_migrated":
                checks["migration"] = "down"
            else:
                checks |= {"database": "down", "migration": "unknown"}
            body = {"status": "down", "checks": checks, "message": error.message, "hint": error.hint}
            return Response(body, status_code=503, headers=error.headers)
        if services.database.replica is not None:
            checks["replica"] = services.replica.state
        status = "ready" if {*checks.values()} == {"up"} else "degraded"
        return Response({"status": status, "engine": engine, "checks": checks})

    @get("/metrics", operation_class=MetricsOperation)
    async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Metrics for Prometheus: of this process, and of the whole database. Each role has its own too, at
        BARWRIGHT_METRICS."""
        single(request.scope["query_string"], ())
        found = await services.database.fetch_all(*((overview.Q[name], {}) for name in ("overview", "positions")))
        figures = overview.metrics(found[0], found[1], services.settings.dynamic_pattern)
        encoder, kind = choose_encoder(request.headers.get("accept", ""))
        body = encoder(Page(REGISTRY, services.health, Serving(services), Fixed(figures)))
        return Response(body, headers={"content-type": kind})

    @get("/v1/status", operation_class=StatusOperation)
    async def status(request: Request[Any, Any, Any]) -> dict[str, Any]:
        """The engine, the state of the database, how far each level is sealed and rolled up, what is missing and asked
        for, what the auditor has looked at and found, and what the state machines of all roles are doing."""
        single(request.scope["query_string"], ())
        [state], levels, [counts], [audit], actors = await services.database.fetch_all(
            (Q["status"], {}), (Q["levels"], {}), *((HISTORY[name], {}) for name in ("counts", "audited", "actors")),
        )  # fmt: skip
        gaps, open_, by_status = counts
        engine, epoch, rev, now, postgres, timescaledb, citus = state
        return {
            "version": __version__, "engine": engine, "epoch": epoch, "rev": rev, "time": now,
            "postgresql": postgres, "timescaledb": timescaledb, "citus": citus,
            "replica": _replica(services.replica),
            "levels": {name: {"sealed": sealed, "watermark": watermark} for name, sealed, watermark in levels},
            "gaps": gaps, "tasks": {"open": open_, "by_status": by_status},
            "audit": dict(zip(("buckets", "findings", "at"), audit, strict=True)),
            "actors": [dict(zip(ACTOR, row, strict=True)) for row in actors],
        }  # fmt: skip

    return [live, ready, metrics, status]


def _replica(replica: Replica) -> dict[str, Any] | None:
    """Whether reads go to the standby, how many seconds it is behind, and what speaks against it; None without one."""
    if replica.database.replica is None:
        return None
    lag = None if replica.lag is None else round(replica.lag, 3)
    return {"used": replica.used, "lag": lag, "against": replica.against or None}
