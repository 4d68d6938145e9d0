"""Any exchange of the ccxt library, an optional extra: klines as history, trades as the present.

ccxt gives numbers as binary floats; their shortest text (repr) has the exchange's own digits up to the fifteenth.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Any, Final

import structlog
import tenacity

from barwright import sources
from barwright.errors import BarwrightError
from barwright.ingest.feed.breaker import Breaker
from barwright.ingest.feed.ccxt_errors import RefusalError, translated
from barwright.ingest.feed.ccxt_live import live
from barwright.ingest.feed.deep import Deep, Fetched
from barwright.ingest.feed.rows import SECONDS, Row, check_order, row_of
from barwright.ingest.feed.source import Event, History, Market, MarketError, Subscriptions, UnavailableError

log = structlog.get_logger()
LIMIT: Final = 500  # klines asked for at once: every exchange gives some hundreds
CLOCK: Final = 600.0  # seconds the difference between the exchange's clock and ours is believed
ATTEMPTS: Final = 4


class Ccxt:
    """One exchange. `configure` is what its class is made with."""

    reconnect = 5.0

    def __init__(self, name: str, make: Callable[[], Any], grace: timedelta, pause: float = 0.5) -> None:
        self.name, self.grace, self.pause = name, grace, pause
        self._make = make
        self._exchange: Any = None
        self._breaker = Breaker(name, pause=30.0)
        self._deep = Deep(self)
        self._ahead, self._ahead_at = 0.0, float("-inf")

    @classmethod
    def of(cls, name: str, grace: timedelta, configure: Mapping[str, Any] | None = None) -> Ccxt:
        """The exchange of `ccxt:<exchange>`. BarwrightError where ccxt is not installed or has no such exchange."""
        try:
            pro = importlib.import_module("ccxt.pro")
        except ImportError as error:
            hint = "Install it: pip install --require-hashes -r requirements-ccxt.lock"
            raise BarwrightError(f"{name} needs the Python package ccxt, which is not installed.", hint) from error
        exchange = name.partition(":")[2]
        if exchange not in pro.exchanges:
            near = get_close_matches(exchange, pro.exchanges, 3, 0.5)
            hint = f"Did you mean {' or '.join(near)}?" if near else ""
            raise BarwrightError(f"ccxt has no exchange {exchange!r:.40} with live trades.", hint)
        # More than ccxt's 1,000 trades may come between two looks at a busy market; it drops the oldest without a word.
        options = {"enableRateLimit": True, "options": {"tradesLimit": 20_000}}
        return cls(name, lambda: getattr(pro, exchange)(_merged(options, configure or {})), grace)

    def market_of(self, symbol: str) -> str:
        """`BTC/USD` for BTCUSD."""
        try:
            market = sources.market_of(self.name, symbol)
        except BarwrightError as error:
            raise MarketError(error.message, error.hint) from error
        assert market
        return market

    async def history(self, market: Market, interval: str, start: datetime, end: datetime) -> History:
        """See Source."""
        return await self._deep.history(market, interval, start, end)

    def live(self, subscriptions: Subscriptions) -> AsyncIterator[Event]:
        """See Source. A connection of its own, that ends with it."""
        return live(self.name, self._make, subscriptions)

    async def close(self) -> None:
        """Give up the connections."""
        if self._exchange is not None:
            exchange, self._exchange = self._exchange, None
            await exchange.close()

    async def fetch(self, market: str, interval: str, start: int, end: int) -> Fetched:
        """See Vendor. Exchanges leave out what had no trade, so a missing row says nothing."""
        step = SECONDS[interval]
        now = await self._now()
        proved = max(min(end, int(now // step) * step), start)
        rows: dict[int, Row] = {}
        cursor, refusal = start, ""
        while cursor < proved:
            try:
                page = await self._page(market, interval, cursor)
            except RefusalError as error:
                # Perhaps too long ago for it, which says nothing about the rest.
                page, refusal = [], error.message
            rows.update((row.time, row) for row in page if row.time >= cursor)
            # Where nothing came, the window that was asked for is over; some exchanges give only that.
            newest = max((row.time for row in page), default=0)
            cursor = newest + step if newest >= cursor else cursor + LIMIT * step
        found = check_order([rows[time] for time in sorted(rows)], interval)
        last = next((row for row in found if row.time >= proved), None)
        return Fetched([row for row in found if row.time < proved], proved, now, last, refusal)

    async def probe(self, market: str, interval: str) -> None:
        """See Vendor."""
        if interval in self._its().timeframes:
            try:
                await self._call("fetch_ohlcv", market, interval, None, 2)
            except RefusalError as error:
                raise MarketError(error.message) from error

    async def _page(self, market: str, interval: str, since: int) -> list[Row]:
        if interval not in (self._its().timeframes or ()):
            raise RefusalError(f"{self.name} has no bars of {interval}.")
        found = await self._call("fetch_ohlcv", market, interval, since * 1_000, LIMIT)
        return [_row(self.name, values) for values in found]

    async def _now(self) -> float:
        """The exchange's clock, asked now and then where it tells it."""
        if time.monotonic() - self._ahead_at > CLOCK:
            self._ahead = 0.0
            if self._its().has.get("fetchTime"):
                sent = time.time()
                self._ahead = await self._call("fetch_time") / 1_000 - sent
            self._ahead_at = time.monotonic()
        # What the answer took to come makes it early, never late.
        return time.time() + min(self._ahead, 0.0)

    async def _call(self, method: str, *arguments: Any) -> Any:
        """One call of ccxt, again where it may help. Raises SourceError, RefusalError."""
        patience = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_is_transient),
            wait=tenacity.wait_random_exponential(multiplier=self.pause, max=8),
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            reraise=True,
        )
        return await patience(self._ask, getattr(self._its(), method), *arguments)

    async def _ask(self, method: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        with self._breaker.call(), translated(self.name):
            return await method(*arguments)

    def _its(self) -> Any:
        if self._exchange is None:
            self._exchange = self._make()
        return self._exchange


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, UnavailableError) and error.retry_after is None


def _row(name: str, values: Any) -> Row:
    """A kline `[ms, open, high, low, close, volume]`. Raises UnavailableError."""
    try:
        ms, *numbers = values[:6]
        open_, high, low, close, volume = (str(number if number is not None else 0) for number in numbers)
        return row_of(int(ms) // 1_000, open_, high, low, close, volume, None)
    except (TypeError, ValueError) as error:
        raise UnavailableError(f"{name}: {values!r:.120} is no bar.") from error


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    both = {**one, **other}
    both["options"] = {**one.get("options", {}), **other.get("options", {})}
    return both
