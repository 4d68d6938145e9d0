"""A market is a function of (seed, market, minute): the same for all who compute it, in whatever pieces."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barwright import markets
from barwright.simulator import bars as adding
from barwright.simulator.bars import Bars, bars
from barwright.simulator.buckets import INTERVALS, ceil, start_of
from barwright.simulator.exchange import Exchange
from barwright.simulator.market import Market
from barwright.simulator.trades import Trade, trades
from tests import oracle

NOW = 29_500_000  # minutes since 1970
BITCOIN, STRANGE = "Coinbase~BTC~USD", "Gemini~new~one"
MINUTES = st.integers(NOW - 500_000, NOW + 500_000)


def market(name: str = BITCOIN, rate: float = 8.0, seed: int = 1) -> Market:
    """A market."""
    return Exchange(seed, rate).market(name)


def whole(pieces: Iterable[Bars]) -> list[tuple[Any, ...]]:
    """Bars as rows."""
    return [row for piece in pieces for row in zip(*(column.tolist() for column in piece), strict=True)]


def seq(trade: Trade) -> int:
    """The order that Barwright gives a trade of this vendor."""
    return trade.second * 10**9 + trade.fraction // 1000 * 1000 + trade.number % 1000


def tick(of: Market, trade: Trade) -> dict[str, Any]:
    """A trade as the oracle takes it."""
    micro = trade.fraction // 1000
    return {
        "symbol": "X", "ts": datetime.fromtimestamp(trade.second, UTC).replace(microsecond=micro), "seq": seq(trade),
        "price": Decimal(trade.price).scaleb(-of.price_places), "size": Decimal(trade.size).scaleb(-of.size_places),
        "side": "b" if trade.bought else "s",
    }  # fmt: skip


def compare(of: Market, start: int, end: int, interval: str) -> int:
    """Bars against the single trades added up in plain Python; returns how many."""
    end = ceil(end, interval)
    ticks = [tick(of, trade) for trade in trades(of, start_of(start, interval), end)]
    random.Random(5).shuffle(ticks)
    expected = oracle.bars(ticks, interval)
    found = whole(bars(of, start_of(start, interval), end, interval))
    assert len(found) == len(expected)
    for (bucket, *prices, volume, quote, count, buy), bar in zip(found, expected, strict=True):
        assert bucket * 60 == bar["bucket"].timestamp()
        assert [Decimal(units).scaleb(-of.price_places) for units in prices] == [
            bar[name] for name in ("open", "high", "low", "close")
        ]
        assert Decimal(volume).scaleb(-of.size_places) == bar["volume"]
        assert Decimal(quote).scaleb(-of.price_places - of.size_places) == bar["quote_volume"]
        assert (count, Decimal(buy).scaleb(-of.size_places)) == (bar["trades"], bar["buy_volume"])
    return len(found)


@pytest.mark.parametrize("interval", INTERVALS)
def test_bars_of_every_interval_are_the_trades_added_up(interval: str) -> None:
    assert compare(market(STRANGE, 0.03), NOW, NOW + 45 * 1440, interval) >= 2


@pytest.mark.parametrize("rate", [0.5, 200.0])
def test_bars_of_busy_minutes_are_the_trades_added_up(rate: float) -> None:
    assert compare(market(BITCOIN, rate), NOW, NOW + 5, "1m") == 5
    assert compare(market("Kraken~ADA~EUR", rate), NOW, NOW + 5, "5m") == 1


def test_a_month_of_the_busiest_market_does_not_overflow() -> None:
    busy = market("Coinbase~XRP~USD", 1000.0)
    days = whole(bars(busy, start_of(NOW, "1mo"), start_of(NOW, "1mo") + 31 * 1440, "1d"))
    (month,) = whole(bars(busy, start_of(NOW, "1mo"), start_of(NOW, "1mo") + 1, "1mo"))
    inside = [row for row in days if start_of(row[0], "1mo") == month[0]]
    for column in (5, 6, 7, 8):
        assert month[column] == sum(row[column] for row in inside)
    assert month[6] > 2**63
    assert all(len(trade) == 7 and trade.size > 0 for trade in trades(busy, NOW, NOW + 1))


def test_the_market_never_changes() -> None:
    """The same trades on every machine and with every version: a changed market would be another truth."""
    found = [list(trades(market(name), NOW, NOW + 30)) for name in (BITCOIN, STRANGE)]
    digest = hashlib.sha256(repr([[tuple(trade) for trade in one] for one in found]).encode()).hexdigest()
    assert digest == "d4fdd1c8c44f3a299a6e1be7f3107a4ba6e857cc86a3871e8664f72df548aaf8"


PROGRAM = """
import sys
from barwright.simulator.bars import bars
from barwright.simulator.exchange import Exchange
market = Exchange(7, 8.0).market(sys.argv[1])
print([column.tolist() for piece in bars(market, 29_500_000, 29_500_200) for column in piece])
"""


def test_every_process_computes_the_same_market() -> None:
    environment = os.environ | {"PYTHONHASHSEED": "4242"}
    command = [sys.executable, "-c", PROGRAM, STRANGE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    here = [column.tolist() for piece in bars(market(STRANGE, seed=7), NOW, NOW + 200) for column in piece]
    assert done.stdout.strip() == str(here), done.stderr


@settings(deadline=None, max_examples=30)
@given(MINUTES, st.lists(st.integers(0, 5000), max_size=4), st.sampled_from([BITCOIN, STRANGE]))
def test_pieces_joined_are_the_whole(start: int, cuts: list[int], name: str) -> None:
    edges = sorted({0, 5000, *cuts})
    one = market(name, 0.3)
    pieces = [row for lo, hi in pairwise(edges) for row in whole(bars(one, start + lo, start + hi))]
    assert pieces == whole(bars(one, start, start + 5000))


@settings(deadline=None, max_examples=30)
@given(MINUTES, st.integers(0, 10 * 60_000))
def test_what_has_happened_so_far_is_the_trades_before(start: int, passed: int) -> None:
    one, now = market(rate=0.5), start * 60_000 + passed
    so_far = [trade for trade in trades(one, start, start + 10) if trade.ms < now]
    found = whole(bars(one, start, start + 10, "1m", until=now))
    assert sum(row[7] for row in found) == len(so_far)
    assert sum(row[5] for row in found) == sum(trade.size for trade in so_far)


@settings(deadline=None, max_examples=30)
@given(MINUTES, st.sampled_from([0.01, 1.0, 30.0, 300.0]), st.sampled_from([BITCOIN, STRANGE, "Kraken~BTC~EUR"]))
def test_trades_are_numbered_without_holes_in_order_of_time(start: int, rate: float, name: str) -> None:
    one = market(name, rate)
    found = list(trades(one, start, start + 3))
    first, after = one.before(np.array([start, start + 3])).tolist()
    assert [trade.number for trade in found] == list(range(first, after))
    assert all(start * 60_000 <= trade.ms < (start + 3) * 60_000 and 0 <= trade.ns < 10**6 for trade in found)
    order = [seq(trade) for trade in found]
    assert order == sorted(set(order))
    for earlier, later in pairwise(found):
        same = (earlier.ms, earlier.ns // 1000) == (later.ms, later.ns // 1000)
        assert not same or earlier.number // 1000 == later.number // 1000


def test_numbers_go_on_over_months_and_begin_with_one() -> None:
    one = Exchange(1, 0.01, {BITCOIN: NOW - 700_000}).market(BITCOIN)
    first = next(iter(trades(one, one.listed, one.listed + 100_000)))
    assert first.number == 1
    counts = [row[7] for row in whole(bars(one, start_of(one.listed, "1mo"), NOW, "1mo"))]
    assert sum(counts[:-1]) + 1 == int(one.before(np.array([start_of(NOW - 1, "1mo")]))[0])


def test_ties_are_normal_and_minutes_differ() -> None:
    found = list(trades(market(), NOW, NOW + 60))
    ties = sum(a.ms == b.ms for a, b in pairwise(found))
    assert 0.3 < ties / len(found) < 0.98
    counts = [row[7] for row in whole(bars(market(), NOW, NOW + 600))]
    assert len(set(counts)) > 200
    assert 0.4 < sum(counts) / (600 * 480) < 1.6


def test_some_markets_have_minutes_and_hours_without_a_trade() -> None:
    quiet = market("Bitfinex~AAPL~USD", 0.05)
    spans = [name for name in ("a", "b", "c", "d", "e", "f", "g", "h") if _hours(f"Gemini~{name}~x") < 24 * 14]
    assert spans
    assert len(whole(bars(quiet, NOW, NOW + 1440))) < 1440


def _hours(name: str) -> int:
    return len(whole(bars(market(name), NOW, NOW + 24 * 14 * 60, "1h")))


@pytest.mark.parametrize("name", [BITCOIN, STRANGE, "Coinbase~DOGE~BTC", "Bitfinex~zz9~USD"])
def test_prices_are_continuous_and_travel(name: str) -> None:
    rows = whole(bars(market(name), start_of(NOW, "1d"), start_of(NOW, "1d") + 60 * 1440, "1h"))
    closes = [row[4] for row in rows]
    assert 1.05 < max(closes) / min(closes) < 4
    assert all(0.9 < b[1] / a[4] < 1.1 for a, b in pairwise(rows))
    assert min(closes) > 10_000  # at least four digits, so that prices differ
    assert market(name).price_places + market(name).size_places <= 18


def test_other_seeds_and_markets_are_other_markets() -> None:
    rows = [whole(bars(market(*pair), NOW, NOW + 5)) for pair in ((BITCOIN, 8.0, 1), (BITCOIN, 8.0, 2))]
    rows += [whole(bars(market(name), NOW, NOW + 5)) for name in ("Kraken~BTC~USD", "Coinbase~ETH~USD")]
    assert len({str(one) for one in rows}) == 4


def test_nothing_is_traded_before_the_listing() -> None:
    listed = Exchange(1, 8.0, {BITCOIN: NOW + 90}).market(BITCOIN)
    assert next(iter(trades(listed, NOW, NOW + 200))).ms // 60_000 >= NOW + 90
    rows = whole(bars(listed, NOW, NOW + 200))
    assert (rows[0][0], len(rows)) == (NOW + 90, 110)
    assert market().listed == int(datetime(2017, 1, 1, tzinfo=UTC).timestamp()) // 60
    assert market(STRANGE).listed != market().listed


def test_a_revision_changes_its_minutes_only_and_for_good() -> None:
    exchange = Exchange(1, 0.1)
    before = whole(bars(exchange.market(BITCOIN), NOW, NOW + 300))
    exchange.revise(BITCOIN, NOW + 100, NOW + 200, 0.5)
    revised = whole(bars(exchange.market(BITCOIN), NOW, NOW + 300))
    old, new = ({row[0]: row for row in rows} for rows in (before, revised))
    changed = {minute for minute in range(NOW, NOW + 300) if old.get(minute) != new.get(minute)}
    assert changed <= set(range(NOW + 100, NOW + 200))
    assert 25 < len(changed) < 75
    assert set(old) - set(new)  # trades of whole minutes have gone …
    assert set(new) - set(old)  # … and appeared
    live = list(trades(exchange.market(BITCOIN), NOW, NOW + 300, revised=False))
    assert live == list(trades(Exchange(1, 0.1).market(BITCOIN), NOW, NOW + 300))
    assert compare(exchange.market(BITCOIN), NOW, NOW + 300, "1m") == len(revised)
    again = Exchange.from_dict(exchange.to_dict())
    assert whole(bars(again.market(BITCOIN), NOW, NOW + 300)) == revised


def test_slots_of_any_width_are_minutes_added_up() -> None:
    rows = whole(adding.grouped(market(), NOW // 7 * 7, NOW // 7 * 7 + 70, 7, 2**60))
    minutes = whole(bars(market(), NOW // 7 * 7, NOW // 7 * 7 + 70))
    assert [row[5] for row in rows] == [sum(one[5] for one in minutes[at : at + 7]) for at in range(0, 70, 7)]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:/@+=-]{0,63}", fullmatch=True), min_size=1, max_size=20))
def test_every_symbol_has_a_market_that_works(symbols: list[str]) -> None:
    for symbol in symbols:
        pair = markets.parse(markets.market_of(symbol))
        one = Market(1, pair, 1.0, None, ())
        assert all(trade.price > 0 for trade in trades(one, NOW, NOW + 1))
