"""One run: the world, what was sent into it, what was done to it, and the judgement at quiet points."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psycopg

from barwright.ingest import policies
from barwright.ingest.maintain import round_of
from barwright.settings import Settings
from barwright.sql.engine import engine_of
from tests import oracle
from tests.api.streams import Follower
from tests.chaos import faults
from tests.torture import checks, plan
from tests.torture.sums import Sums
from tests.torture.table import Counts, Recoveries
from tests.torture.world import TOPIC, World

Tick = dict[str, Any]


class WrongError(AssertionError):
    """Something that must hold did not."""


class Run:
    """See above. `rate` is the load's, messages a second; with `market` an exchange is followed too; after `until`
    (monotonic) nothing is done any more."""

    def __init__(self, home: Path, seed: int, rate: float, market: bool, say: Callable[[str], None]) -> None:
        self.world, self.counts, self.rate, self.say = World(home, seed, market), Counts(seed), rate, say
        self.market = market
        self.until = float("inf")
        self.sums = Sums()
        self.segment: plan.Segment | None = None
        self.next = 0
        self.ticks: dict[tuple[str, datetime, int], Tick] = {}
        self.refused: Counter[bytes] = Counter()
        self.number = self.twice = self.dropped = 0
        self.backup = self.dirty = False
        self.registered: dict[str, datetime] = {}
        self.followers: list[Follower] = []

    def __enter__(self) -> Self:
        self.began = time.monotonic()
        self.world.__enter__()
        try:
            self._begin()
        except BaseException as error:
            self.world.__exit__(type(error), error, None)
            raise
        return self

    def _begin(self) -> None:
        self.api = checks.Reached(self.world.api)
        checks.eventually(self._away, 60)
        with self.connect() as connection:
            self.counts.engine = engine_of(connection).name
        start = (datetime.now(UTC) - timedelta(days=2)).isoformat()
        self.recoveries = Recoveries(self.counts, self._positions, lambda: self._away() is None)
        self.recoveries.start()
        # A symbol is known once it has a trade.
        self.produce("R0", [(1.0, Decimal("1.5"), Decimal(2), "b")])
        self.load()
        checks.eventually(self._unknown, 60)
        self.followers = [Follower([self.api], symbol, interval, start=start) for symbol, interval in FOLLOWED]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.recoveries.close()
        for follower in self.followers:
            follower.over = True
            follower.cut()
        self.world.__exit__(kind, error, trace)
        self.counts.seconds = time.monotonic() - self.began

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self.until

    def busy(self) -> bool:
        """Whether there is time for one more step; notes that there was one."""
        self.dirty = self.dirty or not self.over
        return not self.over

    def connect(self) -> Any:
        """A connection to the database, not by way of its proxy."""
        return self.world.connect()

    # What is sent.

    def load(self, skew: float = 0) -> None:
        """Begin a segment of the load; `skew` seconds are added to its times."""
        self.pause()
        self.segment = plan.Segment(self.next, int(time.time() * 1000), self.rate, int(skew * 1000))
        self.world.load.tell(segment=asdict(self.segment))

    def pause(self) -> None:
        """End the segment, once all of it is acknowledged."""
        if self.segment:
            told = self.world.load.ask(pause=True)
            self.next = told["end"]
            self.sums.take(replace(self.segment, end=self.next))
            self.segment = None

    def send(self, *messages: tuple[str, str]) -> None:
        """Send messages in their order, each until it is acknowledged."""
        self.world.sender.ask(send=messages)

    def produce(self, symbol: str, trades: list[tuple[float, Decimal, Decimal, str | None]], twice: bool = False,
                shuffle: Callable[[list[Any]], Any] | None = None) -> None:  # fmt: skip
        """Trades of (seconds ago, price, size, side), numbered in the order of the list."""
        now, made = datetime.now(UTC), []
        for ago, price, size, side in trades:
            self.number += 1
            ts = now - timedelta(seconds=min(ago, (self.world.kept - 2) * 86_400))
            made.append(trade(symbol, ts, self.number, price, size, side))
        for one in made:
            self.ticks[symbol, one["ts"], one["seq"]] = one
        sent = [(symbol, told(one)) for one in made]
        if twice:
            sent += sent
            self.twice += len(made)
        if shuffle:
            shuffle(sent)
        self.send(*sent)

    def bad(self, symbol: str, value: str) -> None:
        """A message that must be refused."""
        self.refused[value.encode("latin-1")] += 1
        self.send((symbol, value))

    def imported(self, symbol: str, minute: datetime, prices: list[Decimal], volume: Decimal) -> None:
        """An imported minute; sent again with other numbers it is a correction."""
        open_, close = prices[0], prices[-1]
        bar = {"symbol": symbol, "ts": minute, "seq": -1, "price": close, "size": volume, "side": None, "open": open_,
               "high": max(prices), "low": min(prices), "quote": None, "trades": None}  # fmt: skip
        self.counts.corrected += (symbol, minute, -1) in self.ticks
        self.ticks[symbol, minute, -1] = bar
        self.send((symbol, bar_told(bar)))

    def register(self, symbol: str, start: datetime) -> None:
        """Have a symbol of the exchange's from `start` on; one that is there already has its start moved."""
        body = {"source": "simulator", "start": start.isoformat()}

        def refused() -> str | None:
            answer = self.api.client.put(f"/v1/symbols/{symbol}", json=body)
            with self.connect() as connection:
                # A minute's grace, as the real vendor needs it, would be a minute more of every quiet point.
                connection.execute("update symbols set grace = '10 s' where source = 'simulator'")
            return None if answer.is_success else answer.text

        if wrong := checks.eventually(refused, 60):
            self.counts.wrong.append(f"{symbol} cannot be registered: {wrong}")
        self.registered[symbol] = start
        self.counts.registered += 1

    # What is done to it.

    @contextmanager
    def fault(self, name: str) -> Iterator[None]:
        """Something goes wrong; when it is over its recovery is measured."""
        self.say(f"{time.monotonic() - self.began:7.1f}  {name}")
        self.counts.faults[name] += 1
        yield
        self.recoveries.lifted(name, {int(number): end for number, end in self.ends().items()})

    def ends(self) -> dict[str, int]:
        """The log's ends by partition."""
        return self.world.sender.ask(ends=True)

    def signal(self, role: str, which: int, signum: signal.Signals) -> None:
        """A signal to one of a role's processes."""
        found = self.world.of(role)
        found[which % len(found)].send(signum)

    def restore(self) -> None:
        """The database is what it was when it was backed up; Kafka has gone on."""
        faults.restored(self.world)
        self.backup = False
        # Whoever was registered since the copy has to be registered again.
        for symbol, start in self.registered.items():
            self.register(symbol, start)

    def maintain(self) -> None:
        """A round of maintain beside those whose work it is."""
        with suppress(psycopg.OperationalError), self.connect() as connection:
            round_of(engine_of(connection), connection, timedelta(seconds=2))

    def apply(self, compress_after: float) -> bool:
        """Compress what is older (TimescaleDB) and drop what is too old, as maintain does; whether that is done."""
        settings = Settings(raw_retention_days=self.world.kept, compress_after_days=compress_after)
        with suppress(psycopg.OperationalError), self.connect() as connection:
            if connection.execute(policies.Q["hold"]).fetchone()[0]:
                return policies.apply(connection, settings)
        return False

    def drop(self, days: int) -> None:
        """Keep ticks for fewer days from now on. What was landed and rolled up before keeps its bars."""
        self.quiet()
        before = self.rows()
        self.world.keep(days)
        if wrong := checks.eventually(lambda: None if self.apply(7) else "ticks are not dropped", 60):
            self.counts.wrong.append(wrong)
        self.dropped += before - self.rows()
        # An older copy's ticks would be refused when they are read again.
        if self.backup:
            faults.forget_backup(self.world)
            self.backup = False
        self.load()

    def rows(self) -> int:
        """Ticks in the database."""
        with self.connect() as connection:
            return connection.execute("select count(*) from ticks where symbol ~ '^[LR][0-9]'").fetchone()[0]

    # What must hold.

    def quiet(self) -> None:
        """Let everything land and judge it; raises WrongError."""
        self.world.calm()
        self.pause()
        ends = self.ends()
        with self.connect() as connection:
            left = checks.settled(self.world, connection, ends)
            if left:
                self.counts.wrong.append(f"not settled after {checks.PATIENCE:.0f} s: {left}")
            self.counts.sent = sum(ends.values())
            self.counts.twice = self.twice + self.sums.counts["twice"]
            accepted = len(self.ticks) + self.sums.counts["accepted"]
            checks.account(connection, self.counts, accepted, self.dropped, self.refused + self.sums.refused)
            self._bars(connection)
            for symbol, start in self.registered.items():
                checks.covered(self.world, connection, self.counts, symbol, start)
        self.counts.quiet += 1
        self.dirty = False
        if self.counts.wrong:
            raise WrongError("\n".join(self.counts.wrong))

    def _bars(self, connection: Any) -> None:
        for interval in checks.INTERVALS:
            theirs = checks.truth([*self.sums.bars(interval), *oracle.bars(self.ticks.values(), interval)])
            checks.compare(f"SQL {interval}", self.counts, checks.over_sql(connection, interval), theirs)
            for symbol in sorted({symbol for symbol, _ in theirs}):
                self._over_api(interval, symbol, {key: bar for key, bar in theirs.items() if key[0] == symbol})
        for follower in self.followers:
            wrong = checks.eventually(lambda follower=follower: follower.check(self.api), 20)  # type: ignore[misc]
            self.counts.bars += len(follower.store.bars)
            if wrong:
                self.counts.wrong_bars += 1
                self.counts.wrong.append(f"stream {follower.params}: {wrong}")

    def _over_api(self, interval: str, symbol: str, theirs: checks.Bars) -> None:
        first = min(bucket for _, bucket in theirs)

        def differs() -> str | None:
            return None if checks.over_api(self.api, symbol, interval, first) == theirs else "differs"

        wrong = checks.eventually(differs, 0 if self.counts.wrong else 10)
        ours = checks.over_api(self.api, symbol, interval, first) if wrong == "differs" else {} if wrong else theirs
        checks.compare(f"API {interval}: {wrong}", self.counts, ours, theirs)

    def _unknown(self) -> str | None:
        """A stream of a symbol that nobody knows is refused."""
        missing = [
            symbol for symbol, _ in FOLLOWED if not self.api.get("/v1/bars", symbol=symbol, interval="1m").is_success
        ]
        return f"{missing} unknown" if missing else None

    def _positions(self) -> dict[int, int]:
        with self.connect() as connection:
            return dict(connection.execute(checks.POSITIONS, (TOPIC,)).fetchall())

    def _away(self) -> str | None:
        answer = httpx.get(f"{self.world.api}/health/ready", timeout=5, trust_env=False)
        return None if answer.is_success else answer.text


FOLLOWED = (("R0", "1m"), ("L0", "1m"), ("L1", "5m"))


def trade(symbol: str, ts: datetime, seq: int, price: Decimal, size: Decimal, side: str | None) -> Tick:
    """A trade as the oracle knows it."""
    return {"symbol": symbol, "ts": ts, "seq": seq, "price": price, "size": size, "side": side, "open": None,
            "high": None, "low": None, "quote": None, "trades": None}  # fmt: skip


def told(t: Tick) -> str:
    """As it is sent."""
    side = {"b": ',"side":"buy"', "s": ',"side":"sell"', None: ""}[t["side"]]
    return (f'{{"type":"trade","symbol":"{t["symbol"]}","ts":"{t["ts"].isoformat()}","seq":{t["seq"]},'
            f'"price":"{t["price"]:f}","size":"{t["size"]:f}"{side}}}')  # fmt: skip


def bar_told(bar: Tick) -> str:
    """As it is sent."""
    return (f'{{"type":"bar","symbol":"{bar["symbol"]}","interval":"1m","ts":"{bar["ts"].isoformat()}",'
            f'"open":"{bar["open"]:f}","high":"{bar["high"]:f}","low":"{bar["low"]:f}","close":"{bar["price"]:f}",'
            f'"volume":"{bar["size"]:f}"}}')  # fmt: skip
