"""Tells who listens on Redis what has landed. A hint only: with Redis down nothing waits and nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Final

import msgspec
import structlog
from redis import Redis
from redis.cluster import RedisCluster

from barwright.channels import TICKS
from barwright.links import redis as links
from barwright.settings import Settings

log = structlog.get_logger()
# A message is {"BTCUSD": 1795478400000, …}: symbols with new ticks and their newest minute, milliseconds since 1970.
CHANNEL: Final = "barwright:ticks"
TIMEOUT: Final = 0.2
# Seconds without a try after a failure, and what landed meanwhile is not told.
PAUSE: Final = 2.0


class Announcer(threading.Thread):
    """Publishes in a thread of its own, at once; what lands while one message is on its way shares the next."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(name="announcer", daemon=True)
        links.address(settings.redis_url)  # said at once where it makes no sense
        self._settings = settings
        self._redis: Redis | RedisCluster | None = None
        self._news: dict[str, int] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()

    def tell(self, minutes: Mapping[str, int]) -> None:
        """Say that these symbols have new ticks; the value is the newest minute, counted from 1970. Never waits."""
        with self._lock:
            for symbol, minute in minutes.items():
                self._news[symbol] = max(minute * 60_000, self._news.get(symbol, 0))
        self._wake.set()

    def answers(self) -> bool:
        """Whether Redis does."""
        try:
            return bool(self._client().ping())
        except links.AWAY:
            return False

    def close(self) -> None:
        """Tell what is left and end."""
        self._closing.set()
        self._wake.set()
        self.join(2 * TIMEOUT)

    def run(self) -> None:
        """See Announcer."""
        while not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            if not self._publish():
                self._closing.wait(PAUSE)
        self._publish()
        if self._redis is not None:
            self._redis.close()

    def _client(self) -> Redis | RedisCluster:
        """Made when it is needed: one of a cluster connects at once."""
        self._redis = self._redis or links.client(self._settings, TIMEOUT)
        return self._redis

    def _publish(self) -> bool:
        with self._lock:
            news, self._news = self._news, {}
        try:
            if news:
                self._client().publish(TICKS, msgspec.json.encode(news))
        except links.AWAY as error:
            log.warning("nobody is told of new ticks", error=str(error))
            return False
        return True
