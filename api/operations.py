"""What each route takes and gives."""

from collections.abc import Mapping
from typing import Any, ClassVar

from litestar.openapi.spec import Example, OpenAPIMediaType, OpenAPIResponse, Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType

from barwright.api.documentation import Documented, json_of
from barwright.api.encode import CSV_HEADER
from barwright.api.examples import BAR, COVERAGE, GAP, PROGRESS, REGISTRATION, SYMBOL, TASK, WHOLE_SYMBOL
from barwright.api.parameters import BARS_PARAMETERS, LATEST_PARAMETERS, LISTING, NAME, PURGING, TASKS
from barwright.api.problems import RETRY

WITH_404 = {**Documented.statuses, "404": "There is no such symbol."}


_REST: dict[str, Any] = {"next_cursor": None, "coverage": COVERAGE, "rev": "7a0c1b2d-12"}
_ONE: dict[str, Any] = {"symbol": "BTCUSD", "interval": "1h"}
_TABLE = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)


class BarsOperation(Documented):
    """`GET /v1/bars`."""

    takes = BARS_PARAMETERS
    gives: ClassVar[Any] = {**_ONE, "bars": [BAR], **_REST}
    gives_too: ClassVar[Mapping[str, Any]] = {
        "format=columns": {**_ONE, "columns": {name: [value] for name, value in BAR.items()}, **_REST},
        "several symbols": {"interval": "1h", "series": [{**_ONE, "bars": [BAR], **_REST}], "next_cursor": None},
    }
    files: ClassVar[Mapping[str, OpenAPIMediaType]] = {
        "text/csv": OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING),
                                     examples={"header": Example(value=CSV_HEADER.decode())}),
        "application/vnd.apache.arrow.stream": OpenAPIMediaType(schema=_TABLE),
        "application/vnd.apache.parquet": OpenAPIMediaType(schema=_TABLE),
    }  # fmt: skip
    statuses = WITH_404


class LatestOperation(Documented):
    """`GET /v1/bars/latest`."""

    takes = LATEST_PARAMETERS
    gives: ClassVar[Any] = {"interval": "1h", "bars": [{"symbol": "BTCUSD", **BAR, "closed": False}]}
    statuses = WITH_404


class SymbolsOperation(Documented):
    """`GET /v1/symbols`."""

    gives: ClassVar[Any] = {"symbols": [SYMBOL]}


class SymbolOperation(Documented):
    """`GET /v1/symbols/{name}`."""

    takes = (NAME,)
    gives = WHOLE_SYMBOL
    statuses = WITH_404


class RegisterOperation(Documented):
    """`PUT /v1/symbols/{name}`."""

    takes = (NAME,)
    gives = WHOLE_SYMBOL
    wants = REGISTRATION
    needs = ("source", "start")
    tag = False

    def __post_init__(self) -> None:
        """A new symbol has a status of its own."""
        super().__post_init__()
        assert self.responses is not None
        self.responses["201"] = OpenAPIResponse("A new symbol.", content=json_of(self.gives))


class ForgetOperation(Documented):
    """`DELETE /v1/symbols/{name}`."""

    takes = PURGING
    gives: ClassVar[Any] = {**WHOLE_SYMBOL, "live": False, "stopped": True}
    tag = False
    statuses = WITH_404

    def __post_init__(self) -> None:
        """Of what is gone nothing is told."""
        super().__post_init__()
        assert self.responses is not None
        self.responses["204"] = OpenAPIResponse("Gone, with its data.")


class GapsOperation(Documented):
    """`GET /v1/gaps`."""

    takes = LISTING
    gives: ClassVar[Any] = {"gaps": [GAP], "more": False}
    tag = False
    statuses = WITH_404


class BackfillsOperation(Documented):
    """`GET /v1/backfills`."""

    takes = TASKS
    gives: ClassVar[Any] = {"backfills": [TASK], "more": False, "progress": [PROGRESS]}
    tag = False
    statuses = WITH_404


class StatusOperation(Documented):
    """`GET /v1/status`."""

    tag = False

    gives: ClassVar[Any] = {
        "version": "0.1.0", "engine": "timescaledb", "epoch": "7a0c…", "rev": 12, "time": "2026-11-24T12:00:03.5Z",
        "postgresql": "18.6", "timescaledb": "2.29.2", "citus": None,
        "replica": {"used": True, "lag": 0.012, "against": None},
        "levels": {"1m": {"sealed": "2026-11-24T12:00:00Z", "watermark": "2026-11-24T12:00:00Z"}},
        "gaps": 3, "tasks": {"open": 2, "by_status": {"queued": 1, "fetching": 1}},
        "audit": {"buckets": 86400, "findings": 0, "at": "2026-11-24T12:00:03Z"},
        "actors": [{"role": "feed", "instance": "host:4711:1795500000", "machine": "history_task",
                    "subject": "BTCUSD 12", "state": "fetching", "error": None, "at": "2026-11-24T12:00:02Z"}],
    }  # fmt: skip


class MetricsOperation(Documented):
    """`GET /metrics`."""

    tag = False
    text = True
    gives: ClassVar[Any] = 'barwright_machines{role="feed",machine="live_connection",state="streaming"} 1.0'


class LiveOperation(Documented):
    """`GET /health/live`."""

    gives: ClassVar[Any] = {"status": "live"}
    tag = False
    guarded = False
    statuses: ClassVar[dict[str, str]] = {}


class ReadyOperation(Documented):
    """`GET /health/ready`."""

    tag = False
    guarded = False

    gives: ClassVar[Any] = {
        "status": "ready", "engine": "timescaledb", "checks": {"database": "up", "migration": "up", "redis": "up"},
    }  # fmt: skip
    statuses: ClassVar[dict[str, str]] = {}

    def __post_init__(self) -> None:
        """503 has the same shape here, so that a probe can say what is down."""
        super().__post_init__()
        assert self.responses is not None
        down = {
            "status": "down", "checks": {"database": "down", "migration": "unknown", "redis": "up"},
            "message": "The database cannot be reached.", "hint": "Try again in a second.",
        }  # fmt: skip
        self.responses["503"] = OpenAPIResponse("What is down.", content=json_of(down), headers=dict(RETRY))
