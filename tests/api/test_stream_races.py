"""Clients that are cut at random, on two API processes, while ticks, late ticks and imports land, bars close and are
repaired, and Redis comes and goes: at every quiet moment what they have stored equals /v1/bars."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from barwright import migrations, sql
from barwright.settings import Settings
from barwright.sql.engine import engine_of
from tests import services
from tests.api.conftest import Api, eventually, serving
from tests.api.landing import Lander
from tests.api.streams import Follower
from tests.api.test_races import _lander, _maintain
from tests.api.truth import text
from tests.services import Server
from tests.sql.market import Market

ROUNDS, SECONDS = 3, 1.7


@pytest.mark.parametrize("seed", [11, *(pytest.param(n, marks=pytest.mark.slow) for n in range(12, 20))])
def test_what_clients_store_equals_the_bars(database: str, tmp_path: Path, seed: int) -> None:
    valkey = services.valkey(tmp_path)
    services.demand(valkey)
    valkey.start()
    dice = random.Random(seed)
    with (
        sql.connect(database, "test", autocommit=True) as connection,
        sql.connect(database, "maintain", autocommit=True) as upkeep,
        serving(database, valkey.url, tmp_path / "one.log") as one,
        serving(database, valkey.url, tmp_path / "two.log") as two,
    ):
        lander = _lander(connection, seed)
        maintain = _maintain(lander, upkeep)
        for _ in range(20):
            lander.step()
        followers = _followers([one, two], lander, dice)
        try:
            for n in range(ROUNDS):
                with _working(lander.step, maintain):
                    deadline = time.monotonic() + SECONDS
                    while time.monotonic() < deadline:
                        time.sleep(dice.random() * 0.1)
                        dice.choice(followers).cut()
                    # Away from the first quiet moment to the second.
                    if n == 0:
                        valkey.stop()
                    elif n == 1:
                        valkey.start()
                for follower in followers:
                    eventually(lambda f=follower: f.check(dice.choice([one, two])), 4)  # type: ignore[misc]
        finally:
            for follower in followers:
                follower.end()
            valkey.stop()
        total: dict[str, int] = {}
        for follower in followers:
            for kind, count in follower.store.counts.items():
                total[kind] = total.get(kind, 0) + count
        assert min(total.get(kind, 0) for kind in ("bars", "live", "bar", "revision")) > 5, total
        assert total.get("reset", 0) == 0, total


def _followers(apis: list[Api], lander: Lander, dice: random.Random) -> list[Follower]:
    symbol, start = lander.market.symbol, text(lander.start)
    later = text(lander.base)
    turned = apis[::-1]
    return [
        Follower(apis, symbol, "1m", start=start),
        Follower(turned, symbol, "1m", start=start, sse=True),
        Follower(apis, symbol, "1m"),
        Follower(turned, symbol, "5m", start=later, rate=50),
        Follower(apis, symbol, "1h", start=start, rate=2),
        Follower(turned, symbol, "5m", sse=True),
        Follower(apis, symbol, "3m", start=start, numbers="string"),
        Follower(turned, symbol, "90m", start=start, tz="Asia/Kathmandu", session="05:00-04:00", time="ms"),
    ]


@contextmanager
def _working(*works: Callable[[], None]) -> Iterator[None]:
    """Do these again and again for as long as this lasts."""
    over, errors = threading.Event(), list[BaseException]()

    def run(work: Callable[[], None]) -> None:
        try:
            while not over.is_set():
                work()
                time.sleep(0.002)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


def test_a_database_that_goes_and_comes_is_waited_for(valkey: Server, tmp_path: Path) -> None:
    own = services.postgres(tmp_path)
    services.demand(own)
    own.start()
    migrations.upgrade(Settings(database_url=own.url, engine="postgres"))
    try:
        with sql.connect(own.url, "test", autocommit=True) as connection:
            market = Market(connection, "AWAY", era=count(1700, 2))
            connection.execute("insert into symbols (symbol) values ('AWAY')")
            market.insert(market.trade("01-01 00:00:10", "1"), market.trade("01-01 00:01:10", "2"))
            market.seal("01-01 00:01")
        with serving(own.url, valkey.url, tmp_path / "serve.log") as api:
            follower = Follower([api], "AWAY", "1m", start="0001-01-01")
            eventually(lambda: follower.check(api), 5)
            own.stop()
            own.start()
            with sql.connect(own.url, "test", autocommit=True) as connection:
                market.connection = connection
                market.engine = engine_of(connection)
                market.insert(market.trade("01-01 00:00:20", "7"), market.trade("01-01 00:01:20", "8"))
                market.seal("01-01 00:02")
                market.repair()
                eventually(lambda: _low_high(follower, 1, 8), 8)
                eventually(lambda: follower.check(api), 3)
            assert follower.store.counts.get("reset", 0) == 0
            assert follower.store.counts["live"] == 1  # nobody was sent away
            follower.end()
    finally:
        own.stop()


def _low_high(follower: Follower, low: int, high: int) -> None:
    bars = follower.store.list()
    assert (min(bar["low"] for bar in bars), max(bar["high"] for bar in bars)) == (low, high)
