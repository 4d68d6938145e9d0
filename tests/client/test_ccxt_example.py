"""docs/examples/ccxt_barwright.py works as an exchange of ccxt."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.api.conftest import Api
from tests.sql.market import Market

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ccxt") is None, reason="ccxt, an optional extra, is not installed"
)
FILE = Path(__file__).parents[2] / "docs" / "examples" / "ccxt_barwright.py"


def test_candles_through_ccxt(api: Api, new: Callable[..., Market]) -> None:
    spec = importlib.util.spec_from_file_location("ccxt_barwright", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    market = new()
    market.insert(market.trade("03-01 00:00:01", "100.5", "2"), market.trade("03-01 00:03:02", "99.25", "3"))
    exchange = module.barwright({"urls": {"api": {"public": str(api.client.base_url).rstrip("/")}}})
    minutes, months = exchange.fetch_ohlcv(market.symbol), exchange.fetch_ohlcv(market.symbol, "1M", limit=1)
    first, month = (int(market.at(text).timestamp()) * 1000 for text in ("03-01 00:00", "03-01 00:00"))
    assert minutes == [[first, 100.5, 100.5, 100.5, 100.5, 2.0], [first + 180_000, 99.25, 99.25, 99.25, 99.25, 3.0]]
    assert months == [[month, 100.5, 100.5, 99.25, 99.25, 5.0]]
    assert exchange.fetch_ohlcv(market.symbol, "1m", since=first + 60_000, limit=5) == minutes[1:]
    assert exchange.market(market.symbol)["active"] is None
