"""CryptoCompare's streamer, driven frame by frame."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import pytest
import structlog

from barwright.ingest.feed import cryptocompare_live, roster
from barwright.ingest.feed.cryptocompare import CryptoCompare
from barwright.ingest.feed.sequence import PATIENCE, Sequence, Tail
from barwright.ingest.feed.source import (
    Alive,
    Event,
    Market,
    Missed,
    RateLimitedError,
    Subscribed,
    Subscriptions,
    Trades,
    UnavailableError,
    Unsubscribed,
)
from tests.ingest.cryptocompare import LOADED, Peer, Talk, heartbeat, streamer, trade

BTC = Market("BTCUSD", "Coinbase~BTC~USD")
ETH = Market("ETHUSD", "Coinbase~ETH~USD")
T = 1_750_000_000  # the vendor's clock, seconds
MS, US = 1_000, 1_000_000


class Client:
    """What the feed does: takes events, one by one."""

    def __init__(self, url: str, *markets: Market, heartbeat: float = 5.0, key: str = "") -> None:
        self.wanted = Subscriptions(frozenset(markets))
        self.source = CryptoCompare("cryptocompare", "http://127.0.0.1:1", url, key, reconnect=0.1, heartbeat=heartbeat)
        self.events: list[Event] = []
        self.stream: Any = self.source.live(self.wanted)

    async def take(self, kind: type[Any], count: int = 1) -> Any:
        """The next event of a kind; what came before it is kept."""
        async with asyncio.timeout(10):
            while True:
                event = await anext(self.stream)
                self.events.append(event)
                if isinstance(event, kind):
                    return event

    async def take_trades(self, count: int) -> list[Any]:
        """So many trades."""
        found: list[Any] = []
        while len(found) < count:
            found += (await self.take(Trades)).trades
        return found

    async def end(self) -> UnavailableError:
        """What ended it."""
        try:
            await self.take(type(None))
        except UnavailableError as error:
            return error
        raise AssertionError


def play(talk: Talk, scenario: Callable[[Client], Awaitable[None]], *markets: Market, **options: Any) -> None:
    """Run a server that talks and a client that listens."""

    async def run() -> None:
        async with streamer(talk, options.pop("refuse", None)) as url:
            client = Client(url, *(markets or (BTC,)), **options)
            try:
                await scenario(client)
            finally:
                await client.stream.aclose()
                await client.source.close()

    asyncio.run(run())


def test_trades_come_with_all_their_digits_and_their_order() -> None:
    async def talk(peer: Peer) -> None:
        await peer.welcome(T * MS)
        assert await peer.accept() == ["0~Coinbase~BTC~USD"]
        await peer.send(heartbeat(T * MS + 500), {}, {"TYPE": "17"}, {"TYPE": 77, "MORE": []})
        frame = (
            '{"TYPE":"0","M":"Coinbase","FSYM":"BTC","TSYM":"USD","F":"2","ID":"x-1","TS":%d,"Q":1e-05,'
            '"P":27180.120000000000001,"TOTAL":1,"RTS":1,"CCSEQ":1234567,"TSNS":123456789}'
        )
        await peer.send(frame % T, trade(7, T + 1.5, F="9", TSNS=None, CCSEQ=None), trade(8, T + 2, F="4"))
        await peer.connection.wait_closed()

    async def scenario(client: Client) -> None:
        one, two, three = await client.take_trades(3)
        assert one.symbol == "BTCUSD"
        assert (one.price, one.size, one.side, one.id) == ("27180.120000000000001", "1e-05", "buy", "x-1")
        assert one.ts == "2025-06-15T15:06:40.123456Z"
        assert one.seq == T * 10**9 + 123_456_000 + 567
        assert (two.seq, two.side, two.ts) == ((T + 1) * 10**9 + 7, "sell", "2025-06-15T15:06:41.000000Z")
        assert (three.seq, three.side) == ((T + 2) * 10**9 + 8, None)
        assert client.events[0] == Subscribed(frozenset({"BTCUSD"}), T * US + 500_000)

    play(talk, scenario)


def test_replayed_trades_never_make_the_beginning_too_early() -> None:
    async def talk(peer: Peer) -> None:
        await peer.welcome(T * MS)
        await peer.accept(*(trade(n, T - 3_600 + n) for n in range(20)))
        # Still from before the loading, but sent after it.
        await peer.send(trade(20, T - 0.5), trade(21, T + 7))
        await peer.connection.wait_closed()

    async def scenario(client: Client) -> None:
        subscribed = await client.take(Subscribed)
        assert subscribed == Subscribed(frozenset({"BTCUSD"}), (T + 7) * US)
        assert sum(len(event.trades) for event in client.events if isinstance(event, Trades)) == 21
        assert [trade.id for trade in (await client.take(Trades)).trades] == ["21"]

    play(talk, scenario)


def test_alive_is_the_newest_event_time_and_rare() -> None:
    async def talk(peer: Peer) -> None:
        await peer.welcome(T * MS)
        await peer.accept()
        for n in range(100):
            await peer.send(heartbeat(T * MS + n * 10), trade(n, T + n / 100))
            await asyncio.sleep(0.01)
        # A market whose clock is an hour ahead vouches for nothing.
        await peer.send(trade(100, T + 3_600), heartbeat(T * MS + 2_000))
        await peer.connection.wait_closed()

    async def scenario(client: Client) -> None:
        await client.take_trades(101)
        alive = await client.take(Alive)
        while alive.at < T * US + 2 * US:
            alive = await client.take(Alive)
        assert alive.at == T * US + 2 * US
        found = [event.at for event in client.events if isinstance(event, Alive)]
        assert found == sorted(set(found))
        assert len(found) < 25

    play(talk, scenario)


def test_markets_come_and_go_without_another_connection() -> None:
    async def talk(peer: Peer) -> None:
        await peer.welcome(T * MS)
        await peer.accept()
        await peer.send(heartbeat(T * MS))
        assert await peer.accept() == ["0~Coinbase~ETH~USD"]
        await peer.send(heartbeat(T * MS + 100), trade(1, T + 1, ETH.name))
        assert await peer.heard() == {"action": "SubRemove", "subs": ["0~Coinbase~BTC~USD"]}
        await peer.send(trade(1, T + 2), trade(2, T + 3, ETH.name))
        await peer.connection.wait_closed()

    async def scenario(client: Client) -> None:
        assert (await client.take(Subscribed)).symbols == {"BTCUSD"}
        client.wanted.wanted = frozenset({BTC, ETH})
        assert await client.take(Subscribed) == Subscribed(frozenset({"ETHUSD"}), T * US + 100_000)
        assert [trade.symbol for trade in await client.take_trades(1)] == ["ETHUSD"]
        client.wanted.wanted = frozenset({ETH, Market("ETH2", ETH.name)})
        assert await client.take(Unsubscribed) == Unsubscribed(frozenset({"BTCUSD"}))
        # One market, two symbols: no second subscription, and each gets its trades.
        assert {trade.symbol for trade in await client.take_trades(2)} == {"ETHUSD", "ETH2"}

    play(talk, scenario)


def test_an_unknown_market_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cryptocompare_live, "AGAIN", 0.3)
    asked: list[list[str]] = []

    async def talk(peer: Peer) -> None:
        await peer.welcome(T * MS)
        while True:
            subs = (await peer.heard())["subs"]
            asked.append(subs)
            for sub in subs:
                if "NONE" in sub and len(asked) < 3:
                    refused = {
                        "TYPE": "500",
                        "MESSAGE": "INVALID_SUB",
                        "PARAMETER": sub,
                        "INFO": "We have not integrated it",
                    }
                    await peer.send(refused)
                else:
                    await peer.send({"TYPE": "16", "MESSAGE": "SUBSCRIBECOMPLETE", "SUB": sub})
            await peer.send(LOADED, heartbeat(T * MS + len(asked)))

    async def scenario(client: Client) -> None:
        assert (await client.take(Subscribed)).symbols == {"BTCUSD"}
        assert (await client.take(Subscribed)).symbols == {"NONE"}
        assert asked == [["0~Coinbase~BTC~USD", "0~Coinbase~NONE~USD"], *[["0~Coinbase~NONE~USD"]] * 2]

    play(talk, scenario, BTC, Market("NONE", "Coinbase~NONE~USD"))


@pytest.mark.parametrize("habit", ["no welcome", "no acknowledgement", "no load", "already active"])
def test_other_servers_habits(habit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "ANSWER", 0.3)

    async def talk(peer: Peer) -> None:
        if habit != "no welcome":
            await peer.welcome(T * MS)
        subs = (await peer.heard())["subs"]
        kind = "SUBSCRIPTION_ALREADY_ACTIVE" if habit == "already active" else "SUBSCRIBECOMPLETE"
        for sub in subs if habit != "no acknowledgement" else ():
            named = {"PARAMETER": sub, "TYPE": "500"} if habit == "already active" else {"SUB": sub, "TYPE": "16"}
            await peer.send({"MESSAGE": kind} | named)
        if habit != "no load":
            await peer.send(LOADED)
        await peer.send(trade(1, T - 5))
        await asyncio.sleep(0.5)
        await peer.send(heartbeat(T * MS + 900), trade(2, T + 1))
        await peer.connection.wait_closed()

    async def scenario(client: Client) -> None:
        assert await client.take(Subscribed) == Subscribed(frozenset({"BTCUSD"}), T * US + 900_000)
        assert len(await client.take_trades(1)) == 1

    play(talk, scenario)


def test_what_one_socket_does_not_take_goes_to_another() -> None:
    markets = [Market(f"M{n}", f"Coinbase~M{n}~USD") for n in range(5)]
    sockets: list[list[str]] = []

    async def talk(peer: Peer) -> None:
        mine: list[str] = []
        sockets.append(mine)
        await peer.welcome(T * MS)
        number = len(sockets)
        while True:
            for sub in (await peer.heard())["subs"]:
                if len(mine) >= 3:
                    full = "TOO_MANY_SUBSCRIPTIONS_MAX_3_PER_SOCKET"
                    await peer.send({"TYPE": "429", "MESSAGE": full, "PARAMETER": sub, "INFO": ""})
                else:
                    mine.append(sub)
                    await peer.send({"TYPE": "16", "MESSAGE": "SUBSCRIBECOMPLETE", "SUB": sub})
            await peer.send(LOADED, heartbeat(T * MS + 1_000 * number))

    async def scenario(client: Client) -> None:
        seen: set[str] = set()
        while len(seen) < 5:
            seen |= (await client.take(Subscribed)).symbols
        assert sorted(map(len, sockets)) == [2, 3]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await client.take(Missed)
        # What all have reached, not what one has.
        assert {event.at for event in client.events if isinstance(event, Alive)} == {T * US + US}

    play(talk, scenario, *markets)


def test_silence_ends_it_after_twice_the_heartbeats_interval() -> None:
    async def talk(peer: Peer) -> None:
        await peer.welcome(T * MS)
        await peer.accept()
        await peer.send(heartbeat(T * MS), heartbeat(T * MS + 300))
        await peer.connection.wait_closed()

    async def scenario(client: Client) -> None:
        begin = asyncio.get_running_loop().time()
        assert "silent" in str(await client.end())
        assert 0.55 < asyncio.get_running_loop().time() - begin < 2

    play(talk, scenario, heartbeat=60)


def test_silence_is_noticed_before_two_heartbeats_came() -> None:
    async def talk(peer: Peer) -> None:
        await peer.welcome(T * MS)
        await peer.connection.wait_closed()

    async def scenario(client: Client) -> None:
        assert "silent" in str(await client.end())

    play(talk, scenario, heartbeat=0.2)


def frame(kind: str, message: str) -> dict[str, Any]:
    return {"TYPE": kind, "MESSAGE": message, "PARAMETER": "", "INFO": "because"}


@pytest.mark.parametrize(
    ("last", "error", "again"),
    [
        (frame("500", "FORCE_DISCONNECT"), UnavailableError, None),
        (frame("500", "SOMETHING_ELSE"), UnavailableError, None),
        (frame("429", "TOO_MANY_SOCKETS_MAX_1_PER_CLIENT"), RateLimitedError, 1.2),
        (frame("429", "RATE_LIMIT_OPENING_SOCKETS_TOO_FAST"), RateLimitedError, 1.2),
        (frame("401", "UNAUTHORIZED"), UnavailableError, 300),
        ("garbage", UnavailableError, None),
        ('{"TYPE":"0","TS":"x"}', UnavailableError, None),
        (None, UnavailableError, None),
    ],
)
def test_what_ends_a_connection(last: Any, error: type[UnavailableError], again: float | None) -> None:
    async def talk(peer: Peer) -> None:
        await peer.welcome(T * MS)
        await peer.accept()
        await peer.send(trade(1, T + 1))
        if last is not None:
            await peer.send(last)

    async def scenario(client: Client) -> None:
        ended = await client.end()
        assert type(ended) is error
        assert ended.retry_after == (pytest.approx(again) if again else None)
        # What came before the end is not lost.
        assert [event for event in client.events if isinstance(event, Trades)]

    play(talk, scenario)


@pytest.mark.parametrize(("status", "again"), [(429, 7.0), (401, 300.0), (503, None)])
def test_a_refused_opening(status: int, again: float | None) -> None:
    def refuse(connection: Any, request: Any) -> Any:
        response = connection.respond(HTTPStatus(status), "no")
        if status == 429:
            response.headers["Retry-After"] = "7"
        return response

    async def scenario(client: Client) -> None:
        ended = await client.end()
        assert isinstance(ended, RateLimitedError) == (status == 429)
        assert ended.retry_after == again
        assert "hidden-key" not in str(ended)

    async def talk(_: Peer) -> None: ...

    play(talk, scenario, refuse=refuse, key="hidden-key")


def test_nobody_there_and_the_key_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def talk(peer: Peer) -> None:
        assert peer.path == "/v2?api_key=hidden-key"
        await peer.welcome(T * MS)
        await peer.accept()
        await peer.send(heartbeat(T * MS))
        await peer.connection.wait_closed()

    async def scenario(client: Client) -> None:
        await client.take(Subscribed)

    with structlog.testing.capture_logs() as logs:
        play(talk, scenario, key="hidden-key")

        async def nobody() -> None:
            client = Client("ws://127.0.0.1:1/v2", BTC, key="hidden-key")
            assert "hidden-key" not in str(await client.end())

        asyncio.run(nobody())
    theirs = [record for record in caplog.records if not record.name.startswith("websockets.server")]
    assert not [record for record in theirs if "hidden-key" in record.getMessage()]
    assert "hidden-key" not in repr(logs)


def test_holes_in_the_numbers_are_trades_that_never_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("barwright.ingest.feed.sequence.PATIENCE", 0.3)

    async def talk(peer: Peer) -> None:
        await peer.welcome(T * MS)
        await peer.accept(trade(100, T - 9), trade(101, T - 8))
        await peer.send(heartbeat(T * MS), trade(102, T + 1), trade(104, T + 3), trade(103, T + 2), trade(108, T + 8))
        await peer.send(trade(106, T + 6), trade(108, T + 8), trade(109, T + 9, P=None), trade(110, T + 10))
        await peer.connection.wait_closed()

    async def scenario(client: Client) -> None:
        missed = [await client.take(Missed) for _ in range(3)]
        spans = {(miss.start - T * US, miss.end - T * US) for miss in missed}
        assert spans == {(3 * US, 6 * US), (6 * US, 8 * US), (8 * US, 10 * US)}
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.6):
                await client.take(Missed)

    play(talk, scenario)


def test_a_trade_without_a_price_or_a_number_is_missed_at_once() -> None:
    async def talk(peer: Peer) -> None:
        await peer.welcome(T * MS)
        await peer.accept()
        await peer.send(heartbeat(T * MS), trade(1, T + 1, CCSEQ=None, P=None))
        await peer.connection.wait_closed()

    async def scenario(client: Client) -> None:
        assert await client.take(Missed) == Missed("BTCUSD", (T + 1) * US, (T + 1) * US)

    play(talk, scenario)


def test_numbers_that_are_no_count_mean_nothing() -> None:
    sequence = Sequence("market")
    for n in range(0, 400, 3):
        sequence.came(n, n, 0.0)
    assert not sequence.is_dense
    assert not sequence.given_up(PATIENCE + 1)
    sparse = Sequence("market")
    for n in [*range(100), *range(101, 200, 3)]:
        sparse.came(n, n * 10, 0.0)
    assert sparse.is_dense
    assert sparse.given_up(PATIENCE + 1)[0] == (990, 1010)


def test_what_a_connection_lost_at_its_end_is_missed_by_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("barwright.ingest.feed.sequence.PATIENCE", 0.2)
    tail = Tail(100, T * US, (T + 5) * US)
    first, resumed = Sequence("M"), Sequence("M", tail)
    first.came(100, T * US, 0.0)
    assert first.tail((T + 5) * US) == tail
    # Replayed trades fill what was lost; a first number further on leaves a hole up to what had been vouched for.
    resumed.came(99, (T - 1) * US, 0.0)
    resumed.came(100, T * US, 0.0)
    resumed.came(101, (T + 1) * US, 0.0)
    assert not resumed.has_holes
    late = Sequence("M", tail)
    late.came(150, (T + 500) * US, 0.0)
    assert late.safe == T * US
    assert late.given_up(1.0) == [(T * US, (T + 5) * US)]


def test_nothing_beyond_an_open_hole_is_vouched_for() -> None:
    async def talk(peer: Peer) -> None:
        await peer.welcome(T * MS)
        await peer.accept()
        await peer.send(heartbeat(T * MS), trade(102, T + 1), trade(104, T + 3), heartbeat((T + 9) * MS))
        await peer.connection.wait_closed()

    async def scenario(client: Client) -> None:
        miss = await client.take(Missed)
        told = [event.at for event in client.events[: client.events.index(miss)] if isinstance(event, Alive)]
        assert max(told) <= (T + 1) * US
        while (await client.take(Alive)).at < (T + 9) * US:
            pass

    play(talk, scenario)
