"""What must hold when nothing breaks and all that was sent has landed: every message is accounted for, and every bar is
the oracle's, over SQL, over the API and in the hands of a client that followed the stream."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import httpx

from tests import oracle
from tests.api.conftest import Api
from tests.api.truth import pages, text
from tests.chaos.run import closed
from tests.chaos.truth import Truth, differences, stored
from tests.torture.table import Counts
from tests.torture.world import TOPIC, World

INTERVALS = (*oracle.WIDTHS, "1mo")
NAMES = ("open", "high", "low", "close", "volume", "quote_volume", "vwap", "trades", "buy_volume", "imported")
PATIENCE = 120.0
Bars = dict[tuple[str, datetime], tuple[Any, ...]]


class Reached(Api):
    """The API of a world, its numbers exact."""

    def __init__(self, address: str) -> None:
        self.client = httpx.Client(base_url=address, timeout=20, trust_env=False)


def eventually(check: Callable[[], str | None], seconds: float = PATIENCE) -> str | None:
    """What is still wrong after so long, None where all is well before."""
    over = time.monotonic() + seconds
    while True:
        try:
            found = check()
        except (httpx.HTTPError, OSError, AssertionError) as error:
            found = repr(error)
        if found is None or time.monotonic() > over:
            return found
        time.sleep(0.1)


def settled(world: World, connection: Any, ends: dict[str, int]) -> str | None:
    """All that Kafka holds has landed, and what was late is in the bars."""

    def check() -> str | None:
        held = {str(number): at for number, at in connection.execute(POSITIONS, (TOPIC,))}
        behind = {number: (held.get(number, 0), end) for number, end in ends.items() if held.get(number, 0) != end}
        late = connection.execute("select count(*) from late_range").fetchone()[0]
        return f"positions {behind}, {late} late ranges" if behind or late else None

    return eventually(check)


POSITIONS = "select partition, next_offset from ingest_offset where topic = %s"
ACCOUNT = """
select (select count(*) from ticks where symbol ~ '^[LR][0-9]'),
       (select coalesce(sum(rows), 0)::bigint from ingest_offset where topic = %(topic)s),
       (select coalesce(sum(skipped), 0)::bigint from ingest_offset where topic = %(topic)s)
"""


COVERED = """
select (select count(*) from gaps where symbol = %(symbol)s),
       (select count(*) from backfill_task where symbol = %(symbol)s and status not in ('landed', 'cancelled')),
       (select count(*) from symbols as s where symbol = %(symbol)s and history_bound(s) < %(end)s),
       (select count(*) from level where watermark < date_bin(width, %(end)s, '2000-01-03Z')),
       (select count(*) from late_range)
"""


def account(connection: Any, counts: Counts, accepted: int, dropped: int, refused: Counter[bytes]) -> None:
    """Every message: a row, a dead letter, or one that was there already. Of the rows some were dropped by age."""
    rows, arrived, skipped = connection.execute(ACCOUNT, {"topic": TOPIC}).fetchone()
    rows += dropped
    counts.rows, counts.dropped = rows, dropped
    raws = connection.execute("select raw from dead_letter where topic = %s", (TOPIC,))
    letters = Counter(bytes(raw) for (raw,) in raws)
    counts.accepted, counts.refused = accepted, refused.total()
    counts.again = counts.sent - accepted - counts.refused - counts.twice - counts.corrected
    counts.lost += max(accepted - rows, 0) + (refused - letters).total() + skipped
    counts.doubled += max(rows - accepted, 0)
    wrong = []
    if rows != accepted:
        wrong.append(f"{rows:,} rows, {accepted:,} accepted")
    if arrived + letters.total() != counts.sent:
        wrong.append(f"{arrived:,} items and {letters.total():,} dead letters of {counts.sent:,} messages")
    if counts.again < 0:
        wrong.append(f"{-counts.again} messages are not in Kafka")
    if letters != refused and (refused - letters or (letters - refused).total() > counts.again):
        wrong.append(f"dead letters missing {[*(refused - letters)][:3]}, unexpected {[*(letters - refused)][:3]}")
    if skipped:
        wrong.append(f"{skipped} messages skipped")
    counts.wrong += wrong


def covered(world: World, connection: Any, counts: Counts, symbol: str, start: datetime) -> None:
    """A registered symbol has no gap from its start on, its closed bars are the exchange's, and the API knows it."""
    end = oracle.bucket(datetime.now(UTC), "1m")

    def waits() -> str | None:
        left = connection.execute(COVERED, {"symbol": symbol, "end": end}).fetchone()
        return f"gaps, tasks, behind, levels open: {left}" if any(left) else None

    if wrong := eventually(waits):
        counts.wrong.append(f"{symbol} is not covered: {wrong}")
        return
    truth = Truth(world)
    for interval in ("1m", "5m", "15m", "30m", "1h"):
        theirs = closed(truth.bars(symbol, interval, start, end), interval, end)
        found = differences(closed(stored(connection, symbol, interval, start, end), interval, end), theirs)
        counts.bars += len(theirs)
        counts.wrong_bars += len(found)
        counts.wrong += [f"{symbol} {interval}: {line}" for line in found[:3]]
    query = {"symbol": symbol, "interval": "1m", "start": text(start), "end": text(end), "limit": 10}
    if wrong := eventually(lambda: _incomplete(world, query), 10):
        counts.wrong.append(f"{symbol}: the API does not know that it is complete: {wrong}")


def _incomplete(world: World, query: dict[str, Any]) -> str | None:
    answer = httpx.get(f"{world.api}/v1/bars", params=query, timeout=10, trust_env=False)
    coverage = answer.raise_for_status().json()["coverage"]
    return None if coverage["complete"] is True else str(coverage)


def compare(name: str, counts: Counts, ours: Bars, theirs: Bars) -> None:
    """Bars of one reader against the oracle's."""
    counts.bars += len(theirs)
    different = [key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)]
    counts.wrong_bars += len(different)
    counts.wrong += [f"{name} {key}: {ours.get(key)}, oracle {theirs.get(key)}" for key in sorted(different)[:3]]


def truth(rows: Iterable[dict[str, Any]]) -> Bars:
    """The oracle's bars by symbol and bucket."""
    return {(row["symbol"], row["bucket"]): tuple(row[name] for name in NAMES) for row in rows}


def over_sql(connection: Any, interval: str) -> Bars:
    """Every bar of the symbols that this run sends."""
    rows = connection.execute(
        f"select symbol, bucket, {', '.join(NAMES)} from ohlcv_{interval} where symbol ~ '^[LR][0-9]'"
    )
    return {(symbol, bucket): tuple(values) for symbol, bucket, *values in rows}


def over_api(api: Reached, symbol: str, interval: str, first: datetime) -> Bars:
    """Every bar of a symbol from a bucket on, page by page."""
    found = pages(api, symbol, interval, 5000, start=text(first))
    return {(symbol, datetime.fromisoformat(bar["bucket"])): tuple(bar[name] for name in NAMES) for bar in found}
