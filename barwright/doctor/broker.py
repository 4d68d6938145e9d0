"""Whether Kafka keeps ticks for as long as it may take to land them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final

from barwright.doctor.finding import Findings, problem, warning, well
from barwright.ingest.bootstrap import UnreachableError, connected
from barwright.settings import Settings

with warnings.catch_warnings():
    # The library warns about itself on import.
    warnings.simplefilter("ignore")
    from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
    from kafka.admin import ConfigResource, ConfigResourceType
    from kafka.errors import KafkaError

READER: Final = {"enable_auto_commit": False, "request_timeout_ms": 10_000}
DAY: Final = 86_400_000
# Kafka keeps its log by age and size; with less than this part of it left before what waits, ticks are about to go.
NEAR: Final = 0.2
SCARCE: Final = 0.05  # of a broker's disk
MANY: Final = 10_000  # records in a log below which nearness to its start means nothing


class Broker:
    """What Kafka says, and what waits for ingest by the positions in the database."""

    def __init__(self, settings: Settings, positions: Mapping[tuple[str, int], int]) -> None:
        self.settings, self.positions = settings, positions
        self.lag: int | None = None

    def checks(self, thoroughly: bool) -> Findings:
        """All of them, or how much waits; a broker that is away is one problem. `lag` is known afterwards."""
        try:
            if thoroughly:
                with closing(connected(KafkaAdminClient, self.settings, request_timeout_ms=10_000)) as admin:
                    yield from self._topic(admin)
                    yield from _room(admin)
            with closing(connected(KafkaConsumer, self.settings, **READER)) as consumer:
                yield from self._logs(consumer)
        except UnreachableError as error:
            yield problem("kafka", error.message, error.hint)
        except KafkaError as error:
            yield problem("kafka", f"It refuses: {error}", "May the user describe topics?")

    def _topic(self, admin: Any) -> Findings:
        name = self.settings.tick_topic
        if name not in admin.list_topics():
            yield warning("kafka", f"There is no topic {name} yet.", "feed and ingest make it when they start.")
            return
        (described,) = admin.describe_topics([name])
        partitions = described["partitions"]
        yield well("kafka", f"topic {name} with {len(partitions)} partitions")
        copies = min(len(partition["replica_nodes"]) for partition in partitions)
        if copies < 2 <= len(admin.describe_cluster()["brokers"]):
            yield warning(
                "kafka", f"Topic {name} has one copy: a broker that dies takes ticks along.",
                "Raise its replication factor to 3, and min.insync.replicas to 2.",
            )  # fmt: skip
        yield from _kept(name, _configuration(admin, name))

    def _logs(self, consumer: Any) -> Findings:
        known = consumer.topics()
        held = {TopicPartition(*key): at for key, at in self.positions.items() if key[0] in known}
        ends, starts = (consumer.end_offsets([*held]), consumer.beginning_offsets([*held])) if held else ({}, {})
        self.lag = sum(max(0, ends[each] - held[each]) for each in held)
        for each, at in held.items():
            start, end = starts[each], ends[each]
            if at < start:
                yield problem(
                    "kafka", f"{start - at:,} records of {each.topic}/{each.partition} went before they had landed.",
                    "Raise the topic's retention. What a source can give again is fetched: barwright gaps",
                )  # fmt: skip
            elif end - start > MANY and end - at > (1 - NEAR) * (end - start):
                yield problem(
                    "kafka", f"The log of {each.topic}/{each.partition} is full of what has not landed "
                    f"({end - at:,} records): the oldest will be deleted.",
                    "Raise the topic's retention now, then start ingest (or more of it).",
                )  # fmt: skip


def _kept(topic: str, configuration: Mapping[str, str]) -> Findings:
    """Nothing is thrown away that a day without ingest would need."""
    if "compact" in configuration.get("cleanup.policy", ""):
        yield problem(
            "kafka", f"Topic {topic} is compacted: Kafka keeps one trade of each symbol.",
            f"kafka-configs.sh --alter --topic {topic} --add-config cleanup.policy=delete",
        )  # fmt: skip
    kept = int(configuration.get("retention.ms", -1))
    if 0 <= kept < DAY:
        yield problem(
            "kafka", f"Topic {topic} keeps messages for {kept / 3_600_000:.1f} h: a longer outage loses ticks.",
            f"kafka-configs.sh --alter --topic {topic} --add-config retention.ms={7 * DAY}",
        )  # fmt: skip
    size = int(configuration.get("retention.bytes", -1))
    if 0 <= size < 1 << 30:
        yield warning(
            "kafka", f"Topic {topic} keeps {size / 1e6:,.0f} MB a partition, whatever their age.",
            "Is that a day of ticks? Else raise retention.bytes.",
        )  # fmt: skip


def _configuration(admin: Any, topic: str) -> dict[str, str]:
    """Every setting of a topic that is in force."""
    asked = ConfigResource(ConfigResourceType.TOPIC, topic)
    found = admin.describe_configs([asked], config_filter="all")["topic"][topic]
    return {name: each["value"] or "" for name, each in found.items()}


def _room(admin: Any) -> Findings:
    """The brokers' disks are not about to fill."""
    for broker in admin.describe_log_dirs():
        for folder in broker["log_dirs"]:
            free, total = folder.get("usable_bytes", -1), folder.get("total_bytes", -1)
            if 0 <= free < SCARCE * total:
                yield problem(
                    "disk", f"Broker {broker['broker']} has {free / 1e9:,.1f} of {total / 1e9:,.1f} GB left.",
                    "Make room: a broker stops when its disk is full.",
                )  # fmt: skip
