"""Pages in memory and in Redis: never stale, never trusted, never needed."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from barwright.api.blocks import SpoiledError, block, dump, parse, series
from barwright.api.database import Change, Look
from barwright.api.follower import Follower
from barwright.api.intervals import DAY, interval
from barwright.api.services import Services
from barwright.api.store import Store
from barwright.embedded.valkey import Valkey
from barwright.settings import Settings
from tests import services
from tests.api.conftest import Api, eventually, serving
from tests.api.truth import check, expected
from tests.sql.market import Market

New = Callable[..., Market]


@pytest.fixture(scope="module")
def own_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A Valkey that may be stopped."""
    valkey = services.valkey(tmp_path_factory.mktemp("valkey"))
    services.demand(valkey)
    valkey.start()
    yield valkey
    valkey.stop()


@pytest.fixture(scope="module")
def redis(own_valkey: Valkey) -> Iterator["Redis"]:
    with Redis.from_url(own_valkey.url) as client:
        yield client


@pytest.fixture
def serve(dsn: str, own_valkey: Valkey, tmp_path: Path) -> Callable[..., Any]:
    """Starts an API on that Valkey."""
    return lambda **settings: serving(dsn, own_valkey.url, tmp_path / "serve.log", **settings)


def dense(m: Market, days: int = 2) -> None:
    """A bar each minute from the first of February, all closed."""
    m.insert(*(m.trade(m.at("02-01 00:00") + timedelta(minutes=n), str(100 + n % 17)) for n in range(days * 1440)))
    m.seal(m.at("02-01 00:00") + timedelta(days=days + 1))


def test_no_bar_is_stale_half_a_second_after_its_repair(new: New, serve: Any, redis: "Redis") -> None:
    m = new()
    dense(m)
    with serve() as first, serve() as second:
        for api in (first, second):
            check(api, m)
        for n in range(2):
            m.insert(m.trade(m.at("02-01 00:00") + timedelta(hours=7 * n, seconds=30), str(1000 + n)))
            m.repair()
            done = time.monotonic()
            wanted = expected(m, "1m")
            for api in (first, second):
                left = done + 0.5 - time.monotonic()
                eventually(lambda api=api, wanted=wanted: _equal(api.bars(m.symbol, limit=10000), wanted), left)
                check(api, m, within=0)
    assert any(key.startswith(b"ohlcv:") for key in _names(redis))


def _names(redis: "Redis") -> list[bytes]:
    """The keys of every page."""
    return list(redis.scan_iter())


def _equal(got: Any, wanted: Any) -> None:
    assert got == wanted


def test_a_page_is_read_from_redis_by_another_process(new: New, serve: Any, redis: "Redis") -> None:
    m = new("page/of:redis")
    dense(m)
    redis.flushall()
    span = {"start": f"{m.year}-02-01", "end": f"{m.year}-02-02", "limit": 2000}
    with serve() as api:
        wanted = _filled(api, m, redis, span)
    pages = {key: redis.get(key) for key in _names(redis)}
    assert all(key.split(b":", 2)[2].startswith(b"page/of:redis:1m:") and redis.ttl(key) > 80_000 for key in pages)
    with serve() as api:
        assert api.bars(m.symbol, **span) == wanted == expected(m, "1m")[:1440]
    # Nobody overwrites a page.
    assert {key: redis.get(key) for key in _names(redis)} == pages


def _filled(api: Api, m: Market, redis: "Redis", span: dict[str, Any]) -> list[dict[str, Any]]:
    """Bars asked for until their pages are in Redis: a process that has not yet looked asks the database."""

    def ask() -> list[dict[str, Any]]:
        bars = api.bars(m.symbol, **span)
        assert len(redis.keys()) >= 2
        return bars

    return list(eventually(ask))


def _at_least(redis: "Redis", count: int) -> None:
    assert len(redis.keys()) >= count


# What can happen to a page in Redis, given its value and another page's.
SPOILS: list[Callable[[bytes, bytes], bytes]] = [
    lambda value, other: b"", lambda value, other: value[:-1], lambda value, other: value[:100],
    lambda value, other: other, lambda value, other: value.replace(b'"open":1', b'"open":2'),
    lambda value, other: b"\x00" * 10_000, lambda value, other: value + b"x",
]  # fmt: skip


def test_spoiled_pages_are_misses(new: New, serve: Any, redis: "Redis") -> None:
    m = new()
    dense(m)
    redis.flushall()
    with serve() as api:
        check(api, m)
        eventually(lambda: _at_least(redis, len(SPOILS)))
    keys = sorted(redis.keys())
    values = {key: redis.get(key) for key in keys}
    for n, (key, other) in enumerate(zip(keys, keys[1:] + keys[:1], strict=True)):
        redis.set(key, SPOILS[n % len(SPOILS)](values[key], values[other]))
    with serve() as api:
        check(api, m)


def test_a_page_that_a_late_row_touches_is_not_shared(new: New, serve: Any, redis: "Redis") -> None:
    m = new()
    dense(m)
    redis.flushall()
    m.insert(m.trade("02-01 08:30:30", "999"))
    with serve() as api:
        _filled(api, m, redis, {"start": f"{m.year}-02-01", "end": f"{m.year}-02-03", "limit": 5000})
        time.sleep(0.1)
        lo = m.at("02-01 08:30")
        numbers = {int(key.split(b":")[-2]) for key in _names(redis)}
        assert int((lo.timestamp() - 946_857_600) // 30_000) not in numbers
        m.repair()
        check(api, m)


def test_a_revision_reaches_the_hours_of_a_session_beyond_its_page() -> None:
    """A session over midnight belongs to the day it began: its page ends before it does."""
    night = series("A", interval("1d", "UTC", "22:00-04:00"))
    lo, hi = night.interval.page_span(night.interval.page(1_700_000_000))
    end = night.interval.end(night.interval.floor(hi - 1))
    assert end > hi
    store, page = Store(1_000), block(night, lo, hi, [], end)
    store.put(page)
    store.changed([(1, "A", end + DAY, end + DAY + 60), (2, "B", lo, hi)])
    assert page.alive
    store.changed([(3, "A", end - 60, end)])
    assert not page.alive
    assert store.get(night, lo) is None


def test_a_page_that_a_repair_overtakes_is_not_kept(new: New, dsn: str, own_valkey: Valkey) -> None:
    """Its snapshot was taken before the repair, and the caches have heard of it when the page arrives."""
    m = new()
    m.insert(m.trade("02-01 00:00:10", "7"), m.trade("02-03 00:00:10", "7"))
    m.seal("02-04 00:00")
    kind, start = series(m.symbol, interval("1m")), int(m.at("02-01 00:00").timestamp())

    async def volumes() -> list[bytes]:
        services = Services(Settings(database_url=dsn, redis_url=own_valkey.url))
        await services.database.open()
        await services.follower.ask()
        look_up = services.shared.get

        async def overtaken(keys: Sequence[str]) -> list[bytes | None]:
            m.insert(m.trade("02-01 00:00:30", "7", "654321"))
            m.repair()
            await services.follower.ask()
            return await look_up(keys)

        try:
            services.shared.get = overtaken  # type: ignore[method-assign]
            before = await services.bars.cover.blocks(kind, start, start + 600)
            services.shared.get = look_up  # type: ignore[method-assign]
            after = await services.bars.cover.blocks(kind, start, start + 600)
        finally:
            await services.database.close()
            await services.shared.close()
        return [b"".join(block.body for block in blocks or ()) for blocks in (before, after)]

    assert [b"654322" in body for body in asyncio.run(volumes())] == [False, True]


def test_a_page_under_another_name_or_of_another_span_is_a_miss() -> None:
    kind = series("A", interval("1m"))
    page = block(kind, 0, 600, [], 600)
    kept = dump("A's", page)
    assert parse("A's", kind, (0, 600), kept).body == page.body
    for key, span in (("B's", (0, 600)), ("A's", (0, 660)), ("A's", (60, 600))):
        with pytest.raises(SpoiledError):
            parse(key, kind, span, kept)


def test_what_a_look_says_reaches_the_caches() -> None:
    told: list[list[Change] | None] = []
    follower = Follower(None, told.append)  # type: ignore[arg-type]

    def hear(epoch: str, rev: int, asked: float, *changes: Change) -> Any:
        told.clear()
        follower.hear(Look(epoch, rev, 0.0, {}, list(changes)), asked)
        return told.copy()

    one = [(rev, "A", 0, 60) for rev in range(20)]
    assert hear("e", 5, 1.0) == [None]
    assert hear("e", 6, 2.0, one[6]) == [[one[6]]]
    assert hear("e", 6, 3.0) == []
    # The log was swept before it was read: anything may have changed.
    assert hear("e", 9, 4.0, one[8], one[9]) == [None]
    # An older snapshot that took longer says nothing; a younger one says that the database went back.
    assert hear("e", 8, 3.5, one[8]) == []
    assert follower.rev == 9
    assert hear("e", 8, 5.0, one[8]) == [None]
    assert follower.rev == 8
    assert hear("f", 8, 6.0) == [None]


def test_another_epoch_is_another_database(new: New, serve: Any) -> None:
    m = new()
    dense(m, 1)
    with serve() as api:
        check(api, m)
        # As a restore or a purge does it: other bars, no revision.
        with m.connection.transaction():
            m.connection.execute("update meta set epoch = replace(gen_random_uuid()::text, '-', '')")
            m.connection.execute("delete from symbols where symbol = %s", (m.symbol,))
        eventually(lambda: _status(api, m.symbol, 404), 0.6)
        m.connection.execute("insert into symbols (symbol) values (%s)", (m.symbol,))
        check(api, m)


def test_pages_of_another_epoch_in_redis_are_not_read(new: New, serve: Any, redis: "Redis") -> None:
    """What a restore brings back has other bars under the same revisions."""
    m = new()
    dense(m, 1)
    with serve() as api:
        check(api, m)
        pages = {name: redis.get(name) for name in redis.keys(f"ohlcv:*:{m.symbol}:1m:*")}
        assert pages
        m.connection.execute("select renew_epoch()")
        # Whatever was kept before is a lie from now on.
        for name, page in pages.items():
            redis.set(name, page.replace(b'"volume":1,', b'"volume":7,'))
    with serve() as api:
        check(api, m)


def _status(api: Api, symbol: str, status: int) -> None:
    assert api.get("/v1/bars", symbol=symbol, interval="1m").status_code == status


# A cache that holds a page or two; with none and with all, which take other ways, when there is time.
@pytest.mark.parametrize("cache", ["700", *(pytest.param(n, marks=pytest.mark.slow) for n in ("0", "2000000"))])
def test_the_same_answers_while_redis_goes_and_comes(new: New, serve: Any, own_valkey: Valkey, cache: str) -> None:
    m = new()
    dense(m)
    with serve(BARWRIGHT_PAGE_CACHE_BARS=cache) as api:
        check(api, m)
        own_valkey.kill() if hasattr(own_valkey, "kill") else own_valkey.stop()
        try:
            for n in range(3):
                m.insert(m.trade(m.at("02-01 12:00") + timedelta(minutes=n, seconds=30), "999"))
                m.repair()
                check(api, m)
            slow = max(_seconds(lambda: api.bars(m.symbol, "5m", limit=100)) for _ in range(20))
            assert slow < 0.5
            ready = api.get("/health/ready")
            assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        finally:
            own_valkey.start()
        check(api, m)
        eventually(lambda: _ready(api), 10)


def _ready(api: Api) -> None:
    assert api.json("/health/ready")["status"] == "ready"


def _seconds(work: Callable[[], Any]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def test_a_redis_that_hangs_costs_little(new: New, serve: Any, own_valkey: Valkey) -> None:
    import os
    import signal

    m = new()
    dense(m)
    with serve(BARWRIGHT_PAGE_CACHE_BARS="0") as api:
        check(api, m)
        assert own_valkey.pid
        os.kill(own_valkey.pid, signal.SIGSTOP)
        try:
            for _ in range(10):
                assert _seconds(lambda: api.bars(m.symbol, limit=100)) < 0.4
            check(api, m)
        finally:
            os.kill(own_valkey.pid, signal.SIGCONT)
        check(api, m)
