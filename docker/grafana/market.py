"""What the market does, and how complete we know it: read from the views, by the role that may read nothing else."""

import re
from pathlib import Path
from typing import Any

from panels import SQL, Panel, Row, dashboard, list_variable, query_variable

LEVELS = ["1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w", "1mo"]
BLOCKS = re.findall(r"^-- (\w+): (.*)\n((?:(?!^-- \w+: ).*\n?)*)", Path(__file__).with_suffix(".sql").read_text(), re.M)
QUERIES = {name: (help, query.strip().removesuffix(";")) for name, help, query in BLOCKS}
NOW = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "/.*/", "values": False}, "colorMode": "value"}
CANDLES = {
    "mode": "candles+volume", "includeAllFields": True, "candleStyle": "candles", "colorStrategy": "open-close",
    "legend": {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []},
}  # fmt: skip
BARS = {"drawStyle": "bars", "fillOpacity": 70, "lineWidth": 0}
STACK = {**BARS, "stacking": {"mode": "normal", "group": "A"}}
COLOURS = {"complete": "green", "missing": "red", "unknown": "text"}
STATES = [{"type": "value", "options": {
    state: {"color": colour, "index": place} for place, (state, colour) in enumerate(COLOURS.items())
}}]  # fmt: skip


def asked(title: str, kind: str, name: str, **given: Any) -> Panel:
    """A panel of one of the queries."""
    help, query = QUERIES[name]
    return Panel(title, kind, [(query, "")], help, language=SQL, **given)


def number(title: str, name: str, **given: Any) -> Panel:
    """One figure of now."""
    return asked(title, "stat", name, width=4, height=4, shape="table", options=NOW, **given)


ROWS = [
    Row("Now", [
        number("Price", "price"),
        number("Change in 24 hours", "change", unit="percentunit", decimals=2, steps=[(None, "red"), (0, "green")]),
        number("Volume in 24 hours", "volume"),
        number("Trades in 24 hours", "trades"),
        number("Missing", "missing", unit="s", steps=[(None, "green"), (1, "orange"), (600, "red")]),
        number("Behind", "behind", unit="s", steps=[(None, "green"), (180, "orange")]),
    ]),
    Row("Bars", [
        asked("${symbol} ${interval}", "candlestick", "candles", width=24, height=14, options=CANDLES),
    ]),
    Row("Flow", [
        asked("Bought and sold", "timeseries", "sides", width=12, custom=STACK),
        asked("Volume", "timeseries", "volumes", width=12, custom=BARS),
        asked("Close against VWAP", "timeseries", "distance", width=12, unit="percentunit"),
        asked("All symbols", "table", "newest", width=12, shape="table"),
    ]),
    Row("Completeness", [
        asked("What is complete", "state-timeline", "complete", width=16, height=5, mappings=STATES,
              custom={"fillOpacity": 70, "lineWidth": 0}, options={"showValue": "never", "mergeValues": True}),
        asked("Sources", "table", "sources", width=8, height=5, shape="table"),
    ]),
]  # fmt: skip

MARKET = dashboard(
    "barwright-market", "Market", "One symbol's bars, live, and how complete they are.", ROWS,
    [query_variable("symbol", "Symbol", "select symbol from symbols order by symbol"),
     list_variable("interval", "Interval", LEVELS, "1m")], "now-6h",
)  # fmt: skip
