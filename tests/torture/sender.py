"""The producer of single messages, a process of its own (kafka-python leaves the sockets of a lost broker to the
garbage collector): `python -m tests.torture.sender BROKERS TOPIC`.

Commands, one JSON object a line: {"send": [[key, value], …]} sends in that order and answers {"again": k} when all are
acknowledged; {"ends": true} answers the topic's end offsets by partition.
"""

from __future__ import annotations

import json
import sys

import tenacity
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from tests.torture.load import Sender


def main(brokers: str, topic: str) -> None:
    """See above."""
    sender = Sender(brokers, topic)
    for line in sys.stdin:
        command = json.loads(line)
        if "send" in command:
            for key, value in command["send"]:
                sender.send(key, value)
            sender.drain()
            print(json.dumps({"again": sender.again}), flush=True)
        else:
            print(json.dumps(_ends(brokers, topic)), flush=True)


@tenacity.retry(
    retry=tenacity.retry_if_exception_type(KafkaError) | tenacity.retry_if_result(lambda found: not found),
    wait=tenacity.wait_fixed(0.2), stop=tenacity.stop_after_delay(60),
)  # fmt: skip
def _ends(brokers: str, topic: str) -> dict[int, int]:
    """None has any while the only broker is fenced."""
    consumer = KafkaConsumer(bootstrap_servers=brokers, enable_auto_commit=False)
    try:
        found = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        return {one.partition: end for one, end in consumer.end_offsets(found).items()}
    finally:
        consumer.close()


main(*sys.argv[1:])
