"""Random requests over all parameters of `/v1/bars` equal the oracle, while ticks, late ticks and imports arrive."""

import csv
import io
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from barwright import sql
from barwright.sql.engine import engine_of
from tests import oracle
from tests import oracle_calendar as calendar
from tests.api.conftest import Api, serving
from tests.api.truth import FIELDS, text
from tests.services import Server
from tests.sql.market import Market

SETTLES = 0.7  # seconds after which a change is in every answer
DAY = timedelta(days=1)
LEVELS = ["1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w", "1mo"]
Kind = tuple[str, str | None, str | None]  # interval, tz, session
KINDS: list[Kind] = [
    *((name, None, None) for name in (*LEVELS, "3m", "7m", "10m", "45m", "90m", "2h", "7h", "36h", "3d", "2w", "2mo")),
    ("1h", "America/New_York", None), ("4h", "Europe/London", None), ("1d", "America/New_York", None),
    ("2h", "Australia/Lord_Howe", None), ("1d", "Asia/Kathmandu", None), ("1w", "Asia/Kolkata", None),
    ("1mo", "Europe/London", None), ("5h", "America/New_York", None), ("1h", "UTC", None), ("1h", "Asia/Tokyo", None),
    ("1h", "America/New_York", "09:30-16:00"), ("7m", "Europe/London", "00:10-03:05"), ("1d", None, "09:30-16:00"),
    ("30m", "Australia/Lord_Howe", "22:00-06:00"), ("1d", "America/New_York", "18:00-17:00"),
    ("15m", None, "12:00-24:00"), ("1w", "Asia/Kolkata", "09:15-15:30"), ("1mo", "America/New_York", "18:00-17:00"),
    ("5m", "Asia/Tokyo", "09:00-15:00"),
]  # fmt: skip


class World:
    """A market of three symbols in the weeks in which clocks are put forward, and what a request must bring."""

    def __init__(self, connection: psycopg.Connection[Any], seed: int) -> None:
        self.dice = random.Random(seed)
        self.market = Market(connection, f"D{seed}A", era=count(2016, 2))
        self.symbols = [f"D{seed}{letter}" for letter in "ABC"]
        self.lo, self.hi = self.market.at("03-10 00:00"), self.market.at("04-06 00:00")
        self.first = _minute(self.lo) - 3 * 1440  # minute that is looked at
        for symbol in self.symbols:
            connection.execute("insert into symbols (symbol) values (%s)", (symbol,))
        connection.execute("select prepare_ticks(array(select generate_series(%s, %s, interval '1 day')))",
                           (self.lo - DAY, self.hi + DAY))  # fmt: skip
        self.labels: dict[Kind, list[int | None]] = {}
        self.ends: dict[Kind, dict[int, int]] = {}  # where a bucket ends
        self.bars: dict[Any, dict[int, dict[str, Any]]] = {}
        self.at = self.lo + timedelta(days=2)

    def land(self) -> float:
        """Some ticks; now and then late ones, imports, a seal or a repair. When it was done."""
        dice, market = self.dice, self.market
        rows = []
        step = timedelta(minutes=dice.choice([1, 30, 300, 1500]))
        for _ in range(dice.randrange(1, 25)):
            ts = self.at + step * dice.random()
            side = dice.choice(["b", "s", "b", "s", None]) if dice.random() < 0.1 else dice.choice("bs")
            rows.append(market.trade(ts, f"{dice.randrange(10_000, 20_000)}e-2", f"{dice.randrange(1, 900)}e-3",
                                     side, symbol=dice.choice(self.symbols)))  # fmt: skip
        self.at = min(self.at + step, self.hi - DAY)
        late = dice.random() < 0.3
        for _ in range(dice.randrange(1, 5) if late else 0):
            ts = self.lo + (self.at - self.lo) * dice.random()
            symbol = dice.choice(self.symbols)
            if dice.random() < 0.5:
                rows.append(market.trade(ts, str(dice.randrange(100, 200)), "1", symbol=symbol))
            else:
                prices = sorted(dice.randrange(100, 200) for _ in range(4))
                bar = market.bar(
                    ts.replace(second=0, microsecond=0),
                    f"{prices[1]} {prices[3]} {prices[0]} {prices[2]}",
                    str(dice.randrange(0, 9)),
                    dice.choice([None, "500"]),
                    dice.choice([None, 3]),
                )
                rows.append({**bar, "symbol": symbol})
        with market.connection.transaction():
            market.connection.execute("select hold_seal()")
            market.insert(*rows)
        if dice.random() < 0.4:
            market.seal(self.at - timedelta(minutes=dice.choice([0, 2, 90, 3000])))
        if late or dice.random() < 0.2:
            market.repair()
        self.bars.clear()
        return time.monotonic()

    def of(self, symbol: str, kind: Kind) -> dict[int, dict[str, Any]]:
        """Every bar of a symbol by its bucket."""
        key = symbol, kind
        if key not in self.bars:
            minutes = self.bars.setdefault((symbol, "1m"), {
                _minute(bar["bucket"]): bar
                for bar in oracle.bars((t for t in self.market.ticks.values() if t["symbol"] == symbol), "1m")
            })  # fmt: skip
            groups: dict[int, list[dict[str, Any]]] = {}
            labels = self._labels(kind)
            for minute in sorted(minutes):
                label = labels[minute - self.first]
                if label is not None:
                    groups.setdefault(label, []).append(minutes[minute])
            made = {label: oracle.combine(group) for label, group in groups.items()}
            self.bars[key] = {n: {**b, "vwap": oracle.vwap(b["quote_volume"], b["volume"])} for n, b in made.items()}
        return self.bars[key]

    def _labels(self, kind: Kind) -> list[int | None]:
        if kind not in self.labels:
            # As far as any bucket goes that a bar of ours is in.
            until = _minute(self.hi) + (70 if kind[0].endswith("mo") else 15) * 1440
            self.labels[kind] = calendar.labels(*kind, self.first, until)
            ends = {label: self.first + n + 1 for n, label in enumerate(self.labels[kind]) if label is not None}
            self.ends[kind] = ends
        return self.labels[kind]

    def watermark(self, kind: Kind) -> int:
        """The minute before which what a bucket holds must end for it to be closed."""
        query = "select watermark from level where name = %s"
        [mark] = self.market.connection.execute(query, (calendar.level(*kind),)).fetchall()[0]
        return _minute(mark)

    def request(self) -> tuple[dict[str, Any], Kind]:
        """Random parameters."""
        dice, kind = self.dice, self.dice.choice(KINDS)
        lo, hi = sorted(self.lo + (self.hi - self.lo) * dice.random() for _ in range(2))
        if dice.random() < 0.3:
            hi = min(self.hi, lo + timedelta(hours=dice.randrange(1, 60)))
        params: dict[str, Any] = {
            "symbol": ",".join(dice.sample(self.symbols, dice.choice([1, 1, 1, 2, 3]))), "interval": kind[0],
            "limit": dice.choice([1, 3, 10, 50, 300]), "order": dice.choice(["asc", "desc"]),
            "start": _written(lo, dice), "end": _written(hi, dice),
        }  # fmt: skip
        params |= {name: value for name, value in (("tz", kind[1]), ("session", kind[2])) if value}
        for name, values in (
            ("fill", ["none", "previous", "null"]),
            ("numbers", ["number", "string"]),
            ("time", ["iso", "s", "ms"]),
            ("format", ["json", "json", "columns", "csv"]),
        ):
            if dice.random() < 0.5:
                params[name] = dice.choice(values)
        if dice.random() < 0.3:
            del params["start"]
        if dice.random() < 0.2 and params.get("fill", "none") == "none":
            del params["end"]
        if dice.random() < 0.1 and params["symbol"].count(",") == 0 and params.get("format") == "csv":
            del params["limit"]
        return params, kind

    def wanted(self, params: dict[str, Any], kind: Kind) -> list[list[dict[str, Any]]]:
        """All bars of the span for each symbol, in the order of the answer, counted from where the answer begins."""
        return [self._wanted(symbol, params, kind) for symbol in params["symbol"].split(",")]

    def _wanted(self, symbol: str, params: dict[str, Any], kind: Kind) -> list[dict[str, Any]]:
        bars = self.of(symbol, kind)
        lo = _read(params["start"]) if "start" in params else None
        hi = _read(params["end"]) if "end" in params else _minute(self.hi) + 10**7
        inside = [label for label in sorted(bars) if (lo is None or label >= lo) and label < hi]
        fill = params.get("fill", "none")
        if fill != "none":
            known = sorted(self.ends[kind])
            earlier = [label for label in sorted(bars) if lo is not None and label < lo]
            starts = lo is not None and (fill == "null" or bool(earlier))
            begin = lo if lo is not None and starts else inside[0] if inside else hi
            inside = [label for label in known if begin <= label < hi]
        found: list[dict[str, Any]] = []
        mark = self.watermark(kind)
        last = max((label for label in bars if lo is not None and label < lo), default=None)
        for label in inside:
            bar = bars.get(label)
            if bar is None:
                close = None if fill == "null" or last is None else bars[last]["close"]
                bar = _flat(close)
            else:
                last = label
            found.append({"bucket": label, **bar, "closed": self.ends[kind][label] <= mark})
        return found[::-1] if params["order"] == "desc" else found


def _flat(close: Decimal | None) -> dict[str, Any]:
    if close is None:
        return {**dict.fromkeys(FIELDS[1:-2]), "imported": False}
    zero = Decimal(0)
    return {**dict.fromkeys(("open", "high", "low", "close"), close), "volume": zero, "quote_volume": zero,
            "vwap": None, "trades": 0, "buy_volume": zero, "imported": False}  # fmt: skip


def _minute(ts: datetime) -> int:
    return int((ts - calendar.EPOCH) / timedelta(minutes=1))


def _written(ts: datetime, dice: random.Random) -> str:
    ts = ts.replace(second=0, microsecond=0)
    return dice.choice([text(ts), str(int(ts.timestamp())), str(int(ts.timestamp()) * 1000)])


def _read(written: str) -> int:
    if written.isdigit():
        return int(written) // (60_000 if len(written) > 11 else 60)
    return _minute(datetime.fromisoformat(written))


def taken(limit: int | None, params: dict[str, Any], bars: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The bars of the first answer."""
    if limit is None:
        return bars
    return bars[-limit:] if "start" not in params and params["order"] == "asc" else bars[:limit]


def plain(params: dict[str, Any], bar: dict[str, Any]) -> dict[str, Any]:
    """A bar of an answer as the oracle has it; that its style is the one asked for is checked here."""
    bucket = bar["bucket"]
    style = params.get("time", "iso")
    minute = (
        _minute(datetime.fromisoformat(bucket)) if style == "iso" else int(bucket) / (60 if style == "s" else 60_000)
    )
    numbers = str if params.get("numbers") == "string" else Decimal
    for name in FIELDS[1:-2]:
        assert bar[name] is None or isinstance(bar[name], Decimal if name == "trades" else numbers), (name, bar)
    values = {name: None if bar[name] is None else Decimal(bar[name]) for name in FIELDS[1:-2]}
    return {"bucket": minute, **values, "imported": bar["imported"], "closed": bar["closed"]}


def rows(params: dict[str, Any], answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The bars of one symbol's answer."""
    if params.get("format") == "columns":
        columns = answer["columns"]
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    found: list[dict[str, Any]] = answer["bars"]
    return found


def check(api: Api, world: World, params: dict[str, Any], kind: Kind, since: float) -> None:
    """One request, and now and then the pages after it; asked again while a change may still be under way."""
    while True:
        try:
            return _check(api, world, params, kind)
        except (AssertionError, httpx.TransportError) as error:
            error.add_note(str(params))
            if time.monotonic() > since + SETTLES:
                raise
            time.sleep(0.02)


def _check(api: Api, world: World, params: dict[str, Any], kind: Kind) -> None:
    wanted = world.wanted(params, kind)
    limit = params.get("limit")
    if params.get("format") == "csv":
        _check_csv(api, params, [taken(limit, params, bars) for bars in wanted])
        return
    answer = api.json("/v1/bars", **params)
    parts = answer.get("series", [answer])
    assert [part["symbol"] for part in parts] == params["symbol"].split(",")
    for part, bars in zip(parts, wanted, strict=True):
        got = [plain(params, bar) for bar in rows(params, part)]
        assert got == taken(limit, params, bars), (params, world.market.year)
        assert (part["next_cursor"] is None) == (len(bars) <= limit or got != bars[: len(got)]), params
    if world.dice.random() < 0.1 and limit >= 10:
        _follow(api, params, answer, wanted)


def _follow(api: Api, params: dict[str, Any], answer: dict[str, Any], wanted: list[list[dict[str, Any]]]) -> None:
    """All pages together are all bars."""
    found: list[list[dict[str, Any]]] = [[] for _ in wanted]
    while True:
        for part, bars in zip(answer.get("series", [answer]), found, strict=True):
            bars += [plain(params, bar) for bar in rows(params, part)]
        if answer["next_cursor"] is None:
            break
        answer = api.json("/v1/bars", **params, cursor=answer["next_cursor"])
    whole = "start" in params or params["order"] == "desc"
    assert found == (wanted if whole else [taken(params["limit"], params, bars) for bars in wanted]), params


def _check_csv(api: Api, params: dict[str, Any], wanted: list[list[dict[str, Any]]]) -> None:
    """The same text as in JSON, a missing value being empty."""
    answer = api.get("/v1/bars", **params)
    assert answer.status_code == 200, answer.text
    got = list(csv.DictReader(io.StringIO(answer.text)))
    words = {"true": True, "false": False, "": None}
    bars = [
        {name: value if name == "bucket" else words[value] if value in words else Decimal(value)
         for name, value in row.items() if name != "symbol"} for row in got
    ]  # fmt: skip
    read = [plain({**params, "numbers": "number"}, bar) for bar in bars]
    assert read == [bar for bars in wanted for bar in bars], params
    if "," in params["symbol"]:
        names = params["symbol"].split(",")
        assert [row["symbol"] for row in got] == [name for name, bars in zip(names, wanted, strict=True) for _ in bars]


@pytest.fixture
def servers(database: str, valkey: Server, tmp_path: Path) -> Iterator[list[Api]]:
    """Two processes, one of which can keep next to nothing."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(serving(database, valkey.url, tmp_path / f"{n}.log", BARWRIGHT_PAGE_CACHE_BARS=bars))
            for n, bars in enumerate(("2000000", "600"))
        ]


@pytest.mark.parametrize(
    ("seed", "rounds"), [(1, 10), *(pytest.param(seed, 150, marks=pytest.mark.slow) for seed in range(2, 8))]
)
def test_random_requests_equal_the_oracle(database: str, servers: list[Api], seed: int, rounds: int) -> None:
    with sql.connect(database, "test", autocommit=True) as connection:
        connection.execute("select renew_epoch()")
        engine_of(connection)
        world = World(connection, seed)
        for _ in range(rounds):
            since = world.land()
            for _ in range(40):
                params, kind = world.request()
                check(world.dice.choice(servers), world, params, kind, since)
