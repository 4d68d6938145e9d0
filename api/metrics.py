"""What Prometheus reads: the states of all roles' machines, what is missing and asked for, and this process itself."""

from collections import Counter
from typing import Any

from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Gauge, generate_latest

from barwright.api.operations import MetricsOperation
from barwright.api.params import single
from barwright.api.services import Services
from barwright.api.writer import Q as HISTORY


def metrics_routes(services: Services) -> list[HTTPRouteHandler]:
    """`/metrics`."""

    @get("/metrics", operation_class=MetricsOperation)
    async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Metrics in Prometheus's text format. States are counted, not listed by symbol: /v1/status does that."""
        single(request.scope["query_string"], ())
        async with services.database.snapshot() as snapshot:
            [counts], [audit], actors = await snapshot.fetch_all(
                *((HISTORY[name], {}) for name in ("counts", "audited", "actors")), last=True
            )
        found = _gauges(counts, audit, actors)
        return Response(generate_latest(found) + generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

    return [metrics]


def _gauges(counts: tuple[Any, ...], audit: tuple[Any, ...], actors: list[tuple[Any, ...]]) -> CollectorRegistry:
    registry = CollectorRegistry()
    gaps, _, by_status = counts
    Gauge("barwright_gaps", "Spans that are missing or await repair.", registry=registry).set(gaps)
    tasks = Gauge("barwright_backfill_tasks", "Open backfill tasks.", ("status",), registry=registry)
    for status, count in (by_status or {}).items():
        tasks.labels(status).set(count)
    buckets, findings, _ = audit
    Gauge("barwright_audited_bars", "Closed bars that the auditor looked at.", registry=registry).set(buckets)
    Gauge("barwright_audit_findings", "Wrong bars found by the auditor.", registry=registry).set(findings)
    states = Gauge(
        "barwright_machines", "State machines in each state.", ("role", "machine", "state"), registry=registry
    )
    for key, count in Counter((role, machine, state) for role, _, machine, _, state, _, _ in actors).items():
        states.labels(*key).set(count)
    return registry
