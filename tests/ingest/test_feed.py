"""The simulated market is the same for everyone who computes it, and the feed publishes exactly that."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from statistics import mean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barwright.errors import BarwrightError
from barwright.ingest.feed import Feed
from barwright.ingest.feed.simulator import Simulator
from barwright.ingest.ticks import Trade, Window, number_of, time_of, trade_row
from barwright.settings import Settings
from tests import services
from tests.ingest.conftest import World, eventually
from tests.services import Server

SYMBOLS = ("BTCUSD", "EUR/USD", "XRPUSD", "new:one")
MARKET = Simulator(7, SYMBOLS, 120.0)
NOW = 29_500_000  # minutes since 1970
WINDOW = Window(0, 2**60)
MINUTES = st.integers(NOW - 500_000, NOW + 500_000)

# Prints what a process computes of a market.
PROGRAM = """
import hashlib, sys
from barwright.ingest.feed.simulator import Simulator
market = Simulator(int(sys.argv[1]), tuple(sys.argv[3:]), 120.0)
minutes = [market.minute(symbol, minute) for minute in eval(sys.argv[2]) for symbol in market.symbols]
print(hashlib.sha256(repr(minutes).encode()).hexdigest())
"""


def digest(market: Simulator, minutes: range) -> str:
    """What PROGRAM prints, computed here."""
    found = [market.minute(symbol, minute) for minute in minutes for symbol in market.symbols]
    return hashlib.sha256(repr(found).encode()).hexdigest()


@pytest.mark.parametrize("hash_seed", ["1", "4242"])
def test_every_process_computes_the_same_market(hash_seed: str) -> None:
    minutes = range(NOW, NOW + 20)
    command = [sys.executable, "-c", PROGRAM, str(MARKET.seed), repr(minutes), *SYMBOLS]
    done = subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": hash_seed}, capture_output=True, text=True)
    assert done.stdout.strip() == digest(MARKET, minutes), done.stderr


@given(st.integers(), st.sampled_from(SYMBOLS), MINUTES)
def test_a_minute_depends_on_seed_symbol_and_minute_only(seed: int, symbol: str, minute: int) -> None:
    """… and not on which other symbols there are, nor on what was computed before."""
    alone, among = Simulator(seed, (symbol,), 120.0), Simulator(seed, SYMBOLS, 120.0)
    trades = among.minute(symbol, minute)
    assert alone.between(minute * 60_000, minute * 60_000 + 60_000) == trades == alone.minute(symbol, minute)
    assert trades != Simulator(seed + 1, (symbol,), 120.0).minute(symbol, minute)
    assert [trade.price for _, trade in trades] != [trade.price for _, trade in alone.minute(symbol, minute + 1)]


@given(st.sampled_from(SYMBOLS), MINUTES)
def test_ids_grow_with_time_and_times_stay_in_their_minute(symbol: str, minute: int) -> None:
    trades = MARKET.minute(symbol, minute) + MARKET.minute(symbol, minute + 1)
    assert all(at == trade.ts and trade.symbol == symbol for at, trade in trades)
    for (at, trade), (later, after) in pairwise(trades):
        assert at <= later
        assert int(str(trade.id)) < int(str(after.id))
    assert {at // 60_000 for at, _ in trades} == {minute, minute + 1}


@given(MINUTES, st.lists(st.integers(0, 60_000), max_size=12), st.booleans())
def test_pieces_of_a_minute_joined_are_the_minute(minute: int, cuts: list[int], twice: bool) -> None:
    edges = [0, *sorted(cuts * (1 + twice)), 60_000]
    pieces = [
        trade for lo, hi in pairwise(edges) for trade in MARKET.between(minute * 60_000 + lo, minute * 60_000 + hi)
    ]
    assert pieces == MARKET.between(minute * 60_000, minute * 60_000 + 60_000)
    assert [at for at, _ in pieces] == sorted(at for at, _ in pieces)
    for symbol in SYMBOLS:
        assert [(at, trade) for at, trade in pieces if trade.symbol == symbol] == MARKET.minute(symbol, minute)


@given(
    st.integers(0, 2**64),
    st.one_of(st.sampled_from(SYMBOLS), st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:/@+=-]{0,63}", fullmatch=True)),
    MINUTES,
)
def test_trades_pass_ingests_rules(seed: int, symbol: str, minute: int) -> None:
    for at, trade in Simulator(seed, (symbol,), 60.0).minute(symbol, minute):
        row, time_us, rule = trade_row(trade, 0, WINDOW)
        assert (time_us, rule) == (at * 1000, "id")
        assert row.split("\t")[5] in ("b\n", "s\n")
        assert float(trade.size) > 0


def test_the_rate_is_what_the_settings_ask_for() -> None:
    market = Simulator.from_settings(Settings(simulator_rate=40, simulator_symbols="A,B , C,,D"))
    assert market.symbols == ("A", "B", "C", "D")
    counts = [len(market.between(m * 60_000, m * 60_000 + 60_000)) / 60 for m in range(NOW, NOW + 60)]
    assert mean(counts) == pytest.approx(40, rel=0.1)
    assert len(set(counts)) > 10
    slow = Simulator.from_settings(Settings(simulator_rate=0.01, simulator_symbols="A"))
    assert 20 < sum(len(slow.minute("A", m)) for m in range(NOW, NOW + 60)) < 55


def test_prices_move_a_little_in_a_minute_and_more_in_a_week() -> None:
    for symbol in SYMBOLS:
        closes = [float(MARKET.minute(symbol, m)[-1][1].price) for m in range(NOW, NOW + 7 * 1440, 61)]
        assert max(closes) / min(closes) > 1.02
        prices = [float(trade.price) for _, trade in MARKET.minute(symbol, NOW)]
        assert 1 < max(prices) / min(prices) < 1.02


@pytest.mark.parametrize("symbols", ["A B", "OK,\u00e9", ",", ""])
def test_symbols_that_cannot_be_are_refused_at_the_start(symbols: str) -> None:
    with pytest.raises(BarwrightError, match="BARWRIGHT_SIMULATOR_SYMBOLS"):
        Simulator.from_settings(Settings(simulator_symbols=symbols))


def test_a_symbol_named_twice_is_one() -> None:
    assert Simulator.from_settings(Settings(simulator_symbols="A,B,A")) == Simulator(1, ("A", "B"), 1200.0)


def test_live_leaves_nothing_out_and_goes_on_until_it_is_stopped() -> None:
    stop = threading.Event()
    since = int(time.time() * 1000) - 150_000  # three minutes are touched
    found: list[tuple[int, Trade]] = []
    for trades in MARKET.live(since, stop):
        found += trades
        if time.time() * 1000 > since + 150_500:
            stop.set()
    last = found[-1][0]
    assert last > since + 150_000 - 5_000
    minutes = range(since // 60_000, last // 60_000 + 1)
    whole = [trade for m in minutes for trade in MARKET.between(m * 60_000, m * 60_000 + 60_000)]
    assert found == [trade for trade in whole if since <= trade[0]][: len(found)]


def test_a_feed_started_again_after_a_minutes_end_goes_back_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW * 60 + 0.5)
    feed = Feed(Settings(), MARKET, threading.Event())
    assert feed.since == (NOW - 1) * 60_000


# The feed itself, with a broker of this module's own: it is stopped.


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Kafka that may be stopped."""
    yield from services.server("", lambda: services.kafka(tmp_path_factory.mktemp("feed")))


def start_feed(world: World) -> subprocess.Popen[bytes]:
    """`barwright feed` as an operator starts it."""
    return world.spawn("feed", BARWRIGHT_SIMULATOR_SYMBOLS=",".join(SYMBOLS), BARWRIGHT_SIMULATOR_RATE="100")


def landed(world: World) -> list[tuple[Any, ...]]:
    """Every tick in the database, as the simulator would say it."""
    rows = world.query(
        "select symbol, (extract(epoch from ts) * 1000)::bigint as ms, seq, price, size, side::text as side from ticks"
    )
    return sorted((tuple(row.values()) for row in rows), key=by_time)


def by_time(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The order that both are compared in."""
    return row[1], row[0], row[2]


def computed(market: Simulator, start: int, end: int) -> list[tuple[Any, ...]]:
    """The simulator's trades from one minute's beginning to a time, the same way."""
    minutes = range(start // 60_000, end // 60_000 + 1)
    trades = [trade for m in minutes for at, trade in market.between(m * 60_000, m * 60_000 + 60_000) if at <= end]
    return sorted(
        (
            (t.symbol, time_of(t.ts, WINDOW) // 1000, number_of(t, 0)[0], Decimal(t.price), Decimal(t.size),
             str(t.side)[0])
            for t in trades
        ),
        key=by_time,
    )  # fmt: skip


def test_killed_restarted_and_without_its_broker_the_feed_publishes_every_trade(world: World, kafka: Server) -> None:
    world.topic()
    began = int(time.time() * 1000)
    world.spawn()
    feed = start_feed(world)
    ticks, newest = "select count(*) from ticks", "select extract(epoch from max(ts))::float8 from ticks"
    # Once it has come from its first minute to the present, it may die at any moment.
    eventually(lambda: (world.one(newest) or 0) > time.time() - 1, True)
    for pause in (0.7, 1.3):
        time.sleep(pause)
        feed.kill()
        feed.wait()
        feed = start_feed(world)
        before = world.one(ticks)
        eventually(lambda b=before: world.one(ticks) > b, True)  # type: ignore[misc]
    kafka.stop()  # type: ignore[attr-defined]
    time.sleep(4)
    assert feed.poll() is None
    kafka.start()  # type: ignore[attr-defined]
    back = time.time()
    eventually(lambda: world.one(newest) > back, True, 60)
    feed.send_signal(signal.SIGTERM)
    assert feed.wait(20) == 0
    # Everything that was acknowledged has landed once nothing more comes.
    count = -1
    while count != (count := world.one(ticks)):
        time.sleep(1)
    rows = landed(world)
    market = Simulator.from_settings(Settings(simulator_symbols=",".join(SYMBOLS), simulator_rate=100))
    first = rows[0][1] // 60_000 * 60_000
    assert began // 60_000 * 60_000 - 60_000 <= first <= began
    truth = computed(market, first, rows[-1][1])
    assert Counter(truth) - Counter(rows) == Counter(), "lost"
    assert Counter(rows) - Counter(truth) == Counter(), "made up"
    assert world.one("select count(*) from dead_letter") == 0
