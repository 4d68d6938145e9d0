"""The state machine: what may happen, in any order. Hypothesis chooses; the seed repeats the choice."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import ClassVar

import psutil
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tests import oracle, services
from tests.chaos import faults
from tests.torture.plan import BAD
from tests.torture.run import Run
from tests.torture.world import KEPT

SYMBOLS = st.sampled_from(["R0", "R1", "R2", "R3/USD"])
WEEKS = 6 * 7 * 86_400
# Seconds ago: now, seconds, minutes, hours, days, weeks.
AGES = st.sampled_from([1, 30, 600, 7200, 3 * 86_400, WEEKS]).flatmap(lambda most: st.floats(0, most))
UNITS = st.one_of(
    st.integers(10**16, 10**21),  # 0.01 … 1,000
    st.integers(1, 1000),  # the last places there are
    st.integers(10**36 - 1000, 10**36 - 1),  # the most digits there are
)
NUMBERS = UNITS.map(lambda units: Decimal(units).scaleb(-18, oracle.EXACT))
PRICES = st.lists(NUMBERS, min_size=1, max_size=4)
TRADES = st.lists(st.tuples(AGES, NUMBERS, NUMBERS, st.sampled_from(["b", "s", None])), min_size=1, max_size=30)
SERVERS = st.sampled_from(["postgres", "kafka", "valkey"])
WHICH = st.integers(0, 3)
SECONDS = st.floats(0.2, 3.0)


class Torture(RuleBasedStateMachine):
    """One example. The run is set by whoever starts it, and goes on from example to example."""

    run: ClassVar[Run]

    def __init__(self) -> None:
        super().__init__()
        if not self.run.over and self.run.segment is None:
            self.run.load()

    def teardown(self) -> None:
        """The quiet point."""
        if not self.run.counts.wrong and self.run.dirty:
            self.run.quiet()

    # Messages.

    @rule(symbol=SYMBOLS, trades=TRADES, twice=st.booleans(), seed=st.integers(0, 1000))
    def produce(self, symbol: str, trades: list, twice: bool, seed: int) -> None:
        """Trades, in order or not, late or not, sent twice or not."""
        if self.run.busy():
            self.run.produce(symbol, trades, twice, Random(seed).shuffle if seed % 2 else None)

    @rule(symbol=SYMBOLS, ago=st.integers(2, 28_800), prices=PRICES, volume=NUMBERS)
    def import_minute(self, symbol: str, ago: int, prices: list[Decimal], volume: Decimal) -> None:
        """A minute as an exchange's history tells it."""
        if self.run.busy():
            minute = oracle.bucket(datetime.now(UTC) - timedelta(minutes=ago), "1m")
            self.run.imported(symbol, minute, prices, volume)

    @rule(which=st.integers(0, 1000), prices=PRICES, volume=NUMBERS)
    def correct(self, which: int, prices: list[Decimal], volume: Decimal) -> None:
        """The same minute with other numbers."""
        found = sorted(key for key in self.run.ticks if key[2] == -1)
        if found and self.run.busy():
            symbol, minute, _ = found[which % len(found)]
            self.run.imported(symbol, minute, prices, volume)

    @rule(symbol=SYMBOLS, which=st.integers(0, len(BAD)), noise=st.binary(max_size=40))
    def bad(self, symbol: str, which: int, noise: bytes) -> None:
        """A message that must be refused: one of those of the load, of before what is kept, or just bytes."""
        if not self.run.busy():
            return
        self.run.number += 1
        now = int(time.time() * 1000)
        if which < len(BAD):
            value = BAD[which].format(n=f"9{self.run.number:017}", ts=now, ahead=now + 86_400_000)
        elif noise[:1] < b"\x80":
            old = now - 100 * 86_400_000
            value = f'{{"type":"trade","symbol":"R0","ts":{old},"seq":{self.run.number},"price":"1","size":"1"}}'
        else:
            value = noise.decode("latin-1") + str(self.run.number)
        self.run.bad(symbol, value)

    # What is asked of it.

    @precondition(lambda self: self.run.market)
    @rule(symbol=st.sampled_from(["BTCUSD", "ETHUSD"]), hours=st.integers(1, 20))
    def register(self, symbol: str, hours: int) -> None:
        """Have an exchange's symbol since then, or move its start."""
        if self.run.busy():
            self.run.register(symbol, oracle.bucket(datetime.now(UTC) - timedelta(hours=hours), "1h"))

    @rule()
    def maintain(self) -> None:
        """Advance and repair beside the two whose work it is."""
        if self.run.busy():
            self.run.maintain()

    @rule(days=st.sampled_from([0.1, 1.0, 7.0]))
    def compress(self, days: float) -> None:
        """Compress what is older, where the engine can, and drop what is too old, as maintain does every hour."""
        if self.run.busy():
            self.run.apply(days)

    @precondition(lambda self: self.run.world.kept == KEPT and self.run.counts.quiet > 1)
    @rule()
    def drop(self) -> None:
        """Ticks are kept for half as long from now on: what is older goes, its bars stay. Once in a run."""
        if self.run.busy():
            with self.run.fault("ticks dropped by age, every role killed"):
                self.run.drop(KEPT // 2)

    @rule(seconds=st.sampled_from([-3600.0, -60.0, -5.0, 3.0, 86_400.0]), lasts=SECONDS)
    def clock_steps(self, seconds: float, lasts: float) -> None:
        """The producer's clock jumps, and is put right after a while. A day ahead all is refused."""
        if self.run.busy():
            with self.run.fault(f"the producer's clock steps by {seconds:+,.0f} s"):
                self.run.load(seconds)
                time.sleep(lasts)
                self.run.load()

    # What breaks.

    @rule(role=st.sampled_from(["ingest", "ingest", "maintain", "serve", "feed"]), which=WHICH)
    def kill(self, role: str, which: int) -> None:
        """kill -9 of a role; it is started again at once."""
        if self.run.world.of(role) and self.run.busy():
            with self.run.fault(f"kill -9 {role}"):
                self.run.signal(role, which, signal.SIGKILL)

    @rule(seconds=st.floats(0, 1))
    def kill_all(self, seconds: float) -> None:
        """kill -9 of every role, one after the other."""
        if self.run.busy():
            for role in ("ingest", "maintain", "ingest", "serve"):
                with self.run.fault(f"kill -9 {role}"):
                    self.run.signal(role, self.run.counts.faults[f"kill -9 {role}"], signal.SIGKILL)
                time.sleep(seconds)

    @rule(role=st.sampled_from(["ingest", "maintain", "serve"]), which=WHICH)
    def restart(self, role: str, which: int) -> None:
        """A role is stopped in order, and started again."""
        if self.run.busy():
            with self.run.fault(f"restart {role}"):
                self.run.signal(role, which, signal.SIGTERM)

    @rule(role=st.sampled_from(["ingest", "maintain", "serve"]), which=WHICH, seconds=st.floats(0.5, 12))
    def freeze(self, role: str, which: int, seconds: float) -> None:
        """A role stands still: what it believes to hold may be another's when it wakes."""
        if self.run.busy():
            with self.run.fault(f"freeze {role}"):
                self.run.signal(role, which, signal.SIGSTOP)
                time.sleep(seconds)
                self.run.signal(role, which, signal.SIGCONT)

    @rule()
    def add_ingest(self) -> None:
        """One process of ingest more: partitions move in the middle of a batch."""
        if len(self.run.world.of("ingest")) < 4 and self.run.busy():
            with self.run.fault("rebalance: ingest added"):
                self.run.world.add("ingest")

    @rule(which=WHICH, signum=st.sampled_from([signal.SIGKILL, signal.SIGTERM]))
    def remove_ingest(self, which: int, signum: signal.Signals) -> None:
        """One less."""
        found = self.run.world.of("ingest")
        if len(found) > 1 and self.run.busy():
            with self.run.fault("rebalance: ingest removed"):
                self.run.world.remove(found[which % len(found)], signum)

    @rule(server=SERVERS, killed=st.booleans(), seconds=SECONDS)
    def server_away(self, server: str, killed: bool, seconds: float) -> None:
        """A server is killed or stopped, and comes back."""
        service = self.run.world.services.get(server)
        if service and self.run.busy():
            with self.run.fault(f"{'kill -9' if killed else 'restart'} {server}"):
                (service.kill if killed else service.stop)()
                time.sleep(seconds)
                service.start()

    @rule(server=SERVERS, seconds=st.floats(0.5, 8))
    def freeze_server(self, server: str, seconds: float) -> None:
        """A server stands still. Kafka's controller fences it after 3 s: it wakes up, for a moment, as no broker."""
        service = self.run.world.services.get(server)
        if service and service.pid and self.run.busy():
            with self.run.fault(f"freeze {server}"):
                services.send_all(service.pid, signal.SIGSTOP)
                time.sleep(seconds)
                services.send_all(service.pid, signal.SIGCONT)

    @rule(which=st.integers(0, 40))
    def kill_within_postgres(self, which: int) -> None:
        """kill -9 of one of PostgreSQL's processes, a session's or a worker: it ends all others and recovers."""
        postgres = self.run.world.services.get("postgres")
        if postgres and postgres.pid and self.run.busy():
            with self.run.fault("kill -9 a process of postgres"):
                children = psutil.Process(postgres.pid).children()
                with suppress(psutil.NoSuchProcess, ZeroDivisionError):
                    children[which % len(children)].kill()

    @rule(server=SERVERS, times=st.integers(1, 5), apart=st.floats(0, 0.5))
    def cut(self, server: str, times: int, apart: float) -> None:
        """Every connection to a server is reset, again and again."""
        if self.run.busy():
            for _ in range(times):
                with self.run.fault(f"cut {server}"):
                    self.run.world.proxies[server].cut()
                time.sleep(apart)

    @rule(server=SERVERS, delay=st.floats(0.01, 0.3), seconds=SECONDS)
    def slow(self, server: str, delay: float, seconds: float) -> None:
        """Every packet to and from a server is late."""
        if self.run.busy():
            with self.run.fault(f"slow {server}"):
                self.run.world.proxies[server].delay = delay
                time.sleep(seconds)
                self.run.world.proxies[server].heal()

    @rule(server=SERVERS, seconds=st.floats(0.5, 8), half=st.booleans())
    def stall(self, server: str, seconds: float, half: bool) -> None:
        """Nothing gets through for a while; half open: requests do, answers are lost, and then all is reset."""
        if self.run.busy():
            proxy = self.run.world.proxies[server]
            with self.run.fault(f"{'half-open' if half else 'stall'} {server}"):
                (proxy.half_open if half else proxy.stall)()
                time.sleep(seconds)
                proxy.heal()

    @rule()
    def sessions_cut(self) -> None:
        """The database ends every session."""
        if self.run.busy():
            with self.run.fault("cut by the database"):
                faults.connections_cut(self.run.world, Random(0))

    @precondition(lambda self: not self.run.world.external)
    @rule()
    def back_up_or_restore(self) -> None:
        """A copy of the database is kept; the next time it is what the database becomes, while Kafka has gone on."""
        if not self.run.busy():
            return
        if self.run.backup:
            with self.run.fault("database restored from an earlier copy"):
                self.run.restore()
        else:
            with self.run.fault("restart postgres"):
                faults.backed_up(self.run.world)
                self.run.backup = True

    @precondition(lambda self: self.run.world.disk is not None)
    @rule(seconds=SECONDS)
    def disk_full(self, seconds: float) -> None:
        """The database's disk is full for a while; what dies of it is started again."""
        disk = self.run.world.disk
        if disk.obstacle or not self.run.busy():
            self.run.counts.skipped |= {"disk full": disk.obstacle} if disk.obstacle else {}
            return
        with self.run.fault("disk full"):
            disk.fill()
            time.sleep(seconds)
            disk.relieve()
            postgres = self.run.world.services["postgres"]
            if postgres.pid is None:
                postgres.start()
