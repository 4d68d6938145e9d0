"""Barwright beside what people use instead, with the same ticks in the same run: QuestDB, what a tutorial builds,
pandas, DuckDB, polars, and the bare limits (COPY in binary, the Kafka client alone, static bytes).

Each round does everything once, so that a machine that slows down slows all of it. No figure counts before all bars
of all peers were found equal to ours: to the last digit, or where a peer counts in doubles to 10^-9.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from barwright import sql
from barwright.ingest import kafka
from barwright.settings import Settings
from barwright.sql.engine import engine_of, levels
from bench import footprint, frames, ingest, landing, market, quest, questdb, questions, tutorial
from bench.ingest import PARTITIONS, START
from bench.landing import TOGETHER
from bench.market import Market
from bench.questions import compared, timed


def measure(
    dsn: str, brokers: str, redis_url: str, home: Path, ticks: int = 600_000, rounds: int = 5
) -> dict[str, Any]:
    """On an empty migrated database. Medians of the rounds: ticks/s, seconds, milliseconds, and ratios in one round."""
    settings = Settings(database_url=dsn, kafka_bootstrap_servers=brokers, redis_url=redis_url)
    given, sent = Market(ticks), [market.tick(n) for n in range(ticks)]
    topic, rows = f"bench-peers-{os.getpid()}", [market.row(tick) for tick in sent]
    kafka.ensure_topic(settings, topic, PARTITIONS)
    ingest.fill(settings, topic, ticks, TOGETHER, sent.__getitem__)
    with sql.connect(dsn, "bench", autocommit=True) as connection, quest.running(home) as quests:
        result: dict[str, Any] = {"engine": engine_of(connection).name, "ticks": ticks, "rounds": rounds}
        result["versions"] = {"questdb": questdb.VERSION} | {
            name: version(name) for name in ("pandas", "duckdb", "polars", "kafka-python", "confluent-kafka")
        }
        connection.execute("select prepare_ticks(array(select generate_series(%s::timestamptz, %s, '1 day')))",
                           (START, given.end))  # fmt: skip
        _unroll(connection)
        batches = market.batches(connection, rows)
        result["ingest"] = landing.rates(settings, connection, quests, topic, batches, given, rounds)
        table = frames.frame(rows)
        with frames.database(table) as duckdb:
            result["refresh"] = _refresh(connection, quests, duckdb, table, given, rounds)
            result["query_ms"] = questions.by_sql(dsn, quests, duckdb, given, rounds)
        result["page"] = questions.by_http(dsn, redis_url, quests, given, rounds)
        result["history_s"] = questions.history(dsn, redis_url, quests, given, rounds)
        result["bytes"] = footprint.storage(connection, quests, table, home)
        result["latency_ms"] = landing.latency(settings, connection, quests)
        result["memory_mb"] = footprint.memory(connection, quests)
    return result


def _unroll(connection: Any) -> None:
    """As if nothing had been rolled up since START, so that no tick is late."""
    connection.execute("truncate rollup_1m, rollup_5m, rollup_15m, rollup_30m, rollup_1h, rollup_4h, rollup_1d")
    connection.execute("update level set sealed = %(at)s, watermark = %(at)s", {"at": START})


def _refresh(
    connection: Any, quests: quest.Quest, duckdb: Any, table: Any, given: Market, rounds: int
) -> dict[str, Any]:
    """Seconds from ticks to all their minute bars; ours also to all seven levels. Leaves the last minute open."""
    engine = engine_of(connection)
    connection.execute("analyze ticks")
    pandas = frames.floats(table)
    raw = tutorial.RAW.format(where="true", symbol=", symbol")
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        _unroll(connection)
        connection.execute("select move_seal(%s)", (given.sealed,))
        first, *higher = [level.name for level in levels(connection)]
        one = {"barwright_1m": timed(lambda first=first: engine.advance(first))}
        one["barwright_all"] = one["barwright_1m"] + timed(lambda to=higher: [engine.advance(name) for name in to])
        ours = frames.bars(connection.execute(f"select bucket, symbol, {market.NUMBERS} from ohlcv_1m").fetchall())
        for name, exact, work in (
            ("tutorial_raw", True, lambda: connection.execute(raw).fetchall()),
            ("polars", True, lambda: frames.by_polars(table).rows()),
            ("duckdb", True, lambda: frames.by_duckdb(duckdb)),
            ("pandas", False, lambda: frames.by_pandas(pandas).itertuples(index=False, name=None)),
        ):
            answer: list[Any] = []
            one[name] = timed(lambda work=work, into=answer: into.extend(work()))
            frames.same(ours, frames.bars(answer), 0 if exact else 1e-9, name)
        one["questdb_view"] = quests.refresh(len(ours))
        frames.same(ours, frames.bars(quests.bars()), 1e-9, "QuestDB")
        for name, seconds in one.items():
            found.setdefault(name, []).append(seconds)
    connection.execute("vacuum analyze")
    return compared(found, "barwright_1m") | {"bars": len(ours)}
