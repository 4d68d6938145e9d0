"""The symbols as UDF names them: `EXCHANGE:SYMBOL`, found by any of their names, with the digits of their prices."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from barwright import sql
from barwright.api.database import Database, Snapshot
from barwright.api.errors import unknown_symbol

Q = sql.queries("udf")
LASTS = 1.0  # seconds that the list of symbols is kept
DIGITS_LAST = 60.0  # seconds that a symbol's digits are kept: they come from thousands of bars
MOST_DIGITS = 15  # decimals in a price scale: 10^15 is the last power of ten below the whole numbers of a double
DEFAULT = (2, 0)  # decimals of price and volume where there is no bar yet


@dataclass(frozen=True, slots=True)
class Listed:
    """A symbol, its exchange, and the currencies it is made of where they are known."""

    symbol: str
    exchange: str
    base: str | None
    quote: str | None

    @property
    def full_name(self) -> str:
        """The name with the exchange before it."""
        return f"{self.exchange}:{self.symbol}"

    @property
    def description(self) -> str:
        """What it is, for people."""
        return f"{self.base} / {self.quote}" if self.base and self.quote else self.symbol


Digits = tuple[int, int]  # decimals of prices, of volumes


class Directory:
    """What this process knows of the symbols; asked for once at a time."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.listed: dict[str, Listed] = {}
        self.until = float("-inf")
        self.lock = asyncio.Lock()
        self.digits_of: dict[str, tuple[float, Digits]] = {}

    async def all(self) -> list[Listed]:
        """Every symbol, by name. ApiError 503."""
        if time.monotonic() > self.until:
            async with self.lock:
                if time.monotonic() > self.until:
                    rows = await self.database.fetch(Q["directory"])
                    self.listed = {
                        symbol: Listed(symbol, _exchange(source, market), base, quote)
                        for symbol, source, market, base, quote in rows
                    }
                    self.until = time.monotonic() + LASTS
        return list(self.listed.values())

    async def resolve(self, name: str) -> Listed:
        """The symbol of a ticker, a name or a full name; upper and lower case count only where both exist.

        ApiError 404, 503.
        """
        await self.all()
        found = self._named(name)
        if found is None:  # it may have been registered since
            self.until = float("-inf")
            await self.all()
            found = self._named(name)
        if found is None:
            raise unknown_symbol(name[:80])
        return found

    def _named(self, name: str) -> Listed | None:
        if name in self.listed:
            return self.listed[name]
        every, folded = list(self.listed.values()), name.upper()
        for one in (*(each for each in every if each.full_name == name), *every):
            if folded in (one.symbol.upper(), one.full_name.upper()):
                return one
        return None

    async def search(self, text: str, exchange: str, limit: int) -> list[Listed]:
        """Symbols whose name, full name or description holds a text, the earlier the better. ApiError 503."""
        folded = text.strip().upper()
        weighted = [
            (_weight(folded, one), one) for one in await self.all() if not exchange or one.exchange == exchange.upper()
        ]
        found = sorted((pair for pair in weighted if pair[0] >= 0), key=lambda pair: (pair[0], pair[1].symbol))
        return [one for _, one in found[:limit]]

    async def exchanges(self) -> list[str]:
        """Every exchange that has a symbol. ApiError 503."""
        return sorted({one.exchange for one in await self.all()})

    async def digits(self, symbols: Sequence[str]) -> list[Digits]:
        """The decimals of each symbol's recent prices and volumes. ApiError 503."""
        now = time.monotonic()
        missing = [name for name in symbols if name not in self.digits_of or self.digits_of[name][0] < now]
        if missing:
            if len(self.digits_of) > 10_000:
                self.digits_of.clear()
            async with self.database.snapshot() as snapshot:
                found = await _digits(snapshot, missing)
            self.digits_of |= {name: (now + DIGITS_LAST, digits) for name, digits in found.items()}
        # A symbol without bars is asked about again: its first ones tell.
        return [self.digits_of[name][1] if name in self.digits_of else DEFAULT for name in symbols]


async def _digits(snapshot: Snapshot, symbols: Sequence[str]) -> dict[str, Digits]:
    days: list[tuple[str, datetime]] = await snapshot.fetch(Q["newest_days"], {"symbols": list(symbols)})
    found = await snapshot.fetch_all(*((Q["digits"], {"symbol": name, "day": day}) for name, day in days))
    return {
        name: (min(price, MOST_DIGITS), min(volume, MOST_DIGITS))
        for (name, _), [(price, volume)] in zip(days, found, strict=True)
    }


def _exchange(source: str | None, market: str | None) -> str:
    """The exchange of a source's market: `Coinbase~BTC~USD` is Coinbase's, `ccxt:binance` binance's."""
    venue = market.split("~")[0] if market and "~" in market else (source or "barwright").rsplit(":", 1)[-1]
    return venue.upper()


def _weight(text: str, one: Listed) -> int:
    """How late a text comes in a symbol's names, then in its description; -1 where it does not."""
    for base, name in ((0, one.symbol), (1000, one.full_name), (2000, one.description)):
        at = name.upper().find(text)
        if at >= 0:
            return base + at
    return -1
