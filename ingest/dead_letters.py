"""`barwright dead-letters`: the messages that could not become rows, and sending them again."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import click
import msgspec
import psycopg
from psycopg.rows import class_row
from rich.console import Console
from rich.table import Table

from barwright import sql
from barwright.errors import BarwrightError
from barwright.ingest import kafka
from barwright.ingest.kafka import KafkaError
from barwright.settings import Settings

Q: Final = sql.queries("ingest")


class Letter(NamedTuple):
    """One dead letter."""

    topic_id: UUID
    topic: str
    partition: int
    offset: int
    item: int
    received_at: datetime
    reason: str
    raw: bytes
    resent_at: datetime | None

    def shown(self) -> dict[str, Any]:
        """As JSON tells it; bytes that are no text are in base64."""
        try:
            raw = {"message": self.raw.decode()}
        except UnicodeDecodeError:
            raw = {"base64": base64.b64encode(self.raw).decode()}
        return {name: value for name, value in self._asdict().items() if name != "raw"} | raw


def letters(
    connection: psycopg.Connection[Any], reason: str, topic: str, limit: int | None, again: bool = True
) -> Iterator[Letter]:
    """Dead letters, newest first, whose reason contains a text; without `again` only those never sent again."""
    with connection.cursor(row_factory=class_row(Letter)) as cursor:
        wanted = {"reason": reason, "topic": topic or None, "limit": limit, "again": again}
        yield from cursor.execute(Q["letters"], wanted)


def resend(settings: Settings, connection: psycopg.Connection[Any], found: Iterable[Letter]) -> int:
    """Publish letters again, oldest first, each to its topic, and mark those that are acknowledged; returns how many.

    Raises KafkaError.
    """
    producer = kafka.producer(settings, linger_ms=5)
    try:
        sent = [
            (letter, producer.send(letter.topic, key=_key(letter.raw), value=letter.raw))
            for letter in reversed([*found])
        ]
        for letter, future in sent:
            future.get(timeout=60)
            connection.execute(Q["resent"], letter._asdict())
    finally:
        producer.close(timeout=5)
    return len(sent)


def _key(raw: bytes) -> bytes | None:
    """The symbol, where it can be read, so that it reaches the partition of its kind."""
    try:
        symbol = msgspec.json.decode(raw)["symbol"]
    except (msgspec.MsgspecError, ValueError, RecursionError, KeyError, TypeError):
        return None
    return symbol.encode() if isinstance(symbol, str) else None


def _table(found: Iterable[Letter]) -> Table:
    table = Table("received", "topic/partition", "offset", "item", "reason", "message", "sent again")
    for letter in found:
        again = "" if letter.resent_at is None else f"{letter.resent_at:%F %T}"
        place = f"{letter.topic}/{letter.partition}"
        text = letter.raw[:200].decode(errors="backslashreplace")
        table.add_row(
            f"{letter.received_at:%F %T}", place, str(letter.offset), str(letter.item), letter.reason, text, again
        )
    return table


@click.command("dead-letters")
@click.option("--reason", default="", help="only those whose reason contains this text")
@click.option("--topic", default="", help="only those of this topic")
@click.option(
    "--limit", type=click.IntRange(1), help="at most so many, newest first (20 when listing, all with --resend)"
)
@click.option("--json", "as_json", is_flag=True, help="one JSON object a line")
@click.option(
    "--resend", "again", is_flag=True, help="send them again; those that were sent again already are left out"
)
@click.pass_obj
def command(
    settings: Callable[[], Settings], reason: str, topic: str, limit: int | None, as_json: bool, again: bool
) -> None:
    """List the messages that could not become rows, or send them again."""
    current = settings()
    try:
        with sql.connect(current.database_url, "dead-letters", autocommit=True) as connection:
            if again:
                found = list(letters(connection, reason, topic, limit, again=False))
                click.echo(f"{resend(current, connection, found):,} messages sent again")
            else:
                _show(letters(connection, reason, topic, limit or 20), as_json)
    except psycopg.Error as error:
        raise BarwrightError(f"The database: {str(error).strip()}") from error
    except KafkaError as error:
        raise BarwrightError(f"Kafka: {type(error).__name__}: {error}", "What was acknowledged is marked.") from error


def _show(found: Iterable[Letter], as_json: bool) -> None:
    if as_json:
        for letter in found:
            click.echo(msgspec.json.encode(letter.shown()))
    else:
        table = _table(found)
        # Messages are data: a bracket in one is no markup.
        Console(markup=False, highlight=False).print(table if table.row_count else "no dead letters")
