"""A registered symbol, what live sessions and imports say of it, and what the database then knows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from barwright import sql
from barwright.ingest.batch import Batch
from barwright.ingest.claims import Chunk, Claim
from barwright.ingest.store import Store
from barwright.ingest.ticks import Window
from tests.ingest.messages import START, TOPIC_ID, bar, encode, trade

Q = sql.queries("ingest")


def at(seconds: float) -> str:
    """So many seconds after the start, as RFC 3339."""
    return f"{START + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S.%fZ}"


def live(n: int, lo: float, hi: float, count: int, session: str = "s", **fields: Any) -> dict[str, Any]:
    """The n-th mark of a session: [lo, hi) seconds after the start."""
    mark = {"type": "mark", "event": "live", "session": session, "partition": 0, "n": n, "from": at(lo), "to": at(hi),
            "count": count, "source": "simulator", "symbols": ["BTCUSD"] if n == 1 else None}  # fmt: skip
    return mark | fields


def tick(n: int, session: str | None = "s", **fields: Any) -> dict[str, Any]:
    """The n-th trade, n seconds after the start."""
    return trade(n, ts=at(n), session=session) | fields


def covered_mark(lo: int, hi: int, count: int, **fields: Any) -> dict[str, Any]:
    """What ends an import of [lo, hi): minutes after the start."""
    mark = {"type": "mark", "event": "covered", "symbol": "BTCUSD", "interval": "1m", "from": at(lo * 60),
            "to": at(hi * 60), "count": count, "source": "simulator", "task": None, "attempt": None,
            "final": True}  # fmt: skip
    return mark | fields


def record(
    minutes: Iterable[int],
    lo: int,
    hi: int,
    task: int | None = None,
    attempt: int = 1,
    final: bool = True,
    **fields: Any,
) -> list[dict[str, Any]]:
    """An import: bars of these minutes, which prove [lo, hi)."""
    of = {"task": task, "attempt": attempt} if task else {}
    bars = [bar(minute, source="simulator", **of, **fields) for minute in minutes]
    symbol = fields.get("symbol", "BTCUSD")
    return [*bars, covered_mark(lo, hi, len(bars), symbol=symbol, final=final, **of)]


class Desk:
    """One writer's hold on partition 0 of topic t, and a registered symbol."""

    def __init__(self, store: Store, symbol: str = "BTCUSD", claim: Claim | None = None) -> None:
        self.store, self.symbol = store, symbol
        self.claim = claim or self.take("t")
        self.run("select register_symbol(%s, 'simulator', 'm', 'B', 'Q', %s, 'simulator', '10 s', true)", symbol, START)

    def take(self, topic: str, partition: int = 0) -> Claim:
        """A claim, as session.py makes it."""
        names = {"topic": topic, "partition": partition, "topic_id": TOPIC_ID}
        row = self.store.connection.execute(Q["claim"], names).fetchone()
        assert row is not None
        return Claim(topic, partition, TOPIC_ID, row[1], row[0])

    def batch(self, *messages: Any, claim: Claim | None = None) -> Batch:
        """A batch of one record for each message; all of them fit."""
        claim = claim or self.claim
        batch = Batch(self.store.rules, Window(0, 2**60))
        values = [message if isinstance(message, bytes) else encode(message) for message in messages]
        rest = batch.add(Chunk(claim, claim.next, [(claim.next + n, value) for n, value in enumerate(values)]), 10**9)
        assert rest is None
        return batch

    def land(self, *messages: Any, letters: int = 0, claim: Claim | None = None) -> Batch:
        """Land them in one transaction; so many become dead letters before the database sees them."""
        batch = self.batch(*messages, claim=claim)
        assert len(batch.letters) == letters, batch.letters
        assert self.store.register(batch)
        self.store.land(batch)
        (claim or self.claim).next += len(messages)
        return batch

    def task(self, lo: int, hi: int, interval: str = "1m", attempt: int = 1, reason: str = "gap", **more: Any) -> int:
        """A task that a feed works on: minutes after the start."""
        (row,) = self.run(
            'insert into backfill_task (symbol, source, market, "interval", span, reason, status, attempt)'
            " values (%s, 'simulator', 'm', %s, tstzrange(%s, %s), %s, %s, %s) returning id",
            self.symbol, interval, minute(lo), minute(hi), reason, more.get("status", "publishing"), attempt,
        )  # fmt: skip
        return int(row[0])

    def run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        return self.store.connection.execute(statement, values or None).fetchall()  # type: ignore[call-overload,no-any-return]

    def one(self, statement: str, *values: Any) -> Any:
        """The one value of a query."""
        ((value,),) = self.run(statement, *values)
        return value

    def covered(self, level: str = "1m", symbol: str = "") -> list[tuple[float, float]]:
        """What is proved, in seconds after the start."""
        spans = self.run(
            "select lower(s), upper(s) from unnest(covered(%s, tstzrange(null, null), %s)) as s order by 1",
            symbol or self.symbol, level,
        )  # fmt: skip
        return [((lo - START).total_seconds(), (hi - START).total_seconds()) for lo, hi in spans]

    def bars(self) -> list[tuple[int, int]]:
        """(minute after the start, close) of the imported bars."""
        rows = self.run("select ts, price from ticks where seq = -1 and symbol = %s order by ts", self.symbol)
        return [(int((ts - START).total_seconds()) // 60, int(price)) for ts, price in rows]

    def late(self) -> list[tuple[int, int]]:
        """The late ranges noted, in minutes after the start, and forgotten with that."""
        rows = self.run("delete from late_range where symbol = %s returning lower(span), upper(span)", self.symbol)
        return sorted((_minutes(lo), _minutes(hi)) for lo, hi in rows)

    def status(self, task: int) -> tuple[Any, ...]:
        """(status, attempt, rows) of a task."""
        return self.run("select status, attempt, rows from backfill_task where id = %s", task)[0]


def minute(n: int) -> datetime:
    """So many minutes after the start."""
    return START + timedelta(minutes=n)


def _minutes(ts: datetime) -> int:
    return int((ts - START).total_seconds()) // 60
