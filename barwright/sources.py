"""What is known of every source without asking it: its names, its grace, and how it writes its markets.

The API and the command line check registrations by this page, the feed connects by it.
"""

from __future__ import annotations

import re
from datetime import timedelta
from difflib import get_close_matches
from typing import Final

from barwright import markets
from barwright.errors import BarwrightError

NAMES: Final = ("simulator", "cryptocompare", "ccxt:<exchange>", "kafka")
# How long a closed minute may still be unfinished at its source.
_GRACES: Final = {"simulator": 10, "cryptocompare": 60, "ccxt": 60, "kafka": 10}
_is_exchange = re.compile(r"[a-z][a-z0-9_]{1,30}", re.ASCII).fullmatch
_is_unified = re.compile(r"[^\s/:]+/[^\s/:]+(:[^\s/]+)?", re.ASCII).fullmatch
_EXAMPLES: Final = {"simulator": "Coinbase~BTC~USD", "cryptocompare": "Coinbase~BTC~USD", "ccxt": "BTC/USDT"}


def check(name: str) -> str:
    """The name, where it is a source's. BarwrightError lists them."""
    kind, _, exchange = name.partition(":")
    if _is_exchange(exchange) if kind == "ccxt" else name in _GRACES:
        return name
    near = get_close_matches(name.lower(), NAMES, 1, 0.6)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise BarwrightError(f"There is no source {name!r:.80}.", f"{hint}Sources: {', '.join(NAMES)}.")


def kind_of(name: str) -> str:
    """The family of a source: ccxt for every exchange of it."""
    return name.partition(":")[0]


def grace_of(name: str) -> timedelta:
    """How long a closed minute may still be unfinished there."""
    return timedelta(seconds=_GRACES[kind_of(check(name))])


def market_of(name: str, symbol: str) -> str | None:
    """The market a symbol means at a source where the user names none; None at kafka, which knows only symbols."""
    if kind_of(name) == "kafka":
        return None
    market = markets.market_of(symbol)
    if kind_of(name) == "ccxt":
        return "/".join(markets.parse(market)[1:])
    return market


def pair_of(name: str, market: str) -> tuple[str, str]:
    """Base and quote of a market in the source's notation. BarwrightError with an example where it is malformed."""
    kind = kind_of(name)
    if kind == "ccxt":
        if not _is_unified(market):
            raise _malformed(name, market)
        base, _, quote = market.partition(":")[0].partition("/")
        return base, quote
    try:
        return markets.parse(market)[1:]
    except BarwrightError as error:
        raise _malformed(name, market) from error


def same_notation(one: str, other: str) -> bool:
    """Whether two sources write a market the same way."""
    return _EXAMPLES.get(kind_of(one)) == _EXAMPLES.get(kind_of(other))


def _malformed(name: str, market: str) -> BarwrightError:
    example = _EXAMPLES[kind_of(name)]
    return BarwrightError(f"{market!r:.80} is no market of {name}.", f"There a market is written as {example}.")
