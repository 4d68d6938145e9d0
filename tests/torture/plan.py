"""The messages of the load: each is a pure function of its number, so that ten million need not be remembered.

Most are plain trades. By its number a message is late by seconds (every 97th) or by days (every 5,003rd), sent a second
time (every 503rd), or one that must be refused (every 1,009th).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

SYMBOLS = 8
DAY = 86_400_000
PRICE, SIZE = 4, 6  # places after the point
# What must be refused, with {ts} and {n} put in: no JSON, no type, numbers that are none, a symbol that is none, ahead.
BAD = (
    "not json {n}",
    '{{"type":"nonsense","n":{n}}}',
    '{{"type":"trade","symbol":"L0","ts":{ts},"id":{n},"price":"-1","size":"1"}}',
    '{{"type":"trade","symbol":"L0","ts":{ts},"id":{n},"price":"NaN","size":"1"}}',
    '{{"type":"trade","symbol":"L0","ts":{ts},"id":{n},"price":"1e30","size":"1"}}',
    '{{"type":"trade","symbol":"no symbol","ts":{ts},"id":{n},"price":"1","size":"1"}}',
    '{{"type":"trade","symbol":"L0","ts":{ahead},"id":{n},"price":"1","size":"1"}}',
    '{{"type":"trade","symbol":"L0","id":{n},"price":"1","size":"1"}}',
)


@dataclass(frozen=True)
class Segment:
    """Messages `first` … `end` - 1, the first at `begin` (ms since 1970), `rate` a second; `skew` ms are added to their
    times: a day ahead they are all refused."""

    first: int
    begin: int
    rate: float
    skew: int = 0
    end: int = 0

    @property
    def is_ahead(self) -> bool:
        """Whether its times lie so far ahead that all of it must be refused."""
        return self.skew > 60_000

    def due(self, n: int) -> int:
        """When message n is to be sent."""
        return self.begin + int((n - self.first) * 1000 / self.rate)


@dataclass(frozen=True, slots=True)
class Trade:
    """A trade in whole numbers: ms since 1970, price and size in units of their last place."""

    n: int
    symbol: int
    ts: int
    price: int
    size: int
    buys: bool

    def text(self) -> str:
        """As it is sent."""
        return (f'{{"type":"trade","symbol":"L{self.symbol}","ts":{self.ts},"id":{self.n},'
                f'"price":"{_plain(self.price, PRICE)}","size":"{_plain(self.size, SIZE)}",'
                f'"side":"{"buy" if self.buys else "sell"}"}}')  # fmt: skip


def kind(n: int) -> str:
    """What message n is."""
    if n % 1009 == 7:
        return "bad"
    if n % 503 == 5 and n % 1009 != 23 and (n - 16) % 5003 != 11 and (n - 16) % 97 != 3:
        return "twice"
    if n % 5003 == 11:
        return "days"
    return "seconds" if n % 97 == 3 else "plain"


def trade(segment: Segment, n: int) -> Trade:
    """Trade n of a segment; one that is sent twice is the one 16 before it."""
    what = kind(n)
    if what == "twice" and n - 16 >= segment.first:
        n, what = n - 16, "plain"
    mix = (n * 2_654_435_761) & 0xFFFF_FFFF
    mix = ((mix ^ mix >> 15) * 2_246_822_519) & 0xFFFF_FFFF
    ts = segment.due(n) + segment.skew
    if what == "seconds":
        ts -= 1000 + mix % 60_000
    elif what == "days" and not segment.is_ahead:
        ts -= 180_000 + mix % (20 * DAY)
    return Trade(n, n % SYMBOLS, ts, 1_000_000 + mix % 1_000_000, 1 + (mix >> 8) % 1_000_000, bool(mix & 16))


def bad(segment: Segment, n: int) -> str:
    """A message that must be refused."""
    return BAD[n // 1009 % len(BAD)].format(n=n, ts=segment.due(n), ahead=segment.due(n) + DAY)


def message(segment: Segment, n: int) -> tuple[str, str]:
    """Key and value of message n."""
    return f"L{n % SYMBOLS}", bad(segment, n) if kind(n) == "bad" else trade(segment, n).text()


def messages(segment: Segment, first: int, end: int) -> Iterator[tuple[str, str]]:
    """Those of a range."""
    return (message(segment, n) for n in range(first, end))


def _plain(units: int, places: int) -> str:
    whole, rest = divmod(units, 10**places)
    return f"{whole}.{rest:0{places}}"
