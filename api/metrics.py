"""What the API counts, and what is looked up when Prometheus asks."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from prometheus_client import Counter, Gauge, Histogram, Metric

from barwright.metrics.families import Family

if TYPE_CHECKING:
    from barwright.api.services import Services

EVENTS: Final = ("bars", "bar", "revision", "removed", "live", "reset")

REQUESTS: Final = Histogram(
    "barwright_http_request_duration_seconds", "Requests to their last byte; streams to their first.",
    ("route", "status", "format"),
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0),
)  # fmt: skip
_CACHE: Final = Counter(
    "barwright_cache_requests",
    "Look-ups: ready answers, blocks of bars in memory, pages in Redis.",
    ("layer", "result"),
)
HITS: Final = {layer: _CACHE.labels(layer, "hit") for layer in ("answer", "memory", "redis")}
MISSES: Final = {layer: _CACHE.labels(layer, "miss") for layer in ("answer", "memory", "redis")}
_STREAMS: Final = Gauge("barwright_streams", "Open streams.", ("protocol",))
STREAMS: Final = {protocol: _STREAMS.labels(protocol) for protocol in ("sse", "websocket")}
SUBSCRIPTIONS: Final = Gauge("barwright_subscriptions", "Subscriptions of open streams.")
_SENT: Final = Counter("barwright_stream_events", "Messages sent to streams.", ("type",))
SENT: Final = {kind: _SENT.labels(kind) for kind in EVENTS}
SLOW: Final = Counter("barwright_stream_slow_clients", "Streams ended since their client did not read.")
LIMITED: Final = Counter("barwright_rate_limited", "Requests refused since a limit was reached.")

CONNECTIONS: Final = Family("database_connections", "Connections of the pools.", ("pool", "state"))
WAITING: Final = Family("database_requests_waiting", "Requests that wait for a connection.", ("pool",))
BARS: Final = Family("cache_bars", "Bars' worth of blocks in memory.")
AGE: Final = Family("snapshot_age_seconds", "Time since the database was looked at; above 1 no cache is trusted.")

READS: Final = Family("reads_from", "Whether this process reads from a server: primary, or standby, if there is one.",
                      ("server",))  # fmt: skip
LAG: Final = Family("replica_lag_seconds", "How far the standby is behind; nothing is said while it does not answer.")


class Serving:
    """The pools and caches of one process, looked up."""

    families = (CONNECTIONS, WAITING, BARS, AGE, READS, LAG)

    def __init__(self, services: Services) -> None:
        self.services = services

    def collect(self) -> Iterable[Metric]:
        """See Collector."""
        services = self.services
        pools = {"read": services.database.pool.get_stats(), "write": services.writer.pool.get_stats()}
        connections: dict[tuple[str, ...], float] = {}
        for name, stats in pools.items():
            idle = stats.get("pool_available", 0)
            connections |= {(name, "idle"): idle, (name, "used"): max(0, stats.get("pool_size", 0) - idle)}
        yield CONNECTIONS.of(connections)
        yield WAITING.of({(name,): stats.get("requests_waiting", 0) for name, stats in pools.items()})
        yield BARS.of({(): services.store.size})
        yield AGE.of({(): time.monotonic() - services.follower.looked_at})
        yield READS.of({(name,): used for name, used in services.replica.reads.items()})
        yield LAG.of({} if services.replica.lag is None else {(): services.replica.lag})
