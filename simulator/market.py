"""One market: how many trades each minute has, and its orders.

Trades are numbered without holes (CCSEQ) although every minute is computed by itself: how many trades there have been
since 1970 is a function of time that only grows, `floor(rate * warp(minute))`, where the warp makes hours and minutes
uneven. An order has one price and side and is filled by one or more trades until the next order comes, so bars cost by
the order.
Prices and sizes are whole numbers of the market's smallest units.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

import numpy as np

from barwright.markets import Pair
from barwright.simulator.keys import key
from barwright.simulator.noise import Floats, Hashes, Ints, field, hashes, mix, smooth
from barwright.simulator.revisions import Revision

MINUTE: Final = 60_000  # milliseconds
# Periods in minutes and how far the price swings over each, relative to the market's usual price.
_SWINGS: Final = ((259_200, 0.3), (10_080, 0.15), (1_440, 0.05), (240, 0.02), (60, 0.01), (10, 0.004), (2, 0.001))
# What a unit is worth in dollars; the rest is drawn from the name.
_WORTH: Final = {
    "USD": 1.0, "USDT": 1.0, "USDC": 1.0, "EUR": 1.09, "GBP": 1.27, "JPY": 0.0067, "CHF": 1.13, "BTC": 64_000.0,
    "ETH": 3_200.0, "SOL": 150.0, "XRP": 0.55, "BNB": 580.0, "LTC": 75.0, "DOGE": 0.12, "ADA": 0.4,
}  # fmt: skip
# Shares of the busy markets' rate; the last has hours without a trade at 8 trades a second.
_ACTIVITIES: Final = (1.0, 0.3, 0.1, 0.03, 0.01, 0.002, 0.0001)
_TRADED: Final = 1_000.0  # dollars of a usual trade
_MOST_ORDERS: Final = 48  # in a minute; more trades fill the same orders
_KNOWN_SINCE: Final = int(datetime(2017, 1, 1, tzinfo=UTC).timestamp()) // 60
_HOUR: Final = 60 << 10  # minutes have 10 binary places in the warp, hours 16


class Orders(NamedTuple):
    """Orders in order of time: minute (since 1970), ms since 1970, ms it has until the next one may come, ns within the
    ms, number of fills, number of the first, price, size of all fills, whether bought, the revision it comes from (0:
    none), random bits."""

    minute: Ints
    ms: Ints
    room: Ints
    ns: Ints
    fills: Ints
    first: Ints
    price: Ints
    size: Ints
    bought: Ints
    revision: Ints
    bits: Ints


class Market:
    """A market of the exchange with this seed; `rate` is what a busy market has, in trades per second."""

    def __init__(self, seed: int, pair: Pair, rate: float, listed: int | None, revisions: Sequence[Revision]) -> None:
        self.pair = pair
        self.name = str(pair)
        self.revisions = revisions
        self._key = key(seed, "market", self.name)
        known = pair.base in _WORTH and pair.quote in _WORTH
        self.odd = not known and bool(self._key & 1)  # its trade ids are no numbers and its times have nanoseconds
        activity = 1.0 if known else _ACTIVITIES[key(self.name, "activity") % len(_ACTIVITIES)]
        self._per_unit = rate * 3600 * activity / (_HOUR << 16)
        years = key(self.name, "listed") % (4 * 525_600)
        self.listed = listed if listed is not None else _KNOWN_SINCE if known else _KNOWN_SINCE + years // 60 * 60
        usual = _worth(pair.base) / _worth(pair.quote)
        self.price_places = min(max(6 - _digits(usual), 2), 12)
        self.size_places = min(max(6 - _digits(_TRADED / _worth(pair.base)), 0), 10)
        self._price = usual * 10.0**self.price_places
        self._size = _TRADED / _worth(pair.base) * 10.0**self.size_places
        self._origin = int(self._total(np.array([self.listed]))[0]) - 1

    def before(self, minutes: Ints) -> Ints:
        """How many trades there were before each minute (as it was live); the first trade has the number 1."""
        return self._total(np.maximum(minutes, self.listed)) - self._origin

    def orders(self, start: int, end: int, revised: bool = True) -> Orders:
        """The orders of the minutes [start, end); `revised`: as history shows them, else as they came live."""
        minutes = np.arange(start, end)
        bounds = self.before(np.arange(start, end + 1))
        counts, keys, revision = np.diff(bounds), hashes(self._key, minutes), np.zeros_like(minutes)
        for correction in self.revisions if revised else ():
            correction.apply(minutes, counts, keys, revision, self._key, self.listed)
        many = counts * (64 + field(keys, 0, 7)) >> 8
        many = np.minimum(np.minimum(1 + many, 16 + field(keys, 7, 5)), counts)
        return self._laid_out(minutes, counts, many, keys, bounds, revision)

    def _laid_out(self, minutes: Ints, counts: Ints, many: Ints, keys: Hashes, bounds: Ints, revision: Ints) -> Orders:
        """Each minute's orders, one in each of as many slots of the minute; their fills sum to the minute's count."""
        row = np.repeat(np.arange(len(minutes)), many)
        place = np.arange(len(row)) - np.repeat(np.cumsum(many) - many, many)
        bits = mix(keys[row] + place.view(np.uint64))
        slots, filled = many[row], counts[row]
        jitter = np.where(place == 0, 0, field(bits, 0, 8))
        begin = place + (filled - slots) * ((place << 8) + jitter) // (slots << 8)
        fills = np.append(begin[1:], 0) - begin
        last = place == slots - 1
        fills[last] = (filled - begin)[last]
        at, end = MINUTE * place // slots, MINUTE * (place + 1) // slots
        at += (end - at) * field(bits, 8, 14) >> 17
        ns = field(bits, 22, 20) * 900_000 >> 20 if self.odd else np.zeros_like(at)
        price, size = self._price_at(minutes, row, at, bits), self._size_of(fills, bits)
        return Orders(
            minutes[row], minutes[row] * MINUTE + at, end - at, ns, fills, bounds[:-1][row] + begin, price, size,
            field(bits, 63, 1), revision[row], bits.view(np.int64),
        )  # fmt: skip

    def _price_at(self, minutes: Ints, row: Ints, at: Ints, bits: Hashes) -> Ints:
        """Prices: a level that moves smoothly, and a spread around it by the side and by chance."""
        level = self._level(int(minutes[0]), int(minutes[-1]) + 1)
        here = level[row]
        price = here + (level[row + 1] - here) * (at / MINUTE)
        price *= 1 + (field(bits, 42, 10) - 512) * 2e-7 + (field(bits, 63, 1) * 2 - 1) * 5e-5
        return np.maximum(np.rint(price).astype(np.int64), 1)

    def _level(self, first: int, last: int) -> Floats:
        """Where the price is at the start of each minute from `first` to `last`, both included."""
        at = np.arange(first, last + 1)
        swing = 1 + np.zeros(len(at))
        for period, share in _SWINGS:
            swing += share * smooth(self._key + period, period, at)
        return swing * self._price

    def _size_of(self, fills: Ints, bits: Hashes) -> Ints:
        """Sizes: mostly small, a few large, of at least one unit for each fill."""
        part = field(bits, 52, 11) / 2048
        return fills + (fills * (self._size * 4 * part * part * part)).astype(np.int64)

    def _total(self, minutes: Ints) -> Ints:
        """Trades since 1970 before each minute, as if it had been listed then."""
        at = (minutes << 10) + field(hashes(self._key + 1, minutes), 0, 10)
        hour = at // _HOUR
        first = int(hour[0])
        hours = np.arange(first, int(hour[-1]) + 2)
        warped = (hours << 16) + field(hashes(self._key + 2, hours), 0, 16) * 4 // 5
        left = hour - first
        warp = warped[left] * _HOUR + (at - hour * _HOUR) * (warped[left + 1] - warped[left])
        total: Ints = np.floor(warp * self._per_unit).astype(np.int64)
        return total


def _worth(currency: str) -> float:
    """Dollars for one unit."""
    return _WORTH.get(currency) or 10.0 ** (key(currency, "worth") % 5 - 2) * (1 + key(currency) % 900 / 100)


def _digits(value: float) -> int:
    """Digits before the point; below 1 the negated number of zeros after it."""
    return len(str(int(value))) if value >= 1 else 1 - next(n for n in range(1, 30) if value * 10.0**n >= 1)
