"""The state machines of ingest as its threads drive them: a topic with history, and the batches of a writer."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from barwright.machines.consumer import HistoryConsumer, LiveBatch


class Topic:
    """The machine of one dynamic topic, from its assignment to its loss.

    Three threads know it: the session's, the client's, which takes the topic away at any moment, and a writer's. What
    a writer still has to say of a topic that is gone is not heard.
    """

    def __init__(self, name: str) -> None:
        self._lock = threading.Lock()
        self._machine = HistoryConsumer(name)
        self._gone = False
        self._machine.send("subscribe")

    @property
    def state(self) -> str:
        """The machine's state."""
        return self._machine.state

    def send(self, *events: str, error: BaseException | None = None) -> None:
        """Events of its life, in their order."""
        with self._lock:
            for event in () if self._gone else events:
                self._machine.send(event, *([error] if error else []))

    def write(self) -> None:
        """Records of it are in a batch, for the first time or again after a failure."""
        with self._lock:
            if self._gone:
                return
            events = ("reset", "subscribe", "subscribed") if self._machine.failed else ()
            for event in (*events, "receive", "processed"):
                self._machine.send(event)

    def leave(self) -> None:
        """It is another member's now, or gone."""
        with self._lock:
            if not self._gone:
                self._gone = True
                if not self._machine.failed:
                    self._machine.send("leave")
                self._machine.close()


class Work:
    """What one writer is doing: its own machine, and those of the topics whose records its batch holds."""

    def __init__(self, name: str) -> None:
        self._machine = LiveBatch(name)
        self._topics: list[Topic] = []

    @property
    def state(self) -> str:
        """The machine's state."""
        return self._machine.state

    @property
    def is_busy(self) -> bool:
        """Whether it has a batch in hand that has not failed."""
        return self._machine.state not in ("idle", "error")

    def begin(self) -> None:
        """There is something to decode."""
        self._machine.recover()
        self._machine.send("receive")

    def write(self, topics: Iterable[Topic]) -> None:
        """A batch is to be written, for the first time or again."""
        if self._machine.failed:
            self.begin()
        self._machine.send("processed")
        self._topics = list(topics)
        for topic in self._topics:
            topic.write()

    def written(self) -> None:
        """It is committed; now it is told."""
        self._send("written")

    def end(self) -> None:
        """It is told."""
        self._send("updated")
        self._topics = []

    def drop(self) -> None:
        """Nothing of it is ours any more, or all of it had landed when the connection was lost."""
        self._machine.send("drop")
        for topic in self._topics:
            topic.send("written", "updated")
        self._topics = []

    def fail(self, error: BaseException) -> None:
        """The database is away: what is in hand is tried again."""
        self._machine.send("fail", error)
        for topic in self._topics:
            topic.send("fail", error=error)
        self._topics = []

    def close(self) -> None:
        """Nothing will come."""
        self._machine.close()

    def _send(self, event: str) -> None:
        self._machine.send(event)
        for topic in self._topics:
            topic.send(event)
