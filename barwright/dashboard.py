"""What `barwright run` shows: the roles, the flow of ticks and the newest bars."""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
from rich.console import Group
from rich.table import Table
from rich.text import Text

from barwright import sql
from barwright.roles import Role
from barwright.settings import Settings

if TYPE_CHECKING:
    from kafka import KafkaConsumer

_PERIOD = 1.0


@dataclass(frozen=True)
class Sample:
    """One look: ticks landed per second, messages not yet landed (None: Kafka does not tell), newest bars."""

    rate: float = 0.0
    lag: int | None = None
    closed: datetime | None = None
    bars: list[tuple[Any, ...]] = field(default_factory=list)
    trouble: str = ""


class Sampler(threading.Thread):
    """Looks once a second, in a thread of its own: a server that is down must not keep roles from being tended."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(name="sampler", daemon=True)
        self.settings = settings
        self.latest = Sample()
        self._over = threading.Event()
        self._consumer: KafkaConsumer | None = None

    def run(self) -> None:
        """Look until closed; a lost connection is made again."""
        while not self._over.wait(_PERIOD):
            try:
                with sql.connect(self.settings.database_url, "run", autocommit=True) as connection:
                    self._follow(connection)
            except psycopg.Error as error:
                self.latest = Sample(trouble=f"database: {str(error).splitlines()[0]}")

    def close(self) -> None:
        """End the thread."""
        self._over.set()
        self.join(timeout=2)

    def _follow(self, connection: psycopg.Connection[Any]) -> None:
        queries = sql.queries("run")
        rows, at = None, time.monotonic()
        while not self._over.wait(_PERIOD):
            positions = connection.execute(queries["positions"]).fetchall()
            now, total = time.monotonic(), sum(row[3] for row in positions)
            rate = 0.0 if rows is None else (total - rows) / (now - at)
            rows, at = total, now
            (closed,) = connection.execute(queries["watermark"]).fetchone() or (None,)
            bars = connection.execute(queries["newest_bars"]).fetchall()
            self.latest = Sample(rate, self._lag(positions), closed, bars)

    def _lag(self, positions: Iterable[tuple[Any, ...]]) -> int | None:
        """Messages in the partitions that ingest has not landed yet."""
        from kafka import TopicPartition
        from kafka.errors import KafkaError

        offsets: dict[Any, int] = {
            TopicPartition(topic, partition): position for topic, partition, position, _ in positions
        }
        try:
            self._consumer = self._consumer or _consumer(self.settings)
            there = self._consumer.topics() if offsets else set()
            known = [partition for partition in offsets if partition.topic in there]
            ends = self._consumer.end_offsets(known) if known else {}
        except (KafkaError, KeyError):
            # KeyError: kafka-python's word for a topic that was deleted just now.
            return None
        return sum(max(0, int(end) - offsets[partition]) for partition, end in ends.items())


def _consumer(settings: Settings) -> "KafkaConsumer":
    from kafka import KafkaConsumer

    from barwright.links.kafka import options

    return KafkaConsumer(**options(settings), request_timeout_ms=5000)


def render(roles: list[Role], sample: Sample, engine: str) -> Group:
    """The live display of a terminal."""
    head = Text(f"engine {engine}   {flow(sample)}")
    return Group(head, _roles(roles), _bars(sample))


def line(roles: list[Role], sample: Sample, engine: str) -> str:
    """The same in one line, for a log."""
    states = " ".join(f"{role.name}={role.child.pid or role.state}" for role in roles)
    bars = " ".join(f"{bar[0]}={_short(bar[5])}@{bar[1]:%H:%M}" for bar in sample.bars)
    return f"{flow(sample)} · engine {engine} · {states} · {bars}"


def flow(sample: Sample) -> str:
    """Rate and lag in words."""
    if sample.trouble:
        return sample.trouble
    lag = "?" if sample.lag is None else f"{sample.lag:,}"
    closed = f"   closed up to {sample.closed:%H:%M} UTC" if sample.closed else ""
    return f"{sample.rate:,.0f} ticks/s   lag {lag}{closed}"


def _roles(roles: list[Role]) -> Table:
    table = Table("role", "state", "pid", "restarts", box=None)
    for role in roles:
        table.add_row(role.name, role.state, str(role.child.pid or ""), str(role.restarts))
    return table


def _bars(sample: Sample) -> Table:
    table = Table("symbol", "newest minute", box=None)
    for name in ("open", "high", "low", "close", "volume", "trades"):
        table.add_column(name, justify="right")
    for symbol, bucket, *numbers in sample.bars:
        table.add_row(symbol, f"{bucket:%Y-%m-%d %H:%M}", *map(_short, numbers))
    return table


def _short(number: Decimal | int | None) -> str:
    """A number without trailing zeros and exponent."""
    if isinstance(number, Decimal):
        return f"{number.normalize():f}"
    return "" if number is None else str(number)
