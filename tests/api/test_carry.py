"""What a lane carries from look to look: sums of settled ticks and those of new ones equal the view, in one snapshot,
whatever writers do meanwhile."""

import os
import random
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from barwright import sql
from barwright.api.database import Row
from barwright.api.encode import NULL
from barwright.api.intervals import moment
from barwright.api.stream.carry import RUN, Carry, Held
from barwright.api.stream.lane import TAILS_SQL
from barwright.embedded.postgres import Postgres
from tests import services
from tests.api.conftest import eventually
from tests.sql.market import INSERT, Market

Connection = psycopg.Connection[Any]
SYMBOLS, MINUTES, STEPS = 4, 4, 250


class Series:
    """A holder."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.held: Held | None = None


class Looker:
    """A lane's looks, each beside the view's answer of the same snapshot."""

    def __init__(self, connection: Connection, symbols: list[str]) -> None:
        self.connection = connection
        self.connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        self.series = [Series(symbol) for symbol in symbols]
        self.carry = Carry()
        self.carried = self.asked = 0

    def look(self, lo: int, some: list[Series]) -> list[Row]:
        """The rows of the view, which must be those of the carry."""
        with self.connection.transaction():
            held = [one.held for one in some]
            rows = [self.connection.execute(*query).fetchall() for query in self.carry.queries(some, lo)]
            found, others = self.carry.take(some, lo, *rows)
            found += self._tails(others, lo) if others else []
            truth = self._tails([one.symbol for one in some], lo)
        assert sorted(found) == sorted(truth)
        self.carried += sum(was is not None and one.held is not None for was, one in zip(held, some, strict=True))
        self.asked += len(others)
        return truth

    def _tails(self, symbols: list[str], lo: int) -> list[Row]:
        args = {"symbols": symbols, "lo": moment(lo), "null": NULL}
        return self.connection.execute(TAILS_SQL["1m"], args).fetchall()


@pytest.fixture
def looker(dsn: str, market: Market) -> Iterator[Looker]:
    """Looks at a market's symbols."""
    with sql.connect(dsn, "serve") as connection:
        connection.rollback()
        yield Looker(connection, [f"{market.symbol}.{n}" for n in range(SYMBOLS)])


@pytest.fixture
def market(connection: Connection) -> Market:
    """Years of its own; nothing of them is rolled up."""
    made = Market(connection)
    made.insert(made.trade(made.start, "1"))  # TimescaleDB: who makes a chunk is waited for
    return made


class Writers:
    """Three connections that land in transactions of their own length, and one that changes what has landed."""

    def __init__(self, stack: ExitStack, dsn: str, market: Market, symbols: list[str], dice: random.Random) -> None:
        self.market, self.symbols, self.dice = market, symbols, dice
        self.writers = [stack.enter_context(sql.connect(dsn, "ingest")) for _ in range(3)]
        for writer in self.writers:
            writer.execute("set idle_in_transaction_session_timeout = 0")
            writer.commit()
        self.seq = 10**6

    def step(self) -> None:
        """Anything that can happen to ticks."""
        dice = self.dice
        kinds = {
            self.land: 50,
            self.end: 30,
            self.delete: 4,
            self.correct: 4,
            self.load: 1,
            self.unload: 1,
            self.nest: 10,
        }
        dice.choices(list(kinds), list(kinds.values()))[0]()

    def land(self) -> None:
        """Ticks of any symbol and minute, in any order of seq, committed later by whoever comes first."""
        self._insert(self.dice.choice(self.writers), self.dice.randrange(1, 12))

    def nest(self) -> None:
        """In a transaction within the transaction, which may be undone."""
        writer = self.dice.choice(self.writers)
        self._insert(writer, 1)
        with writer.transaction(force_rollback=self.dice.random() < 0.5):
            self._insert(writer, 2)

    def end(self) -> None:
        """Commit, or roll back."""
        writer = self.dice.choice(self.writers)
        writer.rollback() if self.dice.random() < 0.1 else writer.commit()

    def delete(self) -> None:
        """One that has landed goes; perhaps another comes in its place at once."""
        with self.market.connection.transaction():
            self._change("delete from ticks where")
            if self.dice.random() < 0.5:
                self._insert(self.market.connection, 1)

    def correct(self) -> None:
        """Another price, another place in the order, or both sides unknown."""
        self._change(self.dice.choice([
            "update ticks set price = price + 0.001 where", "update ticks set seq = seq + 5000000, side = null where",
        ]))  # fmt: skip

    def load(self) -> None:
        """An imported minute stands in for trades."""
        bar = self.market.bar(self._minute(), "10 30.5 0.5 20.25", "7.125")
        self.market.connection.execute(INSERT, bar | {"symbol": self.dice.choice(self.symbols)})

    def unload(self) -> None:
        """No more."""
        self.market.connection.execute("delete from ticks where symbol = any(%s) and seq = -1", (self.symbols,))

    def _change(self, what: str) -> None:
        self.market.connection.execute(
            f"{what} (symbol, ts, seq) in (select symbol, ts, seq from ticks where symbol = %s and seq > -1 limit 1)",
            (self.dice.choice(self.symbols),),
        )

    def _insert(self, connection: Connection, count: int) -> None:
        symbol, dice = self.dice.choice(self.symbols), self.dice
        for _ in range(count):
            self.seq += 1
            ts = self._minute() + timedelta(microseconds=dice.randrange(60_000_000))
            price = Decimal(dice.choice([dice.randrange(1, 10**6), 10**17 + dice.randrange(9)])).scaleb(
                -dice.randrange(3)
            )
            size = Decimal(dice.randrange(10**9)).scaleb(-dice.randrange(18))
            seq = dice.randrange(10**6) * 100_000_000 + self.seq
            trade = self.market.trade(ts, str(price), str(size), dice.choice(["b", "s", "b", None]), seq, symbol)
            connection.execute(INSERT, trade)

    def _minute(self) -> datetime:
        return self.market.start + timedelta(minutes=self.dice.randrange(MINUTES))


@pytest.mark.parametrize("seed", [1, 2, *(pytest.param(n, marks=pytest.mark.slow) for n in range(3, 23))])
def test_what_is_carried_and_what_is_new_equal_the_view(dsn: str, market: Market, looker: Looker, seed: int) -> None:
    dice = random.Random(seed)
    begin = int(market.start.timestamp())
    with ExitStack() as stack:
        writers = Writers(stack, dsn, market, [one.symbol for one in looker.series], dice)
        for _ in range(STEPS):
            writers.step()
            if dice.random() < 0.4:
                lo = begin + 60 * dice.choice([0, 0, 0, 0, 1, 2, MINUTES])
                looker.look(lo, dice.sample(looker.series, dice.randrange(1, SYMBOLS + 1)))
        for writer in writers.writers:
            writer.commit()
        assert len(looker.look(begin, looker.series)) > MINUTES
    assert looker.carried > 40
    assert looker.asked > 10


def test_only_new_ticks_are_added_up(market: Market, looker: Looker) -> None:
    """What was told is believed, until a tick of it has gone, or another run of the server answers."""
    begin, one = int(market.start.timestamp()), looker.series[0]
    market.insert(*(market.trade(market.start, "7", symbol=one.symbol) for _ in range(5)))
    looker.look(begin, [one])
    assert one.held
    lie = {bucket: part.replace(" 7", " 8") for bucket, part in one.held.sums.items()}
    assert lie != one.held.sums
    one.held = one.held._replace(sums=lie)
    with pytest.raises(AssertionError):
        looker.look(begin, [one])
    one.held = one.held._replace(sums=lie)
    market.connection.execute("delete from ticks where symbol = %s and seq in "
                              "(select min(seq) from ticks where symbol = %s)", (one.symbol, one.symbol))  # fmt: skip
    looker.look(begin, [one])
    assert one.held is None
    looker.look(begin, [one])
    assert one.held
    one.held = Held(one.held.cursor, one.held.lo, lie)
    looker.carry.run = "another"
    looker.look(begin, [one])


def test_minutes_that_may_be_rolled_up_are_the_views(market: Market, looker: Looker) -> None:
    begin, one = int(market.start.timestamp()), looker.series[0]
    market.insert(market.trade(market.start, "7", symbol=one.symbol))
    market.connection.execute("update level set sealed = sealed + interval '1 minute'")
    looker.look(begin, [one])
    assert looker.asked == 1
    looker.look(begin + 60, [one])


def test_a_crash_is_another_run(tmp_path: Path) -> None:
    """It can lose transactions that were committed asynchronously, and their ids are used again."""
    own = Postgres(tmp_path)
    services.demand(own)
    own.start()

    def run() -> tuple[str, int]:
        with psycopg.connect(own.url) as connection:
            row = connection.execute(psycopg.sql.SQL("select {}, pg_backend_pid()").format(RUN)).fetchone()
            assert row
            return row[0], row[1]

    try:
        before = run()[0]
        assert run()[0] == before
        with psycopg.connect(own.url, autocommit=True) as connection:
            os.kill(connection.info.backend_pid, signal.SIGKILL)
            with pytest.raises(psycopg.OperationalError):
                connection.execute("select 1")
        after = eventually(run, 20, psycopg.OperationalError)[0]
        assert after != before
    finally:
        own.stop()
