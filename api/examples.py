"""An example of everything that is answered, what its fields mean, and which may be null."""

from typing import Any

from barwright.api.intervals import LEVELS

_NUMBERS = {"open": 8500.12, "high": 8501, "low": 8499.5, "close": 8500.5, "volume": 12.5, "quote_volume": 106253.125,
            "vwap": 8500.25, "trades": 77, "buy_volume": 7.25}  # fmt: skip
BAR: dict[str, Any] = {"bucket": "2019-10-11T00:00:00Z", **_NUMBERS, "imported": False, "closed": True}
MEANINGS = {
    "bucket": "start of the bucket", "volume": "base quantity", "quote_volume": "sum of price times size",
    "vwap": "quote_volume / volume, rounded half up to 12 places; null at volume 0", "trades": "number of trades",
    "buy_volume": "base quantity where the taker bought", "imported": "whether a vendor's bar is part of it",
    "closed": "rolled up: it changes no more, but for repairs", "symbol": "its symbol",
    "complete": "true: all of it is there; false: something is missing or awaits repair; null: nobody vouches for all",
    "finest": "the finest interval in which all of the span is proved", "more_gaps": "how many are not listed",
    "more_backfills": "how many are not listed",
    "minutes_since": "its source has minutes from here on; null: not known", "hours_since": "and hours from here on",
    "stopped": "followed no more; its data stay",
    "covered": "what is proved in this interval or a finer one", "share": "how much of the history is there, 0 to 1",
}  # fmt: skip
COVERAGE: dict[str, Any] = {
    "complete": False, "finest": None, "gaps": [["2019-10-11T00:01:00Z", "2019-10-11T00:05:00Z"]], "more_gaps": 0,
    "backfills": [{"id": 12, "from": "2019-10-11T00:01:00Z", "to": "2019-10-11T00:05:00Z", "status": "fetching",
                   "attempt": 1, "error": None}], "more_backfills": 0,
}  # fmt: skip
SYMBOL = {"symbol": "BTCUSD", "source": "simulator", "market": "Coinbase~BTC~USD", "base": "BTC", "quote": "USD",
          "history_start": "2019-10-11T00:00:00Z", "history_source": "simulator", "live": True, "stopped": False,
          "registered_at": "2026-11-24T00:00:00Z", "minutes_since": "2026-10-25T00:00:00Z", "hours_since": None,
          "newest": "2026-11-24T12:00:00Z"}  # fmt: skip
_COVERED = {"from": "2026-10-25T00:00:00Z", "to": "2026-11-24T12:00:03.2Z", "seconds": 2635203}
WHOLE_SYMBOL = SYMBOL | {
    "covered": {"1m": _COVERED, "1h": _COVERED, "1d": {**_COVERED, "from": "2019-10-11T00:00:00Z"}},
    "gaps": 0, "complete": True, "finest": "1d",
}  # fmt: skip
REGISTRATION = {"source": "simulator", "market": "Coinbase~BTC~USD", "base": "BTC", "quote": "USD",
                "start": "2019-10-11T00:00:00Z", "history_source": "simulator"}  # fmt: skip
GAP = {"symbol": "BTCUSD", "from": "2019-10-11T00:01:00Z", "to": "2019-10-11T00:05:00Z"}
TASK = {"id": 12, "symbol": "BTCUSD", "source": "simulator", "interval": "1m", "from": "2019-10-11T00:00:00Z",
        "to": "2019-10-12T00:00:00Z", "reason": "gap", "status": "published", "attempt": 1, "rows": 1440, "error": None,
        "filed_at": "2026-11-24T12:00:00Z", "started_at": "2026-11-24T12:00:01Z",
        "published_at": "2026-11-24T12:00:02Z", "landed_at": None}  # fmt: skip
PROGRESS = {"symbol": "BTCUSD", "share": 0.75, "seconds_wanted": 34560000, "seconds_missing": 8640000,
            "tasks_open": 64, "tasks_landed": 192, "bars_imported": 276480, "error": None}  # fmt: skip
ERROR = {"code": "bad_parameter", "message": "There is no interval '2x'.", "hint": "",
         "details": {"parameter": "interval", "value": "2x", "allowed": list(LEVELS)}}  # fmt: skip
NULLABLE = frozenset(("quote_volume", "vwap", "trades", "buy_volume", "source", "market", "base", "quote",
                       "history_start", "newest", "next_cursor", "timescaledb", "complete", "finest", "error",
                       "history_source", "minutes_since", "hours_since", "1m", "1h", "1d", "share", "started_at",
                       "published_at", "landed_at", "at", "replica", "lag", "against"))  # fmt: skip
MAPS = frozenset(("by_status", "levels"))  # whose keys are data
# What `numbers`, `time` and `fill` make of a bar's fields.
EITHER = {"bucket": ("string", "integer"), **dict.fromkeys(_NUMBERS, ("number", "string", "null")),
          **dict.fromkeys(("imported", "closed"), ("boolean",))}  # fmt: skip
