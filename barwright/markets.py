"""Which market a symbol means where the user names none, and the parts of a market's name `exchange~base~quote`.

A symbol keeps its letters, and the way it is written chooses the exchange, so that two symbols are two markets:
BTCUSD is Coinbase~BTC~USD, BTC-USD is Kraken~BTC~USD, BTC/USD is Bitstamp~BTC~USD. The one exception says itself what
it means: in `Coinbase:BTC-USD` (cryptofeed's notation) the exchange is named.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from barwright.errors import BarwrightError

# A suffix that is also the end of a common base (BUSD in BNBUSD, TUSD in DOTUSD) is none.
QUOTES: Final = ("USDT", "USDC", "USD", "EUR", "GBP", "JPY", "CHF", "AUD", "CAD", "KRW", "BTC", "ETH", "BNB")
_EXCHANGES: Final = {"-": "Kraken", "/": "Bitstamp", ":": "Gemini", "_": "Poloniex"}
_SUFFIXED, _BARE = "Coinbase", "Bitfinex"
_is_part = re.compile(r"[A-Za-z0-9._:/@+=-]{1,64}").fullmatch
_is_symbol = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+=-]{0,63}").fullmatch
_named = re.compile(r"([A-Za-z0-9]+):([^-/:_]+)-([^-/:_]+)").fullmatch
_separated = re.compile(r"(.+)([-/:_])([^-/:_]+)").fullmatch


class Pair(NamedTuple):
    """What a market's name says."""

    exchange: str
    base: str
    quote: str

    def __str__(self) -> str:
        return "~".join(self)


def market_of(symbol: str) -> str:
    """The market that a symbol means by itself. BarwrightError where it is no symbol."""
    if not _is_symbol(symbol):
        raise BarwrightError(f"{symbol!r:.80} is no symbol.", "Letters, digits and ._:/@+=- make one, at most 64.")
    if match := _named(symbol):
        return str(Pair(*match.groups()))
    if match := _separated(symbol):
        base, separator, quote = match.groups()
        return str(Pair(_EXCHANGES[separator], base, quote))
    for quote in QUOTES:
        if symbol.upper().endswith(quote) and len(symbol) > len(quote):
            return str(Pair(_SUFFIXED, symbol[: -len(quote)], symbol[-len(quote) :]))
    return str(Pair(_BARE, symbol, "USD"))


def parse(market: str) -> Pair:
    """The parts of a market's name. BarwrightError where it is none."""
    parts = market.split("~")
    if len(parts) != 3 or not all(map(_is_part, parts)):
        raise BarwrightError(f"{market!r:.200} is no market.", "A market is exchange~base~quote, as Coinbase~BTC~USD.")
    return Pair(*parts)
