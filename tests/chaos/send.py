"""`python -m tests.chaos.send BROKERS < LINES` sends messages, one a line; status 0 when all are acknowledged."""

import json
import sys

from kafka import KafkaProducer


def main(brokers: str) -> None:
    """See above."""
    producer = KafkaProducer(bootstrap_servers=brokers, acks="all", enable_idempotence=True,
                             delivery_timeout_ms=20_000, request_timeout_ms=5_000, max_block_ms=10_000)  # fmt: skip
    lines = sys.stdin.buffer.read().splitlines()
    sent = [producer.send("tick-data", key=json.loads(line)["symbol"].encode(), value=line) for line in lines]
    for future in sent:
        future.get(timeout=25)


main(sys.argv[1])
