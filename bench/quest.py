"""QuestDB with the same ticks: lines over HTTP into a table that drops duplicates, minute bars as a view it stores."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import msgspec
import psutil
import psycopg
from kafka import KafkaConsumer, TopicPartition

from barwright.settings import Settings
from bench import questdb
from bench.ingest import BATCH, PARTITIONS

TABLE = """
create table {} (symbol symbol capacity 1024, side symbol, price double, size double, seq long, ts timestamp)
timestamp(ts) partition by day wal dedup upsert keys(ts, symbol, seq)
"""
VIEW = """
create materialized view bars as (
    select ts, symbol, first(price) open, max(price) high, min(price) low, last(price) close, sum(size) volume,
           sum(price * size) quote_volume, count() trades, sum(case when side = 'b' then size else 0.0 end) buy_volume
    from {} sample by 1m
) partition by day
"""


PATIENCE = 600.0  # seconds


class Quest:
    """One running QuestDB: `ask` over HTTP, `sql` a connection of PostgreSQL's protocol. Each load has a table of its
    own, since a line that is sent to a name soon after its table was dropped may be lost."""

    def __init__(self, port: int, pg_port: int, process: psutil.Process) -> None:
        self.port, self.pg_port, self.process, self.loads = port, pg_port, process, 0
        self.open()

    def open(self) -> None:
        """Connections; new ones before each piece of work, since QuestDB closes what was idle for five minutes."""
        self.http = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        self.sql = psycopg.connect(f"host=127.0.0.1 port={self.pg_port} user=admin password=quest dbname=qdb",
                                   autocommit=True, prepare_threshold=0)  # fmt: skip

    def close(self) -> None:
        """Both."""
        self.sql.close()
        self.http.close()

    def reopen(self) -> None:
        """Close and open."""
        self.close()
        self.open()

    @property
    def table(self) -> str:
        """The table of the newest load."""
        return f"ticks{self.loads}"

    def ask(self, query: str) -> Any:
        """The rows of a query."""
        return questdb.ask(self.port, query)

    def empty(self) -> None:
        """Begin again: a table without a row, no view."""
        self.reopen()
        self.ask("drop materialized view if exists bars")
        self.ask(f"drop table if exists {self.table}")
        self.loads += 1
        self.ask(TABLE.format(self.table))

    def line(self, row: tuple[str, ...]) -> bytes:
        """A row as a line for the newest table."""
        return line(row, self.table)

    def send(self, body: bytes) -> None:
        """Lines, until QuestDB has committed them to its log."""
        self.http.request("POST", "/write?precision=u", body)
        answer = self.http.getresponse()
        told = answer.read()
        if answer.status != 204:
            raise RuntimeError(told.decode())

    def seen(self, rows: int) -> None:
        """Wait until all that was committed is in the table, which is when queries see it; so many rows, no other."""
        began = time.perf_counter()
        state = f"select suspended, writerTxn, sequencerTxn from wal_tables() where name = '{self.table}'"
        while True:
            [[suspended, done, committed]] = self.ask(state)
            if done == committed and not suspended:
                break
            if suspended or time.perf_counter() - began > PATIENCE:
                raise RuntimeError(f"QuestDB applied {done} of {committed} transactions (suspended: {suspended})")
            time.sleep(0.005)
        count = self.ask(f"select count() from {self.table}")[0][0]
        assert count == rows, f"QuestDB has {count} rows of {rows}"

    def load(self, batches: list[bytes], rows: int) -> tuple[float, float]:
        """Seconds until all lines are committed, and until they are seen. Then the last are sent again: no row more."""
        self.empty()
        named = [batch.replace(b"ticks,", b"%s," % self.table.encode()) for batch in batches]
        began = time.perf_counter()
        for batch in named:
            self.send(batch)
        committed = time.perf_counter() - began
        self.seen(rows)
        seen = time.perf_counter() - began
        self.send(named[-1])
        self.seen(rows)
        return committed, seen

    def consume(self, settings: Settings, topic: str, ticks: int) -> float:
        """Seconds from the first message of a topic to all its ticks' being seen: what a consumer of one's own does."""
        self.empty()
        consumer = KafkaConsumer(bootstrap_servers=settings.kafka_bootstrap_servers, max_poll_records=BATCH // 100)
        consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
        consumer.seek_to_beginning()
        done, began = 0, 0.0
        while done < ticks:
            found = [record.value for records in consumer.poll(1000).values() for record in records]
            began = began or (time.perf_counter() if found else 0.0)
            sent = [tick for value in found for tick in msgspec.json.decode(value)]
            if sent:
                self.send(b"".join(self.line(row(tick)) for tick in sent))
            done += len(sent)
        self.seen(ticks)
        took = time.perf_counter() - began
        consumer.close()
        return took

    def refresh(self, wanted: int) -> float:
        """Seconds from making the view to its holding all its bars."""
        self.ask("drop materialized view if exists bars")
        began = time.perf_counter()
        self.ask(VIEW.format(self.table))
        while (count := self.ask("select count() from bars")[0][0]) < wanted:
            if time.perf_counter() - began > PATIENCE:
                raise RuntimeError(f"QuestDB's view has {count} of {wanted} bars")
            time.sleep(0.005)
        return time.perf_counter() - began

    def bars(self) -> list[tuple[Any, ...]]:
        """All of the view."""
        self.reopen()
        return self.sql.execute(
            "select ts, symbol, open, high, low, close, volume, quote_volume, trades, buy_volume from bars"
        ).fetchall()

    def bytes_each(self, table: str) -> float | None:
        """What a row of a table takes on disk, in the days that are over: the last one's files are longer than their
        content. None where there is no other."""
        [[size, rows]] = self.ask(
            f"select sum(diskSize), sum(numRows) from table_partitions('{table}') where not active"
        )
        return round(size / rows, 1) if rows else None


def line(row: tuple[str, ...], table: str = "ticks") -> bytes:
    """A row of `ingest.rows` as a line."""
    ts, symbol, seq, price, size, side = row
    at = round(datetime.fromisoformat(ts).timestamp() * 1e6)
    return f"{table},symbol={symbol},side={side} price={price},size={size},seq={seq}i {at}\n".encode()


def row(tick: dict[str, str]) -> tuple[str, ...]:
    """A message's tick as a row."""
    return tick["ts"], tick["symbol"], tick["id"], tick["price"], tick["size"], tick["side"][0]


@contextmanager
def running(home: Any) -> Iterator[Quest]:
    """QuestDB for as long as this lasts."""
    pg_port = questdb.free_port(0)
    with questdb.server(home, pg_port) as port:
        [process] = [one for one in psutil.Process().children() if str(home / "questdb") in one.cmdline()]
        quest = Quest(port, pg_port, process)
        yield quest
        quest.close()
