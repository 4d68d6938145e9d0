"""A circuit breaker: a source that fails again and again is left alone for a while, then probed by one call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from barwright.ingest.feed import metrics
from barwright.ingest.feed.source import RateLimitedError, UnavailableError

log = structlog.get_logger()


@dataclass
class Breaker:
    """Open after `limit` failures in a row, for `pause` seconds; then half open: one probe, and it closes or opens
    again for twice as long, `longest` at most."""

    name: str
    limit: int = 8
    pause: float = 30.0
    longest: float = 300.0
    clock: Callable[[], float] = time.monotonic
    failures: int = 0
    _until: float = 0.0
    _probing: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        metrics.BREAKER.labels(self.name).set(0)

    @property
    def is_open(self) -> bool:
        """Whether calls are refused now, or all but the probe."""
        return self.failures >= self.limit

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around one call. Raises UnavailableError at once where the circuit is open."""
        is_probe = self.is_open
        if is_probe:
            self._demand_probe()
        try:
            yield
        except RateLimitedError:
            self._worked()
            raise
        except UnavailableError:
            self._failed()
            raise
        except Exception:
            # It answered, only not what was wanted: an unknown market is no outage.
            self._worked()
            raise
        else:
            self._worked()
        finally:
            # A probe that was cancelled says nothing; the next call probes.
            if is_probe:
                self._probing = False

    def _demand_probe(self) -> None:
        left = self._until - self.clock()
        if left > 0 or self._probing:
            wait = max(left, 1.0)
            raise UnavailableError(f"{self.name} failed {self.failures} times in a row.", retry_after=wait)
        self._probing = True

    def _worked(self) -> None:
        if self.is_open:
            log.info("source is back", source=self.name)
            metrics.BREAKER.labels(self.name).set(0)
        self.failures = 0

    def _failed(self) -> None:
        self.failures += 1
        if self.is_open:
            pause = min(self.pause * 2 ** min(self.failures - self.limit, 10), self.longest)
            self._until = self.clock() + pause
            metrics.BREAKER.labels(self.name).set(1)
            log.warning("source is left alone", source=self.name, failures=self.failures, seconds=pause)
