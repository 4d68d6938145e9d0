"""The Producer: a source's live trades to the fixed topic, each one record, keyed by its symbol."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import msgspec
import structlog
import tenacity

from barwright.ingest import kafka
from barwright.ingest.feed.simulator import Simulator
from barwright.ingest.kafka import KafkaError
from barwright.ingest.ticks import Trade
from barwright.settings import Settings

log = structlog.get_logger()
# Milliseconds a record may wait for company: most of the time from trade to bar (20 ms made it 15, 5 ms 10).
LINGER = 5
# Records on their way before the source has to wait.
UNDER_WAY = 20_000


def run(settings: Settings, stop: threading.Event) -> None:
    """Publish live trades until `stop` is set. A broker that is away is waited for; nothing is left out afterwards."""
    source = Simulator.from_settings(settings)
    feed = Feed(settings, source, stop)
    patience = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type((KafkaError, OSError)),
        wait=tenacity.wait_random_exponential(multiplier=0.2, max=5),
        sleep=tenacity.sleep_using_event(stop),
        stop=tenacity.stop_when_event_set(stop),
        before_sleep=lambda state: log.warning("no broker", error=repr(state.outcome and state.outcome.exception())),
        retry_error_callback=lambda _: None,
    )
    patience(feed.publish)


class Source(Protocol):
    """The simulated feed as it is until the feed works by `source.Source`."""

    @property
    def name(self) -> str:
        """What the feed's logs call it."""

    def live(self, since: int, stop: threading.Event) -> Iterator[Sequence[tuple[int, Trade]]]:
        """Trades with their times (milliseconds since 1970), oldest first, as they happen, until `stop` is set.

        `since` is the oldest time wanted; a source that cannot go back begins now.
        """


class Feed:
    """Publishes a source's trades, from the oldest that is not yet acknowledged."""

    def __init__(self, settings: Settings, source: Source, stop: threading.Event) -> None:
        self.settings, self.source, self.stop = settings, source, stop
        # From the beginning of the last whole minute: every bar is whole, and a feed that died before a minute's end
        # and was started again after it leaves nothing out. What was sent before is the same row again.
        self.since = int(time.time() // 60 - 1) * 60_000
        self._under_way: deque[tuple[int, Any]] = deque()

    def publish(self) -> None:
        """Publish until the end. Raises KafkaError."""
        topic = self.settings.tick_topic
        kafka.ensure_topic(self.settings, topic, self.settings.tick_partitions)
        producer = kafka.producer(self.settings, linger_ms=LINGER)
        self._under_way.clear()
        log.info("publishing", source=self.source.name, topic=topic, since=self.since)
        try:
            for trades in self.source.live(self.since, self.stop):
                self._send(producer, topic, trades)
                self._acknowledged(wait=len(self._under_way) > UNDER_WAY)
            producer.flush(timeout=10)
            self._acknowledged(wait=False)
        finally:
            producer.close(timeout=1)

    def _send(self, producer: Any, topic: str, trades: Sequence[tuple[int, Trade]]) -> None:
        for time_ms, trade in trades:
            future = producer.send(topic, key=trade.symbol.encode(), value=msgspec.json.encode(trade))
            self._under_way.append((time_ms, future))

    def _acknowledged(self, wait: bool) -> None:
        """Forget what has been acknowledged; `wait` for one record more. Raises what a delivery failed with."""
        while self._under_way and (wait or self._under_way[0][1].is_done):
            wait = False
            self.since, future = self._under_way[0]
            future.get(timeout=130)
            self._under_way.popleft()
