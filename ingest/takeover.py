"""Taking a partition over: fence off who had it, and say where to read on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple
from uuid import UUID

import psycopg
import structlog

from barwright import sql
from barwright.ingest.claims import Claim
from barwright.ingest.decode import Decoders, decoder_of
from barwright.ingest.kafka import Partition

log = structlog.get_logger()
Q: Final = sql.queries("ingest")


class Taken(NamedTuple):
    """A claim; whether nobody ever read this topic's partition, and whether that is since the topic was made again."""

    claim: Claim
    is_new: bool
    is_made_again: bool


def take_all(
    connection: psycopg.Connection[Any], topics: Mapping[Partition, UUID], decoders: Decoders, own: Collection[int]
) -> dict[Partition, Taken]:
    """Claims on partitions of these topics; `own` are the server's processes that work for this one.

    A process that is frozen, or whose machine is gone, may hold them in a transaction. In the middle of a COPY no
    timeout of the server's ends that, elsewhere only idle_in_transaction_session_timeout, after 30 s: so we do. What
    it had not committed is read again. Raises psycopg.errors.LockNotAvailable then; asked again, the claims are there.
    """
    connection.execute(Q["claim_patience"])
    try:
        return {partition: take(connection, partition, topic_id, decoders) for partition, topic_id in topics.items()}
    except psycopg.errors.LockNotAvailable:
        names, numbers = zip(*topics, strict=True)
        asked = {"topics": list(names), "partitions": list(numbers), "own": list(own)}
        ended = connection.execute(Q["end_holders"], asked).fetchall()
        log.warning("others hold partitions that are ours now", ended=[pid for (pid,) in ended])
        raise


def take(connection: psycopg.Connection[Any], partition: Partition, topic_id: UUID, decoders: Decoders) -> Taken:
    """A claim on a partition, at its position in the database."""
    topic, number = partition
    before = connection.execute(Q["positions"], {"topics": [topic], "partitions": [number]}).fetchone()
    names = {"topic": topic, "partition": number, "topic_id": topic_id}
    row = connection.execute(Q["claim"], names).fetchone()
    assert row is not None
    position, generation = row
    claim = Claim(topic, number, topic_id, generation, position, decoder_of(topic, decoders))
    is_made_again = before is not None and before[2] != topic_id
    if is_made_again:
        log.warning("the topic was made again; it is read from its start", topic=topic, partition=number)
    log.info("reads", topic=topic, partition=number, position=position, generation=generation)
    return Taken(claim, before is None or is_made_again, is_made_again)


def move(connection: psycopg.Connection[Any], taken: Taken, position: int) -> None:
    """Move a position into the log. What the log no longer holds is skipped: said, counted, proved by no session."""
    claim = taken.claim
    if not taken.is_new:
        log.error(
            "records are lost: the position is outside the log",
            topic=claim.topic,
            partition=claim.partition,
            position=claim.next,
            moved_to=position,
        )
    connection.execute(
        Q["move_position"],
        {
            "topic": claim.topic,
            "partition": claim.partition,
            "generation": claim.generation,
            "position": position,
            "counts": int(not taken.is_new),
        },
    )
    claim.next = position


def behind(taken: Mapping[Partition, Taken], told: Mapping[Partition, int]) -> dict[Partition, int]:
    """Positions in the database behind what was told to Kafka after it had been committed: the database has gone back.

    Kafka forgets what a topic was told when it is deleted, but only by and by.
    """
    return {
        partition: one.claim.next
        for partition, one in taken.items()
        if not one.is_made_again and told.get(partition, 0) > one.claim.next
    }


def renew_epoch(connection: psycopg.Connection[Any], gone_back: Mapping[Partition, int]) -> None:
    """An older state of the database has come back: what is cached of its lost future must never come alive."""
    connection.execute(Q["renew_epoch"])
    log.warning(
        "the database is older than what was committed to it: restored from a backup? Its epoch is renewed",
        positions={f"{topic}/{number}": position for (topic, number), position in gone_back.items()},
    )
