"""What must hold when nothing breaks and all that was sent has landed: every message is accounted for, and every bar is
the oracle's, over SQL, over the API and in the hands of a client that followed the stream."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import httpx

from tests import oracle
from tests.api.conftest import Api
from tests.api.truth import pages, text
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


def account(connection: Any, counts: Counts, accepted: int, refused: Counter[bytes]) -> None:
    """Every message: a row, a dead letter, or one that was there already."""
    rows, arrived, skipped = connection.execute(ACCOUNT, {"topic": TOPIC}).fetchone()
    counts.rows = rows
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
