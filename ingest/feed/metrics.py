"""What feed counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from prometheus_client import Counter, Gauge, Histogram, Metric

from barwright.ingest.feed.broker import DeliveryError
from barwright.ingest.feed.source import MarketError, RateLimitedError, UnavailableError, UnfinishedError
from barwright.ingest.kafka import KafkaError
from barwright.metrics.families import Family

if TYPE_CHECKING:
    from barwright.ingest.feed.live import Follower

SOURCE: Final = ("source",)
TOPICS: Final = ("fixed", "dynamic")
INTERVALS: Final = ("1m", "1h", "1d")
# The first that fits.
_ERRORS: Final[Mapping[str, type[Exception]]] = {
    "unfinished": UnfinishedError, "rate_limited": RateLimitedError, "unavailable": UnavailableError,
    "market": MarketError, "kafka": KafkaError, "delivery": DeliveryError,
}  # fmt: skip

CONNECTS: Final = Counter("barwright_feed_connects", "Live connections begun.", SOURCE)
DISCONNECTS: Final = Counter("barwright_feed_disconnects", "Live connections that ended.", ("source", "error"))
EVENTS: Final = Counter("barwright_feed_events", "Events received: trades that came together, heartbeats, …", SOURCE)
TRADES: Final = Counter("barwright_feed_trades", "Trades received.", SOURCE)
MISSED: Final = Counter("barwright_feed_missed", "Spans of which trades are known to be missed.", SOURCE)
MARKS: Final = Counter("barwright_feed_marks", "Marks sent.", SOURCE)
_PUBLISHED: Final = Counter("barwright_feed_published", "Kafka records acknowledged.", ("topics",))
PUBLISHED: Final = {topics: _PUBLISHED.labels(topics) for topics in TOPICS}
_FAILURES: Final = Counter("barwright_feed_delivery_failures", "Producers given up: a delivery failed.", ("topics",))
FAILURES: Final = {topics: _FAILURES.labels(topics) for topics in TOPICS}
SOURCE_ERRORS: Final = Counter("barwright_feed_source_errors", "Backfill tasks given back.", ("source", "error"))
BREAKER: Final = Gauge("barwright_feed_breaker_open", "Whether a source is left alone since it kept failing.", SOURCE)
_BACKFILLS: Final = Histogram(
    "barwright_backfill_duration_seconds", "Backfill tasks from their claim to the last record's acknowledgement.",
    ("interval",), buckets=(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0),
)  # fmt: skip
BACKFILLS: Final = {interval: _BACKFILLS.labels(interval) for interval in INTERVALS}
_BARS: Final = Counter("barwright_backfill_bars", "Bars fetched and published.", ("interval",))
BARS: Final = {interval: _BARS.labels(interval) for interval in INTERVALS}


def error_of(error: Exception) -> str:
    """The class in which an error is counted."""
    return next((name for name, kind in _ERRORS.items() if isinstance(error, kind)), "other")


CONNECTIONS: Final = Family("feed_connections", "Whether a source's live connection streams.", SOURCE)
SYMBOLS: Final = Family("feed_symbols", "Symbols that are to be followed at a source.", SOURCE)
UNDER_WAY: Final = Family("feed_unacknowledged", "Live trades and marks on their way to Kafka.")


class Following:
    """The live connections, looked up."""

    families = (CONNECTIONS, SYMBOLS, UNDER_WAY)

    def __init__(self, follower: Follower) -> None:
        self.follower = follower

    def collect(self) -> Iterable[Metric]:
        """See Collector."""
        found = {(name,): connection for name, (connection, _) in list(self.follower.running.items())}
        yield CONNECTIONS.of({key: connection.streams for key, connection in found.items()})
        yield SYMBOLS.of({key: len(connection.subscriptions.wanted) for key, connection in found.items()})
        yield UNDER_WAY.of({(): sum(one.channel.under_way for one in found.values() if one.channel)})
