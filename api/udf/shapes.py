"""What UDF says of symbols, in the words of its documentation."""

from collections.abc import Sequence
from typing import Any

from barwright.api.udf.directory import Digits, Listed
from barwright.api.udf.resolutions import INTRADAY, SUPPORTED

KIND = "crypto"  # the type of every symbol
SESSION, ZONE = "24x7", "Etc/UTC"


def config(exchanges: Sequence[str]) -> dict[str, Any]:
    """The configuration of the feed."""
    return {
        "supports_search": True, "supports_group_request": False, "supports_marks": False,
        "supports_timescale_marks": False, "supports_time": True, "supported_resolutions": SUPPORTED,
        "exchanges": [{"value": "", "name": "All exchanges", "desc": ""}, *(
            {"value": name, "name": name, "desc": name} for name in exchanges
        )],
        "symbols_types": [{"name": "All types", "value": ""}, {"name": "Crypto", "value": KIND}],
    }  # fmt: skip


def info(one: Listed, price: int, volume: int) -> dict[str, Any]:
    """One symbol whose prices and volumes have so many decimals."""
    return {
        "name": one.symbol, "ticker": one.symbol, "full_name": one.full_name, "description": one.description,
        "type": KIND, "session": SESSION, "timezone": ZONE,
        "exchange": one.exchange, "listed_exchange": one.exchange,
        "exchange-traded": one.exchange, "exchange-listed": one.exchange,  # what adapters before version 20 read
        "format": "price", "minmov": 1, "pricescale": 10**price, "minmove2": 0, "fractional": False, "pointvalue": 1,
        "has_intraday": True, "intraday_multipliers": INTRADAY, "has_seconds": False, "has_ticks": False,
        "has_daily": True, "daily_multipliers": ["1"],
        "has_weekly_and_monthly": True, "weekly_multipliers": ["1"], "monthly_multipliers": ["1"],
        "has_empty_bars": False, "has_no_volume": False, "visible_plots_set": "ohlcv",
        "supported_resolutions": SUPPORTED, "volume_precision": volume, "data_status": "streaming",
        **({"currency_code": one.quote, "original_currency_code": one.quote} if one.quote else {}),
    }  # fmt: skip


def found(one: Listed) -> dict[str, str]:
    """One symbol that a search found."""
    return {
        "symbol": one.symbol, "full_name": one.full_name, "description": one.description, "exchange": one.exchange,
        "ticker": one.symbol, "type": KIND,
    }  # fmt: skip


def group(listed: Sequence[Listed], digits: Sequence[Digits]) -> dict[str, Any]:
    """Many symbols as a table: a column is a list, or one value that all of them share."""
    exchanges = [one.exchange for one in listed]
    return {
        "symbol": [one.symbol for one in listed], "ticker": [one.symbol for one in listed],
        "description": [one.description for one in listed],
        "exchange-listed": exchanges, "exchange-traded": exchanges,
        "minmovement": 1, "minmovement2": 0, "fractional": False, "pricescale": [10**price for price, _ in digits],
        "type": KIND, "timezone": ZONE, "session-regular": SESSION,
        "has-intraday": True, "has-daily": True, "has-weekly-and-monthly": True, "has-empty-bars": False,
        "has-no-volume": False, "visible-plots-set": "ohlcv", "volume-precision": [volume for _, volume in digits],
        "intraday-multipliers": INTRADAY, "supported-resolutions": SUPPORTED,
    }  # fmt: skip
