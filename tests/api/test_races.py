"""Requests that race imports, late ticks, repairs and turning minutes: no bar twice, no hole in what is called
complete, no closed bar that differs from the truth."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest

from barwright import sql
from barwright.api.blocks import block, series
from barwright.api.coverage import FINENESS, Summary, judge
from barwright.api.intervals import LEVELS
from barwright.api.pieces import beside
from barwright.sql.engine import engine_of, levels
from tests.api.conftest import Api, serving
from tests.api.landing import MINUTE, Lander
from tests.api.truth import text
from tests.services import Server
from tests.sql.market import Market

SECONDS = 5.0
STALE = 0.55  # what a cached coverage may be old, and a little
REPAIRED = 2.5  # seconds in which any change has reached the bars
WIDTHS = {"1m": 1, "5m": 5, "1h": 60, "3m": 3, "20m": 20}  # levels, and what is made of them
PRICES = ("open", "high", "low", "close", "volume")


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_no_answer_lies(database: str, valkey: Server, tmp_path: Path, seed: int) -> None:
    with (
        sql.connect(database, "test", autocommit=True) as connection,
        sql.connect(database, "maintain", autocommit=True) as upkeep,
    ):
        lander = _lander(connection, seed)
        over, errors, seen = threading.Event(), list[BaseException](), Counter[Any]()
        with (
            serving(database, valkey.url, tmp_path / "one.log") as one,
            serving(database, valkey.url, tmp_path / "two.log", BARWRIGHT_PAGE_CACHE_BARS="2000") as two,
        ):
            threads = [
                threading.Thread(target=_until, args=(over, errors, work))
                for work in (
                    lander.step,
                    _maintain(lander, upkeep),
                    *(_client(api, lander, seen, seed * 100 + n) for n, api in enumerate([one, two] * 3)),
                )
            ]
            for thread in threads:
                thread.start()
            over.wait(SECONDS)
            over.set()
            for thread in threads:
                thread.join()
            if errors:
                raise errors[0]
            assert seen[True] > 20, seen
            assert seen[False] > 20, seen
            _maintain(lander, upkeep)()
            time.sleep(0.6)
            _settled(one, lander)
            _settled(two, lander)


def _lander(connection: psycopg.Connection[Any], seed: int) -> Lander:
    """A market whose live connection begins on a February day of 2016; nothing is rolled up after that."""
    # Copies of one template share an epoch, and the tests one Redis: a symbol for each.
    market = Market(connection, f"RACE{seed}", era=count(2016, 2))
    base = market.at("02-08 00:00")
    lander = Lander(market, base, seed)
    connection.execute("select prepare_ticks(array(select generate_series(%s, %s, interval '1 day')))",
                       (lander.start, base + timedelta(days=20)))  # fmt: skip
    connection.execute("update level set sealed = date_bin(width, %(t)s, '2000-01-03Z'), "
                       "watermark = date_bin(width, %(t)s, '2000-01-03Z')", {"t": base})  # fmt: skip
    lander.vouched.register(lander.start)
    return lander


def _until(over: threading.Event, errors: list[BaseException], work: Callable[[], None]) -> None:
    try:
        while not over.is_set():
            work()
    except BaseException as error:
        errors.append(error)
        over.set()


def _maintain(lander: Lander, connection: psycopg.Connection[Any]) -> Callable[[], None]:
    """A round of maintain, whose clock is the lander's."""
    engine = engine_of(connection)

    def round_() -> None:
        connection.execute("select move_seal(%s)", (lander.at - timedelta(seconds=20),))
        for level in levels(connection):
            engine.advance(level.name)
        engine.repair()

    return round_


def _client(api: Api, lander: Lander, seen: Counter[Any], seed: int) -> Callable[[], None]:
    """One request and its judgement; half of them from a few that are asked again and again, as charts do."""
    dice = random.Random(seed)

    def ask() -> None:
        reach = int((lander.at - lander.start) / MINUTE) + 5
        lo = dice.choice([0, 300, 360, dice.randrange(reach)])
        hi = dice.choice([reach, lo + 30, lo + dice.randrange(1, 200)])
        params: dict[str, Any] = {
            "interval": dice.choice(["1m", "1m", "1m", "1m", *WIDTHS]), "limit": dice.choice([1000, 10, 100]),
            "order": dice.choice(["asc", "desc"]), "end": text(lander.start + max(lo, hi) * MINUTE),
            "start": text(lander.start + lo * MINUTE),
        }  # fmt: skip
        if dice.random() < 0.2:
            del params["start"]
        asked = time.monotonic()
        answer = api.json("/v1/bars", symbol=lander.market.symbol, **params)
        seen[_judge(lander, answer, params, asked, time.monotonic())] += 1

    return ask


def _judge(lander: Lander, answer: dict[str, Any], params: dict[str, Any], asked: float, answered: float) -> Any:
    """Whether the answer called itself complete, which must be true, as must every bar be that is closed."""
    bars = answer["bars"]
    buckets = [datetime.fromisoformat(bar["bucket"]) for bar in bars]
    ordered = buckets if params["order"] == "asc" else buckets[::-1]
    assert all(a < b for a, b in pairwise(ordered)), "a bar twice"
    complete = answer["coverage"]["complete"]
    width = WIDTHS[params["interval"]]
    found = {bucket: tuple(bar[name] for name in PRICES) for bucket, bar in zip(buckets, bars, strict=True)}
    if width == 1:
        _check_closed(lander, bars, buckets, asked)
    if complete is not True:
        return complete
    lo, hi = _span(answer, params, ordered, width)
    bucket = lo
    while bucket < hi:
        minutes = [bucket + n * MINUTE for n in range(width)]
        choices = [lander.possible(minute, asked, answered, STALE) for minute in minutes]
        context = (bucket, found.get(bucket), choices, params, answer["coverage"])
        assert all(choices), ("called complete, though not covered", context)
        if width == 1:
            assert found.get(bucket) in choices[0], ("called complete, though not true", context)
        else:
            least, most = (
                sum(pick([bar[4] if bar else Decimal(0) for bar in choice]) for choice in choices)
                for pick in (min, max)
            )
            volume = found[bucket][4] if bucket in found else 0
            assert least <= volume <= most, ("called complete, though not true", context)
        bucket += width * MINUTE
    return complete


def _check_closed(lander: Lander, bars: list[dict[str, Any]], buckets: list[datetime], asked: float) -> None:
    """Closed minutes whose last change has had the time of a repair are as it left them, whatever else is missing."""
    for bucket, bar in zip(buckets, bars, strict=True):
        versions = list(lander.versions.get(bucket, ()))
        if bar["closed"] and versions and versions[-1].after < asked - REPAIRED:
            assert tuple(bar[name] for name in PRICES) == versions[-1].bar, (bucket, bar, versions)


def _span(
    answer: dict[str, Any], params: dict[str, Any], ordered: list[datetime], width: int
) -> tuple[datetime, datetime]:
    """The span an answer answers for."""
    step = width * MINUTE
    lo, hi = (_ceiling(datetime.fromisoformat(params.get(name, text(datetime(1, 1, 1, tzinfo=UTC)))), step)
              for name in ("start", "end"))  # fmt: skip
    if "start" not in params:
        lo = ordered[0]
    if answer["next_cursor"] is not None:
        return (lo, ordered[-1] + step) if params["order"] == "asc" else (ordered[0], hi)
    return lo, hi


def _ceiling(ts: datetime, step: timedelta) -> datetime:
    day = ts.replace(hour=0, minute=0)
    return day + -(-(ts - day) // step) * step


def _settled(api: Api, lander: Lander) -> None:
    """When all is quiet, every minute that was covered is the last of its versions, closed or not."""
    found = api.bars(lander.market.symbol, limit=10000, start=text(lander.start), end=text(lander.at))
    bars = {datetime.fromisoformat(bar["bucket"]): tuple(bar[name] for name in PRICES) for bar in found}
    for minute, versions in lander.versions.items():
        assert bars.get(minute) == versions[-1].bar, minute


def test_open_bars_stand_beside_no_newer_coverage() -> None:
    kind = series("A", LEVELS["1m"])
    known = Summary("A", "e", 1, None, None, 0, False, False, {}, [], [], heard=5.0)
    fine, old = (replace(block(kind, 0, 120, [], 60), asked=asked) for asked in (5.0, 4.9))
    assert [beside(part, known) for part in (fine, old)] == [True, False]
    closed = replace(block(kind, 0, 60, [], 60), asked=4.9)
    assert beside(closed, known)
    closed.alive = False
    assert not beside(closed, known)


def test_a_minute_that_turns_after_the_snapshot_is_not_vouched_for() -> None:
    minute = 1_700_000_040  # seconds: the start of one
    proved = [((minute - 600) * 10**6, (minute + 59) * 10**6)]
    known = Summary("A", "e", 1, proved[0][0], None, 10 * 10**6, True, True, dict.fromkeys(FINENESS, proved), [], [])
    span = minute - 300, minute + 120
    assert judge(known, LEVELS["1m"], *span, minute + 59.9).complete is True
    assert judge(known, LEVELS["1m"], *span, minute + 60.1).complete is None
    assert judge(known, LEVELS["1m"], minute - 300, minute, minute + 60.1).complete is True
    # A minute later the source has surely finished it, and nobody has brought it.
    assert judge(known, LEVELS["1m"], *span, minute + 130).complete is False


def test_where_bars_were_dropped_by_their_age_nothing_is_called_complete() -> None:
    minute = 1_700_000_040
    proved = [((minute - 86_400) * 10**6, minute * 10**6)]
    line = {"1m": (minute - 600) * 10**6}
    known = Summary(
        "A", "e", 1, proved[0][0], None, 10 * 10**6, True, True, dict.fromkeys(FINENESS, proved), [], [], line
    )
    assert judge(known, LEVELS["1m"], minute - 600, minute, minute + 1).complete is True
    assert judge(known, LEVELS["1m"], minute - 660, minute, minute + 1).complete is None
    assert judge(known, LEVELS["5m"], minute - 660, minute, minute + 1).complete is True
