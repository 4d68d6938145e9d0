"""How fast ticks become rows, ours beside the peers' and the bare limits; how soon one tick is seen in a bar."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from barwright.settings import Settings
from bench import api, ingest, market, tutorial
from bench.ingest import COLUMNS
from bench.market import Batches, Market
from bench.quest import PATIENCE, Quest
from bench.questions import compared

TOGETHER = 100  # ticks of a message
EXECUTEMANY, EACH, SINGLE = 20_000, 2_000, 200  # ticks of what is slow


def rates(
    settings: Settings, connection: Any, quests: Quest, topic: str, batches: Batches, given: Market, rounds: int
) -> dict[str, Any]:
    """Ticks/s, of a topic with 100 ticks in a message or of batches that are ready. Leaves what ingest has landed."""
    ticks, memory = given.ticks, 0
    confluent = settings.model_copy(update={"kafka_client": "confluent"})
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        connection.execute("truncate ticks, late_range")
        one: dict[str, float] = {}
        one["copy_text"] = ticks / _copied(connection, batches.text, "text")
        one["copy_binary"] = ticks / _copied(connection, batches.binary, "binary")
        one["kafka_alone"] = ingest.consume_bare(settings, topic, ticks // TOGETHER) * TOGETHER
        one["tutorial_executemany"] = tutorial.ingest(settings, connection, topic, min(ticks, EXECUTEMANY), True)
        one["tutorial_insert_each"] = tutorial.ingest(settings, connection, topic, min(ticks, EACH), False)
        one["barwright_confluent"], _ = ingest.consumed(confluent, connection, topic, ticks, 1)
        one["barwright"], most = ingest.consumed(settings, connection, topic, ticks, 1, keep=True)
        one["questdb_from_kafka"] = ticks / quests.consume(settings, topic, ticks)
        committed, seen = quests.load(batches.lines, ticks)
        one["questdb_lines_committed"], one["questdb_lines"] = ticks / committed, ticks / seen
        memory = max(memory, most)
        for name, rate in one.items():
            found.setdefault(name, []).append(rate)
    landed = connection.execute("select count(*) from ticks").fetchone()[0]
    assert landed == ticks, f"{landed} of {ticks} ticks landed"
    return compared(found, "barwright", 0) | {"barwright_peak_mb": memory}


def _copied(connection: Any, batches: list[bytes], format: str) -> float:
    """Seconds of COPY of what is ready, one connection, a transaction for each batch."""
    began = time.perf_counter()
    for batch in batches:
        text = f"copy ticks ({COLUMNS}) from stdin (format {format})"
        with connection.transaction(), connection.cursor().copy(text) as copy:
            copy.write(batch)
    took = time.perf_counter() - began
    connection.execute("truncate ticks, late_range")
    return took


def latency(settings: Settings, connection: Any, quests: Quest) -> dict[str, Any]:
    """p50 and p99 from sending one tick to a query's seeing it: ours and the tutorial's in a bar, through Kafka;
    QuestDB's, from sending it the line, in its view's bar and in its table."""
    return {
        "barwright": {f"{name}_ms": took for name, took in ingest.latency(settings, connection, SINGLE).items()},
        "tutorial": tutorial.latency(settings, connection, SINGLE),
        "questdb_view": _line_seen(quests, "select sum(trades) from bars"),
        "questdb_table": _line_seen(quests, f"select count() from {quests.table}"),
    }


def _line_seen(quests: Quest, query: str) -> dict[str, float]:
    quests.reopen()
    found, symbol = [], f"LATENCY{len(query)}"
    for n in range(SINGLE):
        now = market.shown(datetime.now(UTC))
        line = quests.line(market.row(market.tick(0) | {"symbol": symbol, "id": str(n), "ts": now}))
        began = time.perf_counter()
        quests.send(line)
        while (quests.ask(f"{query} where symbol = '{symbol}'")[0][0] or 0) <= n:
            if time.perf_counter() - began > PATIENCE:
                raise TimeoutError(f"QuestDB does not show the tick: {query}")
        found.append(time.perf_counter() - began)
        time.sleep(0.02)
    return api._percentiles(iter(found))
