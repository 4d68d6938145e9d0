"""CryptoCompare and what speaks its protocol (the simulator does): history by REST, the present by its streamer."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

from barwright import markets
from barwright.errors import BarwrightError
from barwright.ingest.feed.breaker import Breaker
from barwright.ingest.feed.cryptocompare_live import Streamer
from barwright.ingest.feed.cryptocompare_rest import MOST, Page, RefusalError, Rest
from barwright.ingest.feed.deep import Deep, Fetched
from barwright.ingest.feed.rows import SECONDS, Row
from barwright.ingest.feed.source import Event, History, Market, MarketError, Subscriptions

CACHED = 900  # seconds: CryptoCompare caches minutes for 40, hours and days for 610


class CryptoCompare:
    """One implementation, whatever its addresses. `reconnect`: seconds to leave between two connections."""

    def __init__(
        self,
        name: str,
        rest_url: str,
        ws_url: str,
        key: str = "",
        *,
        grace: timedelta = timedelta(seconds=60),
        reconnect: float = 5.0,
        heartbeat: float = 30.0,
        pause: float = 0.5,
    ) -> None:
        self.name, self.grace, self.reconnect = name, grace, reconnect
        # Left alone for as long as a connection would be, six times over: 30 s for the real vendor.
        self.rest = Rest(name, rest_url, key, Breaker(name, pause=6 * reconnect), pause)
        self._streamer = Streamer(name, ws_url, key, heartbeat, reconnect)
        self._deep = Deep(self)

    def market_of(self, symbol: str) -> str:
        """`Coinbase~BTC~USD` for BTCUSD."""
        try:
            return markets.market_of(symbol)
        except BarwrightError as error:
            raise MarketError(error.message, error.hint) from error

    async def history(self, market: Market, interval: str, start: datetime, end: datetime) -> History:
        """See Source."""
        return await self._deep.history(market, interval, start, end)

    def live(self, subscriptions: Subscriptions) -> AsyncIterator[Event]:
        """See Source."""
        return self._streamer.live(subscriptions)

    async def close(self) -> None:
        """Give up the connections."""
        await self.rest.close()

    async def fetch(self, market: str, interval: str, start: int, end: int) -> Fetched:
        """See Vendor. Pages end one bucket beyond what is wanted, so that an answer's last row is never needed."""
        step = SECONDS[interval]
        cursor = min(end, _floor(time.time(), step) + step)
        parts: list[list[Row]] = []
        holes: list[tuple[int, int]] = []
        newest: Page | None = None
        refusal, proved = "", max(min(end, _floor(time.time(), step)), start)
        while cursor > start:
            count = min((cursor - start) // step + 1, MOST)
            try:
                # One second before the bucket after that one: right whether the vendor counts toTs in or not.
                page = await self.rest.page(market, interval, count, cursor + step - 1)
            except RefusalError as error:
                refusal = error.message
                break
            if newest is None:
                newest, cursor = page, _proved(page, start, cursor, step)
                proved = cursor
            below = [row for row in _closed(page, step) if start <= row.time < cursor]
            if not below:
                break
            parts.append(below)
            holes += _holes(below, cursor, step)
            cursor = below[0].time
        rows = [row for part in reversed(parts) for row in part]
        now = newest.now if newest else time.time()
        last = newest.rows[-1] if newest and newest.rows else None
        return Fetched(rows, proved, now, last if last and last.time >= proved else None, refusal, sorted(holes))

    async def probe(self, market: str, interval: str) -> None:
        """See Vendor."""
        for attempt in range(2):
            try:
                await self.rest.page(market, interval, 1)
            except RefusalError as error:
                if attempt:
                    raise MarketError(error.message) from error
            else:
                return


def _floor(at: float, step: int) -> int:
    return int(at // step) * step


def _proved(page: Page, start: int, end: int, step: int) -> int:
    """Where the proof of the newest page ends: at the vendor's open bucket, at the row that is not taken, or at the
    end asked."""
    last = end if len(_closed(page, step)) == len(page.rows) else page.rows[-1].time
    return max(min(end, _floor(page.now, step), last), start)


def _closed(page: Page, step: int) -> list[Row]:
    """The rows that cannot be the open one: not the last, unless it is older than any answer a vendor may cache."""
    is_old = bool(page.rows) and page.rows[-1].time + step <= page.now - CACHED
    return page.rows if is_old else page.rows[:-1]


def _holes(rows: list[Row], end: int, step: int) -> list[tuple[int, int]]:
    """Where rows are missing between these, and before `end`: not this vendor's habit, which fills quiet times."""
    follows = [*(row.time for row in rows[1:]), end]
    return [(row.time + step, after) for row, after in zip(rows, follows, strict=True) if row.time + step != after]
