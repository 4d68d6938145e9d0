"""The maintain role as a process: late ticks right in seconds, a dead one replaced, a lost database waited for."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from barwright import sql
from barwright.ingest.maintain import _leads as leads
from tests.sql.market import Market

pytestmark = pytest.mark.alone  # two seconds to a repair


@contextmanager
def maintain(dsn: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """One maintain process; killed at the end if it still lives."""
    env = {**os.environ, "DATABASE_URL": dsn, "BARWRIGHT_MAINTAIN_INTERVAL": "0.2", "BARWRIGHT_LOG_FORMAT": "json"}
    process = subprocess.Popen([sys.executable, "-m", "barwright", "maintain"], env=env | variables)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def within(seconds: float, true: Callable[[], Any]) -> bool:
    """Whether it becomes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if true():
                return True
        except psycopg.OperationalError:
            pass
        time.sleep(0.05)
    return False


def late(connection: psycopg.Connection[Any]) -> int:
    """How many late ranges await repair."""
    row = connection.execute("select count(*) from late_range").fetchone()
    assert row
    return int(row[0])


@pytest.fixture
def market(database: str) -> Iterator[Market]:
    """A market in the past of a database sealed up to now: whatever lands is late."""
    with sql.connect(database, "test", autocommit=True) as connection:
        market = Market(connection)
        connection.execute("update level set sealed = date_bin(width, now(), '2000-01-03Z'), "
                           "watermark = date_bin(width, now(), '2000-01-03Z')")  # fmt: skip
        yield market


def test_late_ticks_are_right_at_every_level_within_two_seconds(database: str, market: Market) -> None:
    with maintain(database):
        for month in (1, 2, 5):
            market.insert(*(market.trade(f"0{month}-0{day} 00:07:01", str(day)) for day in range(1, 5)))
            assert within(2, lambda: late(market.connection) == 0)
            market.check()


def test_the_seal_follows_the_clock(database: str, market: Market) -> None:
    ago = datetime.now(UTC) - timedelta(minutes=10)
    market.connection.execute("update level set sealed = date_bin(width, %(t)s, '2000-01-03Z'), "
                              "watermark = date_bin(width, %(t)s, '2000-01-03Z')", {"t": ago})  # fmt: skip
    with maintain(database, BARWRIGHT_SEAL_LAG="100"):
        closed = "select watermark >= now() - interval '162 seconds' from level where name = '1m'"
        assert within(30, lambda: market.connection.execute(closed).fetchone() == (True,))
        ahead = market.connection.execute(
            "select count(*) from level where sealed > now() - interval '100 seconds' or watermark > sealed"
        )
        assert ahead.fetchone() == (0,)
        applied = "select bool_and(applied_at is not null and keep is null) from policy"
        assert within(30, lambda: market.connection.execute(applied).fetchone() == (True,))


def test_a_killed_maintain_is_replaced_by_the_one_that_stands_by(database: str, market: Market) -> None:
    with maintain(database) as first:
        market.insert(market.trade("01-01 00:00:01", "1"))
        assert within(5, lambda: late(market.connection) == 0)
        with maintain(database):
            first.send_signal(signal.SIGKILL)
            first.wait()
            market.insert(market.trade("01-01 00:00:02", "2"))
            assert within(8, lambda: late(market.connection) == 0)
            market.check()


def test_one_leads_until_its_connection_is_gone(database: str) -> None:
    """Two would work: each would file, repair and audit the same."""
    with sql.connect(database, "maintain", autocommit=True) as second:
        with sql.connect(database, "maintain", autocommit=True) as first:
            assert leads(first)
            assert not leads(second)
        assert within(5, lambda: leads(second))


def test_sigterm_ends_it_cleanly(database: str) -> None:
    with maintain(database) as process, psycopg.connect(database, autocommit=True) as connection:
        works = (
            "select from pg_stat_activity "
            "where application_name = 'barwright maintain' and datname = current_database()"
        )
        assert within(20, lambda: connection.execute(works).rowcount)
        process.terminate()
        assert process.wait(5) == 0


def test_a_lost_connection_is_made_again(database: str, market: Market) -> None:
    with maintain(database):
        market.insert(market.trade("01-01 00:00:01", "1"))
        assert within(5, lambda: late(market.connection) == 0)
        market.connection.execute("select pg_terminate_backend(pid) from pg_stat_activity "
                                  "where application_name = 'barwright maintain'")  # fmt: skip
        market.insert(market.trade("01-01 00:00:02", "2"))
        assert within(8, lambda: late(market.connection) == 0)
        market.check()


def test_revisions_are_swept_after_their_days(database: str, market: Market) -> None:
    market.connection.execute("select revise(array['A'], array[tstzrange(now() - interval '1 day', now())])")
    market.connection.execute("update revision set at = now() - interval '8 days'")
    with maintain(database):
        assert within(5, lambda: market.connection.execute("select count(*) from revision").fetchone() == (0,))
