"""The producer of the load, a process of its own: `python -m tests.torture.load BROKERS TOPIC`.

Reads commands, one JSON object a line: {"segment": {…}} sends from there on at its rate; {"pause": true} ends the
segment, waits until all is acknowledged and answers {"end": n, "again": k}: so many had no answer and were sent again.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from collections import deque
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from tests.torture import plan

PATIENCE_MS = 120_000


class Sender:
    """Sends key and value to a topic until they are acknowledged, whatever becomes of the broker."""

    def __init__(self, brokers: str, topic: str) -> None:
        self.brokers, self.topic = brokers, topic
        self.again = 0
        self._producer: Any = None
        self._waiting: deque[tuple[Any, Any, str, str]] = deque()

    def send(self, key: str, value: str) -> None:
        """Send; what had no answer is sent again by and by."""
        while True:
            producer = self._own()
            try:
                future = producer.send(self.topic, key=key.encode(), value=value.encode("latin-1"))
                break
            except KafkaError:
                self._renew(producer)
        self._waiting.append((future, producer, key, value))
        if len(self._waiting) > 50_000:
            self.drain(25_000)

    def drain(self, left: int = 0) -> None:
        """Wait until at most so many have no answer."""
        while len(self._waiting) > left:
            future, producer, key, value = self._waiting.popleft()
            try:
                future.get(timeout=PATIENCE_MS / 1000)
            except KafkaError:
                self.again += 1
                self._renew(producer)
                self.send(key, value)

    def _own(self) -> Any:
        self._producer = self._producer or KafkaProducer(
            bootstrap_servers=self.brokers, acks="all", enable_idempotence=True, linger_ms=20, batch_size=131_072,
            request_timeout_ms=5_000, delivery_timeout_ms=PATIENCE_MS, max_block_ms=PATIENCE_MS,
        )  # fmt: skip
        return self._producer

    def _renew(self, failed: Any) -> None:
        """One that gave a message up has broken its numbering: begin with a new one; what waited for it fails too."""
        if self._producer is failed:
            self._producer = None
            failed.close(timeout=1)
            time.sleep(0.2)


def main(brokers: str, topic: str) -> None:
    """See above."""
    commands: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(commands,), daemon=True).start()
    sender = Sender(brokers, topic)
    segment, n = None, 0
    while True:
        try:
            command = commands.get(segment is None)
        except queue.Empty:
            pass
        else:
            if command is None:
                return
            if "segment" in command:
                segment = plan.Segment(**command["segment"])
                n = segment.first
            else:
                sender.drain()
                segment = None
                print(json.dumps({"end": n, "again": sender.again}), flush=True)
            continue
        assert segment is not None
        upto = segment.first + int((time.time() * 1000 - segment.begin) * segment.rate / 1000)
        for key, value in plan.messages(segment, n, min(upto, n + 2000)):
            sender.send(key, value)
        n = max(n, min(upto, n + 2000))
        if n >= upto:
            time.sleep(0.01)


def _read(commands: Any) -> None:
    for line in sys.stdin:
        commands.put(json.loads(line))
    commands.put(None)


if __name__ == "__main__":
    main(*sys.argv[1:])
