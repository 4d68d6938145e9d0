"""The market that a symbol means."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from barwright.errors import BarwrightError
from barwright.markets import Pair, market_of, parse

SYMBOL = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:/@+=-]{0,63}", fullmatch=True)


@pytest.mark.parametrize(
    ("symbol", "market"),
    [
        ("BTCUSD", "Coinbase~BTC~USD"), ("ETHBTC", "Coinbase~ETH~BTC"), ("BTCUSDT", "Coinbase~BTC~USDT"),
        ("BNBUSD", "Coinbase~BNB~USD"), ("DOTUSD", "Coinbase~DOT~USD"), ("btcusd", "Coinbase~btc~usd"),
        ("BTC-USD", "Kraken~BTC~USD"), ("EUR/USD", "Bitstamp~EUR~USD"), ("new:one", "Gemini~new~one"),
        ("BINANCE:BTC-USDT", "BINANCE~BTC~USDT"), ("AAPL", "Bitfinex~AAPL~USD"), ("USD", "Bitfinex~USD~USD"),
        ("a:b/c", "Bitstamp~a:b~c"), ("BTC-", "Bitfinex~BTC-~USD"), ("A" * 64, f"Bitfinex~{'A' * 64}~USD"),
    ],
)  # fmt: skip
def test_a_symbol_means_a_market(symbol: str, market: str) -> None:
    assert market_of(symbol) == market


@given(SYMBOL, SYMBOL)
def test_two_symbols_are_two_markets(one: str, other: str) -> None:
    assume(one != other)
    assert market_of(one) != market_of(other)


@given(st.lists(st.sampled_from(["BTC", "USD", "ETH", "X", "-", "/", ":", "."]), min_size=1, max_size=5))
def test_a_markets_name_says_how_the_symbol_was_written(parts: list[str]) -> None:
    symbol = "".join(parts)
    assume(symbol[0] not in "-/:.")
    exchange, base, quote = parse(market_of(symbol))
    joined = {"Coinbase": base + quote, "Bitfinex": base, "Kraken": f"{base}-{quote}", "Bitstamp": f"{base}/{quote}",
              "Gemini": f"{base}:{quote}"}  # fmt: skip
    assert symbol in (joined.get(exchange), f"{exchange}:{base}-{quote}")


@pytest.mark.parametrize("market", ["", "BTC", "a~b", "a~b~", "a~~c", "a~b~c~d", "a~b c~d", "a~b~c\n"])
def test_what_is_no_market_is_said(market: str) -> None:
    with pytest.raises(BarwrightError, match="is no market") as raised:
        parse(market)
    assert "exchange~base~quote" in raised.value.hint


@pytest.mark.parametrize("symbol", ["", "-A", "A B", "A~B", "A" * 65, "A\n"])
def test_what_is_no_symbol_is_said(symbol: str) -> None:
    with pytest.raises(BarwrightError, match="is no symbol"):
        market_of(symbol)


def test_a_pair_is_written_as_it_was_read() -> None:
    assert str(parse("Coinbase~BTC~USD")) == "Coinbase~BTC~USD"
    assert parse("Coinbase~BTC~USD") == Pair("Coinbase", "BTC", "USD")
