"""A market whose every trade is a pure function of (seed, symbol, minute), so that the truth of every bar is known.

The price is the sum of smooth noises of several periods, in basic arithmetic only: the same on every machine.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from heapq import merge
from random import Random
from typing import Final

from barwright.errors import BarwrightError
from barwright.ingest.ticks import RefusedError, Trade, symbol_of
from barwright.settings import Settings

# Periods in minutes and how far the price swings over each, relative to its base.
_SWINGS: Final = ((10_080, 0.2), (1_440, 0.06), (240, 0.02), (60, 0.01), (10, 0.004), (1, 0.0006))
# Where well-known symbols trade; others get a base by their name.
_BASES: Final = {"BTCUSD": 64_000.0, "ETHUSD": 3_200.0, "SOLUSD": 150.0, "XRPUSD": 0.55, "EUR/USD": 1.09}
# Trades of one minute: a trade's id is its minute times this plus its place, so ids grow for ever and across restarts.
MOST: Final = 100_000
STEP: Final = 0.02  # seconds between two looks at what has happened


@dataclass(frozen=True)
class Simulator:
    """The simulated exchange: these symbols, so many trades a minute each."""

    seed: int
    symbols: tuple[str, ...]
    per_minute: float
    name: str = "simulator"

    @classmethod
    def from_settings(cls, settings: Settings) -> Simulator:
        """As the settings want it. Raises BarwrightError where a symbol is none."""
        named = (symbol.strip() for symbol in settings.simulator_symbols.split(","))
        symbols = tuple(dict.fromkeys(symbol for symbol in named if symbol))
        try:
            for symbol in symbols:
                symbol_of(symbol)
        except RefusedError as refused:
            raise BarwrightError(f"BARWRIGHT_SIMULATOR_SYMBOLS: {refused.message}") from refused
        if not symbols:
            raise BarwrightError("BARWRIGHT_SIMULATOR_SYMBOLS names no symbol.")
        return cls(settings.simulator_seed, symbols, settings.simulator_rate * 60 / len(symbols))

    def live(self, since: int, stop: threading.Event) -> Iterator[Sequence[tuple[int, Trade]]]:
        """See Source. Every look yields, if only an empty list, so that the caller can see to its deliveries."""
        while not stop.is_set():
            now = int(time.time() * 1000)
            # One minute at a time, so that catching up after an outage stays small.
            until = min(now, (since // 60_000 + 1) * 60_000)
            yield self.between(since, until)
            since = until
            if until == now:
                stop.wait(STEP)

    def between(self, start: int, end: int) -> list[tuple[int, Trade]]:
        """Every symbol's trades of [start, end), milliseconds of one minute, by time."""
        trades = _minute_of_all(self.seed, self.symbols, start // 60_000, self.per_minute)
        first, last = (bisect_left(trades, time, key=lambda trade: trade[0]) for time in (start, end))
        return trades[first:last]

    def minute(self, symbol: str, minute: int) -> list[tuple[int, Trade]]:
        """All trades of a symbol's minute, by time."""
        return _minute(self.seed, symbol, minute, self.per_minute)


@lru_cache(maxsize=2)
def _minute_of_all(seed: int, symbols: tuple[str, ...], minute: int, per_minute: float) -> list[tuple[int, Trade]]:
    streams = (_minute(seed, symbol, minute, per_minute) for symbol in symbols)
    return list(merge(*streams, key=lambda trade: trade[0]))


def _minute(seed: int, symbol: str, minute: int, per_minute: float) -> list[tuple[int, Trade]]:
    random = Random(_hash(seed, symbol, minute))
    count = min(int(per_minute * random.uniform(0.5, 1.5) + random.random()), MOST)
    times = sorted(random.randrange(60_000) for _ in range(count))
    return [
        (minute * 60_000 + ms, _trade(random, seed, symbol, minute, ms, minute * MOST + place))
        for place, ms in enumerate(times)
    ]


def _trade(random: Random, seed: int, symbol: str, minute: int, ms: int, number: int) -> Trade:
    base = _base(symbol)
    swing = sum(share * _noise(seed, symbol, period, minute + ms / 60_000) for period, share in _SWINGS)
    places = _places(base)
    price = base * (1 + swing + random.uniform(-0.0001, 0.0001))
    # Sizes around 1,000 units of money, in steps that look like an exchange's.
    size = max(round(random.expovariate(base / 1_000), 6), 0.000001)
    side = "buy" if random.random() < 0.5 else "sell"
    return Trade(symbol, minute * 60_000 + ms, f"{price:.{places}f}", f"{size:.6f}", str(number), None, side)


def _noise(seed: int, symbol: str, period: int, at: float) -> float:
    """Smooth noise in [-1, 1] with a new value every `period` minutes."""
    left = int(at // period)
    part = at / period - left
    ease = part * part * (3 - 2 * part)
    return _value(seed, symbol, period, left) * (1 - ease) + _value(seed, symbol, period, left + 1) * ease


@lru_cache(maxsize=10_000)
def _value(seed: int, symbol: str, period: int, place: int) -> float:
    return _hash(seed, symbol, period, place) / 2**63 - 1


@lru_cache(maxsize=10_000)
def _base(symbol: str) -> float:
    """The price around which a symbol swings."""
    return _BASES.get(symbol) or 10.0 ** (_hash(symbol) % 6 - 1) * (1 + _hash("base", symbol) % 900 / 100)


def _places(base: float) -> int:
    """Digits after the point that give a price about six digits in all."""
    return max(6 - len(str(int(base))), 2)


def _hash(*parts: object) -> int:
    """64 bits that depend on nothing but the parts."""
    return int.from_bytes(blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest())
