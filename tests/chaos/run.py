"""One chaos run, from its seed to its report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import httpx
import psycopg

from tests import oracle
from tests.chaos import checker, faults, late
from tests.chaos.system import System
from tests.chaos.truth import INTERVALS, Bars, Truth, differences, stored

SYMBOLS = ("BTCUSD", "ETH-USD", "EUR/USD", "DOGEUSDT")  # the last two come while things break
DAYS = 70  # of history, two of them in minutes: a whole month and weeks of hours
QUIET = 180.0  # seconds that healing may take once nothing breaks any more
# The exchange corrects minutes of this part of the hour before the run, and only in its first minutes: corrections
# reach back an hour.
CORRECTED = (timedelta(minutes=45), timedelta(minutes=5))
CORRECTING = 300.0
WAITS = """
select (select count(*) from gaps), (select count(*) from late_range),
       (select count(*) from backfill_task where status not in ('landed', 'cancelled')),
       (select count(*) from symbols as s where history_source is not null and not exists (
           select from backfill_task as t
           where t.symbol = s.symbol and t.reason = 'correction' and t.status = 'landed'
           and t.filed_at > %(corrected)s)),
       (select count(*) from symbols as s where history_source is not null and history_bound(s) < %(end)s),
       (select count(*) from level where watermark < date_bin(width, %(end)s, '2000-01-03Z'))
"""


@dataclass
class Report:
    """What happened: faults in their order, what was compared, and what was wrong."""

    seed: int
    faults: list[str] = field(default_factory=list)
    deaths: int = 0
    bars: int = 0
    healed: float = 0.0
    answers: dict[str, int] = field(default_factory=dict)
    late: int = 0
    wrong: list[str] = field(default_factory=list)


def run(seconds: float, seed: int, home: Path, say: Callable[[str], None]) -> Report:
    """Break things for some seconds, let them heal, compare everything with the truth."""
    report, random = Report(seed), Random(seed)
    with System(home, seed) as system:
        _until(60, lambda: _ready(system), "the API is not ready")
        begun = datetime.now(UTC)
        quiet = (begun - CORRECTED[0], begun - CORRECTED[1])
        for symbol in SYMBOLS[:2]:
            _register(system, symbol, begun)
        clients = [checker.Checker(system, Truth(system), list(SYMBOLS), begun - timedelta(days=1), quiet, seed)]
        producer = late.LateProducer(system, seed)
        for thread in (*clients, producer):
            thread.start()
        _break(system, random, seconds, begun, quiet, report, say)
        corrected = datetime.now(UTC)
        say("nothing breaks any more")
        _until(30, lambda: _calm(system), "the exchange does not answer")
        producer.close()
        end = oracle.bucket(datetime.now(UTC), "1m")
        _heal(system, corrected, end, report, say)
        for client in clients:
            client.close()
            report.wrong += client.wrong
            report.answers = client.counts
        _compare(system, begun, end, producer.sent, report)
        report.deaths, report.late = system.deaths, len(producer.sent)
    return report


def _break(system: System, random: Random, seconds: float, begun: datetime, quiet: tuple[datetime, datetime],
           report: Report, say: Callable[[str], None]) -> None:  # fmt: skip
    """One fault after the other; meanwhile two more symbols are registered."""
    began, choices = time.monotonic(), faults.choices(list(SYMBOLS[:2]), *quiet)
    waiting, moments = list(SYMBOLS[2:]), [0.2, 0.6] if not system.external else []
    while (passed := time.monotonic() - began) < seconds:
        if waiting and passed > seconds * (3 - len(waiting)) / 4:
            _register(system, waiting.pop(0), begun)
        if moments and passed > seconds * moments[0]:
            what = (
                _back_up(system) if moments.pop(0) == 0.2 else _restore(system, SYMBOLS[: -len(waiting) or None], begun)
            )
            report.faults.append(what)
            say(f"{passed:6.1f}  {what}")
        usable = choices if passed < CORRECTING else choices[:-1]
        what = random.choice(usable)(system, random)
        report.faults.append(what)
        say(f"{passed:6.1f}  {what}")
        time.sleep(random.uniform(0.1, 2))
    while waiting:
        _register(system, waiting.pop(0), begun)


def _back_up(system: System) -> str:
    faults.backed_up(system)
    return "backed the database up"


def _restore(system: System, symbols: Sequence[str], begun: datetime) -> str:
    faults.restored(system)
    # Whoever was registered since the backup has to be registered again.
    for symbol in symbols:
        _register(system, symbol, begun)
    return "restored the database from its backup"


def _heal(system: System, corrected: datetime, end: datetime, report: Report, say: Callable[[str], None]) -> None:
    """Wait until nothing is missing and everything is closed up to the end."""
    began, said = time.monotonic(), 0.0
    with system.connect() as connection:
        while True:
            left = connection.execute(WAITS, {"corrected": corrected, "end": end}).fetchone()
            if left is not None and not any(left):
                break
            passed = time.monotonic() - began
            if passed - said > 10:
                said = passed
                say(f"heals: gaps, late, tasks, corrections, within grace, levels open: {left}")
            if passed > QUIET:
                report.wrong.append(f"not healed after {QUIET:.0f} s: {left}")
                break
            time.sleep(0.3)
    report.healed = round(time.monotonic() - began, 1)


def _compare(system: System, begun: datetime, end: datetime, sent: list[dict[str, Any]], report: Report) -> None:
    """Every bar of every level and symbol: the database's, and the API's where it says it is complete."""
    truth = Truth(system)
    with system.connect() as connection:
        reach = dict(connection.execute("select symbol, minutes_since from symbols").fetchall())
        letters = connection.execute("select count(*), min(reason) from dead_letter").fetchone()
        if letters and letters[0]:
            report.wrong.append(f"{letters[0]} dead letters: {letters[1]}")
        for symbol in SYMBOLS:
            for interval in INTERVALS:
                start = _first(begun, interval, reach.get(symbol))
                theirs = closed(truth.bars(symbol, interval, start, end), interval, end)
                _check(report, connection, symbol, interval, start, end, theirs)
        ticks = list({(t["ts"], t["seq"]): t for t in sent}.values())
        for interval in INTERVALS:
            start = oracle.bucket(begun - timedelta(days=4), "1mo") - timedelta(days=32)
            bars = {bar["bucket"]: bar for bar in oracle.bars(ticks, interval)}
            _check(report, connection, late.SYMBOL, interval, start, end, closed(bars, interval, end))
    _compare_api(system, truth, begun, end, report)


def _check(report: Report, connection: Any, symbol: str, interval: str, start: datetime, end: datetime,
           theirs: Bars) -> None:  # fmt: skip
    ours = closed(stored(connection, symbol, interval, start, end), interval, end)
    report.bars += len(theirs)
    found = differences(ours, theirs)
    report.wrong += [f"{symbol} {interval}: {line}" for line in found[:5]]
    if len(found) > 5:
        report.wrong.append(f"{symbol} {interval}: … {len(found)} in all")


def _compare_api(system: System, truth: Truth, begun: datetime, end: datetime, report: Report) -> None:
    """The last day through the API, which must know that it is complete."""
    start = oracle.bucket(begun - timedelta(hours=15), "1m")
    for symbol in SYMBOLS:
        query = {"symbol": symbol, "interval": "1m", "start": start.isoformat(), "end": end.isoformat(), "limit": 2000}
        answer = httpx.get(f"{system.api}/v1/bars", params=query, timeout=10, trust_env=False)
        body = checker._decoder.decode(answer.content)
        if body["coverage"]["complete"] is not True:
            report.wrong.append(f"{symbol}: the API does not know that it is complete: {body['coverage']}")
        found = differences(checker.told(body["bars"]), truth.bars(symbol, "1m", start, end))
        report.wrong += [f"{symbol} 1m by the API: {line}" for line in found[:5]]


def _first(begun: datetime, interval: str, minutes_since: datetime | None) -> datetime:
    """The first bucket that minutes, or hours, must have filled whole."""
    day = oracle.bucket(begun - timedelta(days=DAYS), "1d")
    if interval in ("1m", "5m", "15m", "30m"):
        return max(day, minutes_since or day)
    if interval == "1mo":
        return oracle.bucket(oracle.bucket(day, "1mo") + timedelta(days=32), "1mo")
    return oracle.bucket(day + timedelta(days=7), interval) if interval == "1w" else day


def closed(bars: Bars, interval: str, end: datetime) -> Bars:
    """Those whose bucket is over at `end`."""
    if interval == "1mo":
        return {bucket: bar for bucket, bar in bars.items() if oracle.bucket(bucket + timedelta(days=32), "1mo") <= end}
    width = timedelta(minutes=oracle.WIDTHS[interval])
    return {bucket: bar for bucket, bar in bars.items() if bucket + width <= end}


def _register(system: System, symbol: str, begun: datetime) -> None:
    """PUT until it is taken: the API may be being killed."""
    # One exchange by two names: each is followed by a connection of its own.
    body = {
        "source": "cryptocompare" if symbol in SYMBOLS[1:3] else "simulator",
        "start": (begun - timedelta(days=DAYS)).isoformat(),
    }
    _until(60, lambda: httpx.put(f"{system.api}/v1/symbols/{symbol.replace('/', '%2F')}", json=body, timeout=10,
                                 trust_env=False).is_success, f"{symbol} cannot be registered")  # fmt: skip
    # A minute's grace, as the real vendor needs it, would be a minute more of every run.
    _until(60, lambda: _hurried(system), "the database does not answer")


def _ready(system: System) -> bool:
    exchange = httpx.get(f"{system.simulator}/admin/exchange", timeout=5, trust_env=False)
    return exchange.is_success and httpx.get(f"{system.api}/health/ready", timeout=5, trust_env=False).is_success


def _hurried(system: System) -> bool:
    try:
        with system.connect() as connection:
            connection.execute("update symbols set grace = '10 s'")
    except psycopg.OperationalError:
        return False
    return True


def _calm(system: System) -> bool:
    system.clear()
    return True


def _until(seconds: float, true: Callable[[], bool], otherwise: str) -> None:
    """Wait until it is true; what fails meanwhile is tried again."""
    over = time.monotonic() + seconds
    while True:
        try:
            if true():
                return
            error = ""
        except httpx.HTTPError as failure:
            error = repr(failure)
        if time.monotonic() > over:
            raise TimeoutError(f"{otherwise}: {error}")
        time.sleep(0.3)
