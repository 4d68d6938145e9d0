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
from barwright.ingest.bootstrap import UnreachableError
from barwright.ingest.kafka import KafkaError
from barwright.links.database import pooled
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


def resend(
    settings: Settings, connection: psycopg.Connection[Any], found: Iterable[Letter]
) -> tuple[int, dict[str, KafkaError]]:
    """Publish letters again, oldest first, each to its topic, and mark those that are acknowledged.

    Returns how many those are, and by topic why others are not: a topic that is gone keeps no other waiting.
    """
    # A mark vouches for a moment that is over: sent again it would only break its session's count.
    wanted = [letter for letter in found if _fields(letter.raw).get("type") != b'"mark"'][::-1]
    if not wanted:
        return 0, {}
    count, failures = 0, dict[str, KafkaError]()
    # How large a record may be is the broker's to say.
    producer = kafka.producer(settings, linger_ms=5, max_block_ms=5_000, max_request_size=2**26)
    try:
        for letter, future in [(letter, _send(producer, letter, failures)) for letter in wanted]:
            try:
                if future:
                    future.get(timeout=130)
                    connection.execute(Q["resent"], letter._asdict())
                    count += 1
            except KafkaError as error:
                failures.setdefault(letter.topic, error)
    finally:
        producer.close(timeout=5)
    return count, failures


def _send(producer: Any, letter: Letter, failures: dict[str, KafkaError]) -> Any:
    """The future of a letter's record; None where there is none. A topic that was waited for in vain is left alone."""
    if letter.topic not in failures:
        try:
            return producer.send(letter.topic, key=_key(letter.raw), value=_value(letter.raw))
        except KafkaError as error:
            failures[letter.topic] = error
    return None


def _value(raw: bytes) -> bytes:
    """What is sent again: the same bytes, but for the live session, which has long counted its trades."""
    fields = _fields(raw)
    return msgspec.json.encode(fields) if fields.pop("session", None) else raw


def _fields(raw: bytes) -> dict[str, msgspec.Raw]:
    """The fields of an object, each as it is written; none where it is no object."""
    try:
        return msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}


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
        reason, text = _printable(letter.reason), _printable(letter.raw[:200].decode(errors="backslashreplace"))
        table.add_row(f"{letter.received_at:%F %T}", place, str(letter.offset), str(letter.item), reason, text, again)
    return table


def _printable(text: str) -> str:
    """Text without what a terminal would obey: whoever can produce a message must not write to an operator's screen."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


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
        with sql.connect(current.database_url, "dead-letters", pooled(current), autocommit=True) as connection:
            if again:
                _resend(current, connection, letters(connection, reason, topic, limit, again=False))
            else:
                _show(letters(connection, reason, topic, limit or 20), as_json)
    except psycopg.Error as error:
        raise BarwrightError(f"The database: {str(error).strip()}") from error
    except UnreachableError:
        raise
    except KafkaError as error:
        raise BarwrightError(f"Kafka: {type(error).__name__}: {error}", "Is it running?") from error


def _resend(settings: Settings, connection: psycopg.Connection[Any], found: Iterable[Letter]) -> None:
    count, failures = resend(settings, connection, found)
    click.echo(f"{count:,} message{'' if count == 1 else 's'} sent again")
    if failures:
        why = "; ".join(f"{topic}: {type(error).__name__}: {error}" for topic, error in failures.items())
        raise BarwrightError(
            f"Not all could be sent. {why}.", "Those that were are marked; the others can be tried again."
        )


def _show(found: Iterable[Letter], as_json: bool) -> None:
    if as_json:
        for letter in found:
            click.echo(msgspec.json.encode(letter.shown()))
    else:
        table = _table(found)
        # Messages are data: a bracket in one is no markup.
        Console(markup=False, highlight=False).print(table if table.row_count else "no dead letters")
