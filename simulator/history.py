"""The answers of /data/v2/histominute, histohour and histoday."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from barwright.errors import BarwrightError
from barwright.settings import Settings
from barwright.simulator.digits import plain
from barwright.simulator.exchange import Exchange

UNITS: Final = {"histominute": (1, 1440), "histohour": (60, 168), "histoday": (1440, 30)}  # minutes, usual limit
_MOST: Final = 2000
_ROW: Final = (
    '{"time":%d,"high":%s,"low":%s,"open":%s,"volumefrom":%s,"volumeto":%s,"close":%s,'
    '"conversionType":"direct","conversionSymbol":""}'
)
_BACK: Final = (64, 1024, 16_384)  # minutes looked at together for the trade before a time
Row = tuple[int, str, str, str, str, str, str]


class ParameterError(Exception):
    """What is wrong with a parameter, and which."""

    def __init__(self, message: str, parameter: str) -> None:
        super().__init__(message)
        self.parameter = parameter

    def body(self) -> str:
        """As the vendor says it, with HTTP status 200."""
        return error(2, str(self), ParamWithError=self.parameter)


class Question(NamedTuple):
    """What is asked: the market, minutes of a row, rows before the last, the start of the last, both in minutes."""

    market: str
    width: int
    rows: int
    last: int
    aggregated: bool


def error(kind: int, message: str, limits: Any = None, **more: Any) -> str:
    """The body of an error."""
    head = {"Response": "Error", "Message": message, "HasWarning": False, "Type": kind}
    return json.dumps(head | {"RateLimit": limits or {}, "Data": {}} | more, separators=(",", ":"))


def question(path: str, given: Mapping[str, str], now: int) -> Question:
    """The question in a request's parameters at a time in seconds. Raises ParameterError."""
    unit, usual = UNITS[path]
    for name in ("fsym", "tsym"):
        if not given.get(name):
            raise ParameterError(f"{name} is a required param.", name)
    each = min(_number(given, "aggregate", 1, 1), _MOST)
    limit = min(_number(given, "limit", usual, 1), _MOST // each)
    last = min(_number(given, "toTs", now, 0), now) // 60 // (unit * each) * unit * each
    if path == "histoday" and given.get("allData") == "true":
        limit = last // (unit * each)
    market = "~".join((given.get("e") or "CCCAGG", given["fsym"], given["tsym"]))
    return Question(market, unit * each, limit, last, each > 1)


def answer(exchange: Exchange, settings: Settings, path: str, asked: Question, now: float) -> str:
    """The body for a question. Raises ParameterError where there is no such market or history."""
    rows = _rows(exchange, asked, int(now * 1000))
    days = {"histominute": settings.simulator_minute_days, "histohour": settings.simulator_hour_days}.get(path)
    if days:
        rows = _reach(rows, int(now - days * 86_400), settings.simulator_beyond, f"{path} reaches back {days:g} days.")
    body = ",".join(_ROW % row for row in rows)
    start, end = (rows[0][0], rows[-1][0]) if rows else (0, 0)
    return (
        '{"Response":"Success","Message":"","HasWarning":false,"Type":100,"RateLimit":{},"Data":{"Aggregated":'
        f'{"true" if asked.aggregated else "false"},"TimeFrom":{start},"TimeTo":{end},"Data":[{body}]}}}}'
    )


def _number(given: Mapping[str, str], name: str, usual: int, least: int) -> int:
    text = given.get(name, "")
    if not text:
        return usual
    if not (text.isascii() and text.isdigit()):
        raise ParameterError(f"{name} param is not an integer", name)
    if int(text) < least:
        raise ParameterError(f"{name} is smaller than min value.", name)
    return int(text)


def _reach(rows: list[Row], since: int, beyond: str, message: str) -> list[Row]:
    """What is answered for rows that begin before `since` (seconds), where history does not reach."""
    if beyond == "error" and rows and rows[-1][0] < since:
        raise ParameterError(message, "toTs")
    if beyond == "zero":
        return [row if row[0] >= since else _zero(row[0]) for row in rows]
    return [row for row in rows if row[0] >= since]


def _rows(exchange: Exchange, asked: Question, now: int) -> list[Row]:
    """A row for each slot: of its trades before `now` (ms), of the close before where it has none, else of zeros."""
    from barwright.simulator import bars

    try:
        market = exchange.market(asked.market)
    except BarwrightError as wrong:
        raise ParameterError(
            "{} market does not exist for this coin pair ({}-{})".format(*asked.market.split("~", 2)), "e"
        ) from wrong
    first = asked.last - asked.rows * asked.width
    places, sizes = market.price_places, market.size_places
    found: dict[int, Row] = {}
    for piece in bars.grouped(market, first, asked.last + asked.width, asked.width, now):
        for slot, *prices, volume, quote, _, _ in zip(*(column.tolist() for column in piece), strict=True):
            open_, high, low, close = (plain(price, places) for price in prices)
            found[slot] = (slot * 60, high, low, open_, plain(volume, sizes), plain(quote, places + sizes), close)
    before = _close_before(market, first)
    rows = []
    for slot in range(first, asked.last + 1, asked.width):
        row = found.get(slot) or (slot * 60, before, before, before, "0", "0", before)
        before = row[6]
        rows.append(row)
    return rows


def _close_before(market: Any, minute: int) -> str:
    """The price of the last trade before a minute, `0` where there is none."""
    back = list(_BACK)
    while minute > market.listed:
        start = max(minute - back[0], market.listed)
        prices = market.orders(start, minute).price
        if len(prices):
            return plain(int(prices[-1]), market.price_places)
        minute, back = start, back[1:] or back
    return "0"


def _zero(time: int) -> Row:
    return time, "0", "0", "0", "0", "0", "0"
