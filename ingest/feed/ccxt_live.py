"""Live trades through ccxt: by its sockets where it has them for an exchange, else by asking again and again."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import structlog

from barwright.ingest.cryptocompare import stable_hash
from barwright.ingest.feed.ccxt_errors import RefusalError, translated
from barwright.ingest.feed.outbox import Outbox
from barwright.ingest.feed.source import (
    Alive,
    Event,
    Market,
    MarketError,
    Missed,
    Subscribed,
    Subscriptions,
    UnavailableError,
    Unsubscribed,
)
from barwright.ingest.ticks import MAX_SEQ, RefusedError, Trade, decimal_of, stamp

log = structlog.get_logger()
AGAIN: Final = 60.0  # seconds a market that is refused is left alone
BEAT: Final = 0.1  # seconds between two Alive at least
POLL: Final = 1.0  # seconds between two rounds of asking at least
PAGE: Final = 1_000  # trades asked for at once
REMEMBERED: Final = 5_000  # trades of a market known again


async def live(name: str, make: Callable[[], Any], subscriptions: Subscriptions) -> AsyncIterator[Event]:
    """See Source.live."""
    exchange = make()
    try:
        with translated(name):
            await exchange.load_markets()
        follow = _Watch if exchange.has.get("watchTrades") else _Poll
        async for event in follow(name, exchange).events(subscriptions):
            yield event
    finally:
        await exchange.close()


class _Follow(ABC):
    """What both ways share: one task for each market, an outbox, and the newest time seen."""

    def __init__(self, name: str, exchange: Any) -> None:
        self.name, self.exchange = name, exchange
        self.outbox = Outbox()
        self.markets: dict[str, _Followed] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.alive = 0  # event time (microseconds) all have reached

    async def events(self, subscriptions: Subscriptions) -> AsyncIterator[Event]:
        """Events as they come. Raises SourceError at the end."""
        loop, told, beat_at = asyncio.get_running_loop(), 0, 0.0
        try:
            while True:
                self._arrange(subscriptions.wanted)
                for event in self.outbox.taken():
                    yield event
                if self.alive > told and loop.time() >= beat_at:
                    told, beat_at = self.alive, loop.time() + BEAT
                    yield Alive(told)
                if self.outbox.failure and not self.outbox.events:
                    raise self.outbox.failure
                await self._news(subscriptions)
        finally:
            tasks = [*self.tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _news(self, subscriptions: Subscriptions) -> None:
        waits = [asyncio.ensure_future(self.outbox.news()), asyncio.ensure_future(subscriptions.changed())]
        try:
            await asyncio.wait(waits, timeout=BEAT, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def _arrange(self, wanted: frozenset[Market]) -> None:
        """Begin and end tasks by what is wanted now."""
        symbols: dict[str, set[str]] = {}
        for market in wanted:
            symbols.setdefault(market.name, set()).add(market.symbol)
        for name in self.tasks.keys() - symbols.keys():
            self.tasks.pop(name).cancel()
            self._unsubscribe(self.markets.pop(name).symbols)
        for name, ours in symbols.items():
            if name in self.markets:
                self._unsubscribe(self.markets[name].keep(ours))
            else:
                self.markets[name] = _Followed(name, ours, self.outbox)
                self.tasks[name] = asyncio.ensure_future(self._task(self.markets[name]))

    def _unsubscribe(self, symbols: set[str]) -> None:
        if symbols:
            self.outbox.put(Unsubscribed(frozenset(symbols)))

    async def _task(self, market: _Followed) -> None:
        """Follow one market. One that the exchange does not know is tried again rarely; the others go on."""
        while True:
            try:
                await self._follow(market)
            except (MarketError, RefusalError) as error:
                log.warning("subscription refused", source=self.name, market=market.name, reason=error.message)
                await asyncio.sleep(AGAIN)
            except Exception as error:
                self.outbox.fail(error)
                return

    @abstractmethod
    async def _follow(self, market: _Followed) -> None:
        """Pass a market's trades on, until that fails. Raises SourceError, RefusalError."""

    async def _ask(self, method: str, *arguments: Any) -> list[Any]:
        with translated(self.name):
            return await getattr(self.exchange, method)(*arguments)  # type: ignore[no-any-return]


class _Watch(_Follow):
    """ccxt's sockets: each call gives what came since the one before."""

    async def _follow(self, market: _Followed) -> None:
        while True:
            market.take(await self._ask("watch_trades", market.name))
            self.alive = max(self.alive, market.newest)
            await self.outbox.room()


class _Poll(_Follow):
    """Pages of the newest trades. A page that does not reach back to what was seen before it ends the stream, so that
    the gap is healed by history."""

    _before = 0

    async def _follow(self, market: _Followed) -> None:
        market.take(await self._ask("fetch_trades", market.name, None, PAGE))
        while True:
            await self.outbox.room()
            since, page = market.newest // 1_000 or None, []
            page = await self._ask("fetch_trades", market.name, since, PAGE)
            if page and not market.reaches(page):
                raise UnavailableError(f"{self.name}: more trades of {market.name} than one page holds.")
            market.take(page)
            market.rounds += 1
            self._reach()
            await asyncio.sleep(POLL if len(page) < PAGE else 0)

    def _reach(self) -> None:
        """What was the newest time before everybody's last round is what all have reached."""
        followed = [market for market in self.markets.values() if market.newest]
        if followed and all(market.rounds > 0 for market in followed):
            self.alive = max(self.alive, self._before)
            self._before = max(market.newest for market in followed)
            for market in followed:
                market.rounds = 0


class _Followed:
    """A market that is followed, with our symbols of it."""

    def __init__(self, name: str, symbols: set[str], outbox: Outbox) -> None:
        self.name, self.symbols, self.outbox = name, set(symbols), outbox
        self.newest = 0  # microseconds
        self.rounds = 0
        self._largest = 0
        self._seen: dict[Any, None] = {}
        self._new: set[str] = set(symbols)

    def keep(self, symbols: set[str]) -> set[str]:
        """Follow it for these symbols; returns those that go."""
        gone = self.symbols - symbols
        self._new = (self._new | (symbols - self.symbols)) & symbols
        self.symbols = set(symbols)
        return gone

    def reaches(self, page: list[Any]) -> bool:
        """Whether a page holds a trade seen before, or is short enough to hold all there was since."""
        known = any(_identity(trade) in self._seen for trade in page)
        return known or not self._seen or len(page) < min(self._largest, PAGE)

    def take(self, page: list[Any]) -> None:
        """Pass on what is new of a page."""
        self._largest = max(self._largest, len(page))
        fresh = [trade for trade in page if _identity(trade) not in self._seen]
        fresh.sort(key=lambda trade: trade.get("timestamp") or 0)
        for trade in fresh:
            self._seen[_identity(trade)] = None
            self._pass_on(trade)
        if self._new and self.newest:
            # What comes with the first page is from before; from its newest trade on nothing is left out.
            self.outbox.put(Subscribed(frozenset(self._new), self.newest))
            self._new = set()
        for old in [*self._seen][: max(len(self._seen) - REMEMBERED, 0)]:
            del self._seen[old]

    def _pass_on(self, trade: dict[str, Any]) -> None:
        at = int(trade.get("timestamp") or 0) * 1_000
        try:
            for symbol in sorted(self.symbols):
                self.outbox.trade(trade_of(trade, symbol))
        except RefusedError as refused:
            log.warning("a trade cannot be read", market=self.name, reason=refused.message)
            for symbol in sorted(self.symbols) if at or self.newest else ():
                self.outbox.put(Missed(symbol, at or self.newest, at or self.newest))
            return
        self.newest = max(self.newest, at)


def trade_of(trade: dict[str, Any], symbol: str) -> Trade:
    """A unified trade of ccxt as the native one. Raises RefusedError."""
    ms = trade.get("timestamp")
    if not isinstance(ms, int) or ms < 0:
        raise RefusedError(f"timestamp: not milliseconds: {ms!r:.80}")
    price, size = (decimal_of(str(trade.get(name)), name) for name in ("price", "amount"))
    if price == "0":
        raise RefusedError("price: not above zero")
    identity = None if trade.get("id") is None else str(trade["id"])
    side = trade.get("side") if trade.get("side") in ("buy", "sell") else None
    return Trade(symbol, stamp(ms * 1_000), price, size, identity, _seq(ms, identity, trade), side)


def _seq(ms: int, identity: str | None, trade: dict[str, Any]) -> int:
    """The numeric id, else nanoseconds of the time whose last six digits, below the millisecond, are a hash."""
    if identity and identity.isascii() and identity.isdigit() and len(identity) < 20 and int(identity) <= MAX_SEQ:
        return int(identity)
    return ms * 1_000_000 + stable_hash(str(_identity(trade))) % 1_000_000


def _identity(trade: dict[str, Any]) -> Any:
    """What a trade is known again by."""
    if trade.get("id") is not None:
        return str(trade["id"])
    return tuple(trade.get(name) for name in ("timestamp", "price", "amount", "side"))
