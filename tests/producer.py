"""A producer as a process of its own (kafka-python leaves the sockets of failed connects to the garbage collector).

`python -m tests.producer BROKERS` sends about a thousand trades a second until SIGTERM, then prints the ids that the
broker acknowledged, one a line.
"""

import json
import signal
import sys
import threading
import time

from kafka import KafkaProducer

PATIENCE_MS = 120_000


def main(brokers: str) -> None:
    """See above."""
    over, acknowledged = threading.Event(), []
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    producer = KafkaProducer(bootstrap_servers=brokers, acks="all", enable_idempotence=True,
                             delivery_timeout_ms=PATIENCE_MS, max_block_ms=PATIENCE_MS)  # fmt: skip
    first, n = time.time_ns() // 1_000_000, 0
    while not over.is_set():
        for _ in range(10):
            n += 1
            trade = {"type": "trade", "symbol": f"S{n % 5}", "ts": first + n, "id": n, "price": "1.5", "size": "2"}
            sent = producer.send("tick-data", key=trade["symbol"].encode(), value=json.dumps(trade).encode())
            sent.add_callback(lambda _, n=n: acknowledged.append(n))
        time.sleep(0.01)
    producer.flush(PATIENCE_MS / 1000)
    print("\n".join(map(str, acknowledged)))


main(sys.argv[1])
