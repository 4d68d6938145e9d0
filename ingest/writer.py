"""A thread that writes: takes records from its queue, lands them batch by batch, and sits out a lost database."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Final

import psycopg
import structlog
import tenacity

from barwright.ingest import metrics
from barwright.ingest.announce import Announcer
from barwright.ingest.batch import Batch
from barwright.ingest.claims import Chunk, Claim
from barwright.ingest.landing import FencedError
from barwright.ingest.states import Work
from barwright.ingest.store import Clock, Rules, Store
from barwright.ingest.ticks import Window
from barwright.metrics.health import Health
from barwright.settings import Settings

log = structlog.get_logger()
# Bytes of records that may wait for a writer before its partitions are paused: two batches of one tick a record.
HELD: Final = 4 * 1024 * 1024


@dataclass
class Shared:
    """What the threads of one ingest process have in common.

    `abandon` is set when the process must end though the database is away: what is in hand is dropped, and read again.
    """

    settings: Settings
    announcer: Announcer
    health: Health
    clock: Clock = field(default_factory=Clock)
    rules: Rules = field(default_factory=dict)
    abandon: threading.Event = field(default_factory=threading.Event)


class Writer(threading.Thread):
    """Lands what is put into its queue, in that order: at once when idle, in big batches under load."""

    def __init__(self, shared: Shared, number: int) -> None:
        super().__init__(name=f"writer-{number}", daemon=True)
        self.shared = shared
        self.rows = self.letters = self.batches = 0
        self.failure: BaseException | None = None
        self._queue: deque[tuple[Chunk, int]] = deque()
        self._held = 0
        self._more = threading.Condition()
        self._closing = False
        self._store: Store | None = None
        self._work = Work(self.name)
        self._loop = shared.health.loop(self.name)
        self._patience = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(psycopg.Error),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=5),
            sleep=tenacity.sleep_using_event(shared.abandon),
            stop=tenacity.stop_when_event_set(shared.abandon),
            before_sleep=self._lost_database,
            reraise=True,
        )

    @property
    def full(self) -> bool:
        """Whether enough waits for it."""
        return self._held >= HELD

    @property
    def held(self) -> int:
        """The bytes that wait for it."""
        return self._held

    @property
    def backend(self) -> int:
        """The server's process that works for it; 0 where there is none."""
        store = self._store
        return store.backend if store else 0

    def put(self, chunk: Chunk) -> None:
        """Queue a chunk; never waits."""
        size = sum(len(value or b"") for _, value in chunk.records)
        with self._more:
            self._queue.append((chunk, size))
            self._held += size
            self._more.notify()

    def close(self) -> None:
        """Let it end once its queue is empty."""
        with self._more:
            self._closing = True
            self._more.notify()

    def run(self) -> None:
        """See Writer."""
        try:
            while (batch := self._patience(self._next)) is not None:
                self._patience(self._land, batch)
        except psycopg.Error:
            log.warning("ends without the database; what is in hand will be read again")
        except BaseException as failure:
            log.exception("writer failed")
            self.failure = failure
        finally:
            self._work.close()
            if self._store:
                self._store.close()

    def _next(self) -> Batch | None:
        """The next batch; None when there will be none. Decodes as much as is there, and waits only for the first."""
        self._loop.rest()
        if not self._wait():
            return None
        self._loop.turn("decoding")
        self._work.begin()
        # Nothing is judged without the database's clock, so one that is away is found out before anything is taken.
        self._connect()
        most, batch = self.shared.settings.batch_rows, self._batch()
        while batch.size < most and not batch.full and (chunk := self._take()):
            # Judged by a time after it came: a process that stood still in between would else find it in the future.
            batch.window = self._window()
            rest = None if chunk.claim.lost else batch.add(chunk, most)
            if rest:
                self._put_back(rest)
                break
        return batch

    def _wait(self) -> bool:
        """Wait for something to write; False when nothing will come."""
        with self._more:
            while not self._queue and not self._closing:
                self._more.wait()
            return bool(self._queue)

    def _take(self) -> Chunk | None:
        with self._more:
            if not self._queue:
                return None
            chunk, size = self._queue.popleft()
            self._held -= size
            return chunk

    def _put_back(self, chunk: Chunk) -> None:
        size = sum(len(value or b"") for _, value in chunk.records)
        with self._more:
            self._queue.appendleft((chunk, size))
            self._held += size

    def _batch(self) -> Batch:
        """An empty batch."""
        return Batch(self.shared.rules, self._window(), self.shared.settings.most_symbols)

    def _window(self) -> Window:
        """In which times must lie now, by the database's clock."""
        settings, now = self.shared.settings, self.shared.clock.now()
        kept = settings.raw_retention_days
        oldest = 0 if kept is None else int((now - kept * 86_400) * 1_000_000)
        return Window(oldest, int((now + settings.future_skew) * 1_000_000))

    def _land(self, batch: Batch) -> None:
        """Commit a batch, or as much of it as is still ours. psycopg's errors: try again after a pause."""
        self._loop.turn("writing")
        if self._store is None:
            batch = self._review(self._connect(), batch)
        store = self._connect()
        self._work.write(claim.state for claim in batch.spans if claim.state)
        while batch.chunks:
            store.set_clock()
            if not store.register(batch):
                batch = self._again(batch)
                continue
            try:
                news = store.land(batch)
            except FencedError as fenced:
                log.info("gives partitions up", claims=fenced.message)
                metrics.FENCED.inc(len(fenced.claims))
                for claim in fenced.claims:
                    claim.lose()
                batch = self._again(batch)
            else:
                self._landed(batch, news)
                return
        self._work.drop()

    def _review(self, store: Store, batch: Batch) -> Batch:
        """After a lost connection: what of a batch is still to be written, by where the positions stand."""
        standing = store.standing(batch.spans)
        for claim, position in standing.items():
            span = batch.spans[claim]
            if position == span.end:
                claim.landed = position
            elif position != span.begin:
                claim.lose()
        return self._again(batch, [claim for claim in standing if claim.landed == batch.spans[claim].end])

    def _again(self, batch: Batch, without: list[Claim] | None = None) -> Batch:
        """The same records decoded once more, without those of claims that are lost or done."""
        anew = self._batch()
        for chunk in batch.chunks:
            if not chunk.claim.lost and chunk.claim not in (without or ()):
                anew.add(chunk, sys.maxsize)
        return anew

    def _landed(self, batch: Batch, news: dict[str, int]) -> None:
        for claim, span in batch.spans.items():
            claim.landed = span.end
        self.rows += batch.rows
        self.letters += len(batch.letters)
        self.batches += 1
        self._work.written()
        self.shared.announcer.tell(news)
        self._work.end()

    def _connect(self) -> Store:
        if self._store is None:
            shared = self.shared
            self._store = Store(shared.settings.database_url, shared.clock, shared.rules)
        return self._store

    def _lost_database(self, state: tenacity.RetryCallState) -> None:
        """Between two tries: whatever was open is gone, and its outcome unknown until positions are read again."""
        error = state.outcome.exception() if state.outcome else None
        self._loop.rest()
        metrics.FAILURES.inc()
        log.warning("no database", error=str(error).strip(), attempt=state.attempt_number)
        if error and self._work.is_busy:
            self._work.fail(error)
        if self._store:
            self._store.close()
            self._store = None


def waited(threads: list[Writer], seconds: float) -> bool:
    """Wait for writers to end; whether all did."""
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)
