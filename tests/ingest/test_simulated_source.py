"""The source against the simulated exchange: what it gives is the exchange's truth, through faults as well."""

from __future__ import annotations

import asyncio
import csv
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from barwright.ingest.feed.cryptocompare import CryptoCompare
from barwright.ingest.feed.source import (
    Alive,
    Event,
    History,
    Market,
    MarketError,
    Missed,
    SourceError,
    Subscribed,
    Subscriptions,
    Trades,
)
from barwright.ingest.feed.sources import source_of
from barwright.ingest.ticks import Bar, Trade, stamp
from barwright.settings import Settings
from barwright.simulator.trades import trades
from tests.simulator.conftest import BITCOIN, Running

DAY = timedelta(days=1)
Numbers = list[tuple[Any, ...]]
BTC = Market("BTCUSD", BITCOIN)


@pytest.fixture(scope="module", params=["zero", "error", "short"])
def horizon(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An exchange with 3 days of minutes and 20 of hours, whose SOLUSD was listed 40 hours ago."""
    listed = f"{datetime.now(UTC) - timedelta(hours=40):%Y-%m-%dT%H:%M:00Z}"
    server = Running(
        tmp_path_factory.mktemp("exchange"),
        BARWRIGHT_SIMULATOR_BEYOND=request.param, BARWRIGHT_SIMULATOR_MARKET_RATE="0.02",
        BARWRIGHT_SIMULATOR_MINUTE_DAYS="3", BARWRIGHT_SIMULATOR_HOUR_DAYS="20",
        BARWRIGHT_SIMULATOR_LISTED=f"Coinbase~SOL~USD={listed}",
    )  # fmt: skip
    yield server
    server.stop()


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[Running]:
    """An exchange of one's own, for faults."""
    server = Running(tmp_path, BARWRIGHT_SIMULATOR_HEARTBEAT="0.3", BARWRIGHT_SIMULATOR_MARKET_RATE="20")
    yield server
    server.stop()


def source(server: Running) -> CryptoCompare:
    made = source_of("simulator", Settings(simulator_url=server.url))
    assert isinstance(made, CryptoCompare)
    return made


def asked(server: Running, interval: str, start: datetime, end: datetime, market: Market = BTC) -> History:
    async def ask() -> History:
        made = source(server)
        try:
            return await made.history(market, interval, start, end)
        finally:
            await made.close()

    return asyncio.run(ask())


def truth(server: Running, interval: str, start: datetime, end: datetime, symbol: str = "BTCUSD") -> Numbers:
    """What the exchange says of itself."""
    span = ("--start", f"{start:%FT%TZ}", "--end", f"{end:%FT%TZ}")
    done = server.barwright("simulator", "bars", "--symbol", symbol, *span, "--interval", interval)
    assert done.returncode == 0, done.stderr
    names = ("open", "high", "low", "close", "volume")
    rows = [*csv.reader(done.stdout.splitlines())]
    places = [rows[0].index(name) for name in names]
    return [(datetime.fromisoformat(row[0]), *(Decimal(row[place]) for place in places)) for row in rows[1:]]


def numbers(bars: list[Bar]) -> Numbers:
    return [
        (datetime.fromisoformat(str(bar.ts)), *map(Decimal, (bar.open, bar.high, bar.low, bar.close, bar.volume)))
        for bar in bars
    ]


def test_history_is_the_truth_at_every_interval_and_ends_at_its_horizon(horizon: Running) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    day = asked(horizon, "1m", today - DAY, today)
    assert (day.start, day.end) == (today - DAY, today)
    assert numbers(day.bars) == truth(horizon, "1m", day.start, day.end)
    across = asked(horizon, "1m", today - 4 * DAY, today - 2 * DAY)
    edge = datetime.now(UTC) - 3 * DAY
    assert edge - timedelta(hours=1) < across.start < edge + timedelta(minutes=15)
    assert numbers(across.bars) == truth(horizon, "1m", across.start, across.end)
    assert asked(horizon, "1m", today - 9 * DAY, today - 8 * DAY).start == today - 8 * DAY
    hours = asked(horizon, "1h", today - 30 * DAY, today)
    assert today - 21 * DAY < hours.start < today - 18 * DAY
    assert numbers(hours.bars) == truth(horizon, "1h", hours.start, hours.end)
    days = asked(horizon, "1d", today - 500 * DAY, today)
    assert (days.start, days.end) == (today - 500 * DAY, today)
    assert numbers(days.bars) == truth(horizon, "1d", days.start, days.end)


def test_a_market_that_was_listed_lately(horizon: Running) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    sol = Market("SOLUSD", "Coinbase~SOL~USD")
    for interval in ("1m", "1h", "1d"):
        found = asked(horizon, interval, today - 3 * DAY, today, sol)
        assert found.start == today - 3 * DAY
        assert numbers(found.bars) == truth(horizon, interval, today - 3 * DAY, today, "SOLUSD")


def test_the_newest_minutes(horizon: Running) -> None:
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    found = asked(horizon, "1m", now - timedelta(hours=2), now + timedelta(hours=1))
    assert now <= found.end <= now + timedelta(minutes=1)
    assert numbers(found.bars) == truth(horizon, "1m", found.start, found.end)


def test_an_unknown_market(horizon: Running) -> None:
    with pytest.raises(MarketError):
        asked(
            horizon,
            "1m",
            datetime(2026, 1, 1, tzinfo=UTC),
            datetime(2026, 1, 2, tzinfo=UTC),
            Market("X", "Nowhere~X~Y"),
        )


@pytest.mark.parametrize("kind", ["error", "garbage", "truncated"])
def test_a_short_outage_of_history_is_waited_for(exchange: Running, kind: str) -> None:
    exchange.fault(kind, seconds=0.4)
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    start, end = now - timedelta(hours=9), now - timedelta(hours=3)
    deadline = time.monotonic() + 20
    while True:
        try:
            found = asked(exchange, "1m", start, end)
            break
        except SourceError:
            assert time.monotonic() < deadline
    assert (found.start, found.end) == (start, end)
    assert numbers(found.bars) == truth(exchange, "1m", start, end)


def listen(server: Running, scenario: Callable[[Any, list[Event]], Awaitable[None]], *markets: Market) -> list[Event]:
    """A live connection for as long as a scenario takes."""

    async def run() -> list[Event]:
        made, events = source(server), list[Event]()
        stream: Any = made.live(Subscriptions(frozenset(markets or (BTC,))))
        try:
            async with asyncio.timeout(30):
                await scenario(stream, events)
        finally:
            await stream.aclose()
            await made.close()
        return events

    return asyncio.run(run())


async def until(stream: Any, events: list[Event], enough: Callable[[Event], bool]) -> None:
    while True:
        events.append(await anext(stream))
        if enough(events[-1]):
            return


def test_from_since_on_every_trade_comes_with_all_its_digits(exchange: Running) -> None:
    def told_of(events: list[Event]) -> list[Trade]:
        """The trades that came from since on, of which there are as many as chance wants."""
        (since,) = [event.since for event in events if isinstance(event, Subscribed)]
        came = [trade for event in events if isinstance(event, Trades) for trade in event.trades]
        return [trade for trade in came if trade.ts >= stamp(since)]

    async def scenario(stream: Any, events: list[Event]) -> None:
        await until(stream, events, lambda event: isinstance(event, Subscribed))
        while len(told_of(events)) <= 20:
            await until(stream, events, lambda event: isinstance(event, Trades))
        last = told_of(events)[-1].ts
        await until(stream, events, lambda event: isinstance(event, Alive) and stamp(event.at - 2_000_000) > last)

    events = listen(exchange, scenario)
    (since,) = [event.since for event in events if isinstance(event, Subscribed)]
    alive = max(event.at for event in events if isinstance(event, Alive))
    assert abs(time.time() * 1e6 - alive) < 10_000_000
    came = {trade.id: trade for event in events if isinstance(event, Trades) for trade in event.trades}
    market = exchange.exchange().market(BITCOIN)
    minutes = since // 60_000_000, alive // 60_000_000 + 1
    wanted = [one for one in trades(market, *minutes) if since <= one.ms * 1_000 + one.ns // 1_000 <= alive - 1_000_000]
    assert len(wanted) > 20
    for one in wanted:
        found = came[str(one.number)]
        micro = one.ms * 1_000 + one.ns // 1_000
        assert found.ts == stamp(micro)
        assert found.seq == micro * 1_000 + one.number % 1_000
        assert found.side == ("buy" if one.bought else "sell")
    assert not [event for event in events if isinstance(event, Missed)]


def test_lost_messages_are_missed(exchange: Running) -> None:
    async def scenario(stream: Any, events: list[Event]) -> None:
        await until(stream, events, lambda event: isinstance(event, Subscribed))
        exchange.fault("lose", seconds=2, share=0.5)
        await until(stream, events, lambda event: isinstance(event, Missed))
        last = time.time() * 1e6
        await until(stream, events, lambda event: isinstance(event, Alive) and event.at > last + 3_000_000)

    events = listen(exchange, scenario)
    came = {trade.id for event in events if isinstance(event, Trades) for trade in event.trades}
    missed = [(event.start, event.end) for event in events if isinstance(event, Missed)]
    (since,) = [event.since for event in events if isinstance(event, Subscribed)]
    alive = max(event.at for event in events if isinstance(event, Alive))
    for one in trades(exchange.exchange().market(BITCOIN), since // 60_000_000, alive // 60_000_000 + 1):
        at = one.ms * 1_000 + one.ns // 1_000
        if since <= at <= alive - 2_500_000 and str(one.number) not in came:
            assert any(start <= at <= end for start, end in missed), one


@pytest.mark.parametrize("kind", ["cut", "silent"])
def test_a_dead_connection_ends_it(exchange: Running, kind: str) -> None:
    async def scenario(stream: Any, events: list[Event]) -> None:
        await until(stream, events, lambda event: isinstance(event, Subscribed))
        await until(stream, events, lambda event: isinstance(event, Alive))
        await asyncio.sleep(0.7)
        exchange.fault(kind, seconds=5)
        with pytest.raises(SourceError):
            await until(stream, events, lambda _: False)

    begin = time.monotonic()
    listen(exchange, scenario)
    assert time.monotonic() - begin < 5
