"""The Consumer: from Kafka into the database, exactly once. Any number of processes share the work."""

from __future__ import annotations

import threading
import time
from typing import Final

import structlog
import tenacity

from barwright.errors import BarwrightError
from barwright.ingest import kafka
from barwright.ingest.announce import Announcer
from barwright.ingest.decoders import decoders_of
from barwright.ingest.kafka import KafkaError
from barwright.ingest.metrics import Consuming, topics_of
from barwright.ingest.session import POLL, Session
from barwright.ingest.writer import Shared, Writer, waited
from barwright.links.database import demand_sessions
from barwright.links.kafka import options
from barwright.metrics.health import Health
from barwright.metrics.listener import listening
from barwright.reporting import reporter
from barwright.settings import Settings

log = structlog.get_logger()
# Seconds: how long a stop may take before what is in hand is given up, and how often is said what was done.
DRAIN: Final = 10.0
REPORT: Final = 60.0


def run(settings: Settings, stop: threading.Event) -> None:
    """Ingest until `stop` is set, then land what is in hand and return. Raises what made a thread fail."""
    decoders_of(settings.decoders)  # said at once where it makes no sense
    options(settings)
    kafka.demand_client(settings)
    demand_sessions(settings, "ingest")
    shared = Shared(settings, Announcer(settings), Health(settings, "ingest"))
    writers = [Writer(shared, number) for number in range(settings.writers)]
    groups = [
        Group(
            shared, writers, stop, f"{settings.group}-live", topic=settings.tick_topic, pattern=settings.tick_pattern
        ),
        Group(shared, writers, stop, f"{settings.group}-history", pattern=settings.dynamic_pattern),
    ]
    health = shared.health
    health.check("kafka", lambda: kafka.answers(settings))
    health.check("redis", shared.announcer.answers, needed=False)
    with reporter(settings, "ingest", health), listening(settings, health, Consuming(groups, writers)):
        for thread in (shared.announcer, *writers, *groups):
            thread.start()
        log.info(
            "ingesting", topic=settings.tick_topic, pattern=settings.dynamic_pattern, writers=len(writers),
            client=settings.kafka_client,
        )  # fmt: skip
        _watch(writers, groups, stop)
        _drain(shared, writers, groups)
    for failure in [worker.failure for worker in writers] + [worker.failure for worker in groups]:
        if failure:
            raise failure


def _watch(writers: list[Writer], groups: list[Group], stop: threading.Event) -> None:
    """Wait for the end; say now and then what was done."""
    reported, rows = time.monotonic(), 0
    while not stop.wait(0.2):
        if any(not worker.is_alive() for worker in (*writers, *groups)):
            stop.set()
        if time.monotonic() - reported >= REPORT:
            total = sum(writer.rows for writer in writers)
            if total > rows:
                log.info("landed", rows=total, dead_letters=sum(writer.letters for writer in writers))
            reported, rows = time.monotonic(), total


def _drain(shared: Shared, writers: list[Writer], groups: list[Group]) -> None:
    """Land what was read, then leave the groups; with the database away it is left to be read again."""
    for group in groups:
        group.stopped.wait(2 * POLL + 1)
    for writer in writers:
        writer.close()
    if not waited(writers, DRAIN):
        shared.abandon.set()
        waited(writers, DRAIN)
    for group in groups:
        group.drained.set()
    for group in groups:
        group.join(DRAIN)
    shared.announcer.close()
    log.info("stopped", rows=sum(writer.rows for writer in writers), dead_letters=sum(w.letters for w in writers))


class Group(threading.Thread):
    """This process's membership of one consumer group: of a fixed topic, of those that fit a pattern, or both."""

    def __init__(
        self,
        shared: Shared,
        writers: list[Writer],
        stop: threading.Event,
        name: str,
        topic: str = "",
        pattern: str = "",
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.shared, self.writers, self.stop = shared, writers, stop
        self.topic, self.pattern = topic, pattern
        self.failure: BaseException | None = None
        self.session: Session | None = None
        self._loop = shared.health.loop(topics_of(bool(topic)))
        self.stopped, self.drained = threading.Event(), threading.Event()

    def run(self) -> None:
        """Be a member until the end, again and again where the broker or the client fails."""
        patience = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((KafkaError, BarwrightError, OSError)),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=5),
            sleep=tenacity.sleep_using_event(self.stop),
            stop=tenacity.stop_when_event_set(self.stop),
            before_sleep=self._lost_broker,
            retry_error_callback=lambda _: None,
        )
        try:
            patience(self._session)
        except BaseException as failure:
            log.exception("consumer failed", group=self.name)
            self.failure = failure
        finally:
            self.stopped.set()

    def _session(self) -> None:
        """One membership, from joining the group to leaving it once what was read has landed."""
        self._loop.turn("connecting")
        with Session(self.shared, self.writers, self.name, self.topic, self.pattern) as session:
            self.session = session
            try:
                while not self.stop.is_set():
                    session.step()
                    self._loop.turn("polling")
            finally:
                self.session = None
                self._loop.rest()
            self.stopped.set()
            self.drained.wait(3 * DRAIN)

    def _lost_broker(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.warning("no broker", group=self.name, error=f"{type(error).__name__}: {error}")
