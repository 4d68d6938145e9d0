"""The same questions for bars put to each peer in turns: by SQL, over HTTP, and all of history."""

from __future__ import annotations

import http.client
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import polars
import psycopg

from barwright import sql
from bench import api, export, frames, questdb
from bench.market import ALL, NUMBERS, SYMBOL, SYMBOLS, Market, shown
from bench.quest import Quest
from bench.tutorial import RAW

MOST, SECONDS = 40, 1.0  # of one question in one round, whatever comes first
ONE = f"symbol = '{SYMBOL}' and "
# Where each is the same question, in terms of ours and QuestDB's bars and of the others' ticks.
QUESTIONS = {
    "closed": ONE + "{t} >= '{a}' and {t} < '{b}'",
    "open": ONE + "{t} >= '{page}' and {t} < '{end}'",
    "last_bar": ONE + "{t} >= '{near}' and {t} < '{end}'",
    "long": ONE + "{t} >= '{start}' and {t} < '{end}'",
    "many_symbols": "{t} >= '{near}' and {t} < '{closed}'",
}
OURS = ("plan_cache_mode = force_generic_plan", "max_parallel_workers_per_gather = 0", "jit = off")  # as the API asks


def by_sql(dsn: str, quest: Quest, duckdb: Any, market: Market, rounds: int) -> dict[str, Any]:
    """p50, p99 and least milliseconds of each question; all answers have been compared."""
    quest.reopen()
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as plain:
        for setting in ("search_path = barwright", *OURS):
            plain.execute(f"set {setting}")
        return {name: _asked(_queries(name, plain, quest, duckdb, market), rounds) for name in QUESTIONS}


def _queries(name: str, plain: Any, quest: Quest, duckdb: Any, market: Market) -> dict[str, Callable[[], Any]]:
    """One question as each peer understands it; what asks it gives a cursor."""
    times = {key: shown(at) for key, at in market.times.items()}
    symbol = "" if QUESTIONS[name].startswith(ONE) else ", symbol"
    last = " desc limit 1" if name == "last_bar" else ""
    bucket, ts = (QUESTIONS[name].format(t=column, **times) for column in ("bucket", "ts"))
    texts = {
        "barwright": (plain, f"select bucket{symbol}, {NUMBERS} from ohlcv_1m where {bucket} order by bucket{last}"),
        "questdb": (quest.sql, f"select ts{symbol}, {NUMBERS} from bars where {ts} order by ts{last}"),
        "tutorial": (plain, RAW.format(where=ts, symbol=symbol) + last),
        "duckdb": (duckdb, frames.DUCKDB.format(where=ts, symbol=symbol) + " order by bucket" + last),
    }
    return {peer: lambda link=link, text=text: link.execute(text) for peer, (link, text) in texts.items()}


def _asked(peers: dict[str, Callable[[], Any]], rounds: int) -> dict[str, Any]:
    """How long until the rows are Python's, and of these until the answer was `received`, of which Python has made
    nothing yet: it takes longer to make our decimals than to make QuestDB's doubles. DuckDB is no server."""
    bars = {peer: frames.bars(ask().fetchall(), SYMBOL) for peer, ask in peers.items()}
    for peer, found in bars.items():
        frames.same(bars["barwright"], found, 1e-9 if peer == "questdb" else 0, peer)
    turns: dict[str, list[tuple[float, float]]] = {peer: [] for peer in peers}
    for _ in range(rounds):
        for peer, ask in peers.items():
            turns[peer] += _turns(ask)
    whole, received = ({peer: [turn[n] for turn in took] for peer, took in turns.items()} for n in range(2))
    del received["duckdb"]
    return {"rows": len(bars["barwright"]), **_percentiles(whole), "received": _percentiles(received)}


def _turns(ask: Callable[[], Any]) -> list[tuple[float, float]]:
    """Seconds of each of some turns: in all, and until the answer was here."""
    found: list[tuple[float, float]] = []

    def turn() -> None:
        began = time.perf_counter()
        cursor = ask()
        received = time.perf_counter()
        cursor.fetchall()
        found.append((time.perf_counter() - began, received - began))

    repeated(turn)
    return found


def _percentiles(times: dict[str, list[float]]) -> dict[str, Any]:
    """p50, p99 and least milliseconds; on a busy machine the fastest turn says more of the work than the median."""
    found = {peer: {**api._percentiles(iter(took)), "min_ms": round(min(took) * 1e3, 3)}
             for peer, took in times.items()}  # fmt: skip
    ours = found["barwright"]["p50_ms"]
    ratios = {peer: round(took["p50_ms"] / ours, 2) for peer, took in found.items() if peer != "barwright"}
    return found | {"p50_to_barwright": ratios}


def repeated(work: Callable[[], Any]) -> list[float]:
    """Seconds of each of some turns."""
    took: list[float] = []
    while len(took) < MOST and sum(took) < SECONDS:
        took.append(timed(work))
    return took


def timed(work: Callable[[], Any]) -> float:
    """Seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def by_http(dsn: str, redis_url: str, quest: Quest, market: Market, rounds: int) -> dict[str, Any]:
    """A page of closed bars as JSON: requests/s at 32 connections, beside static bytes of that size from the same
    server; milliseconds at one connection that stays open, by the same client for all."""
    start, limit = market.times["a"], market.bars
    ours = f"/v1/bars?symbol={SYMBOL}&interval=1m&start={start.timestamp():.0f}&limit={limit}"
    where = QUESTIONS["closed"].format(t="ts", **{key: shown(at) for key, at in market.times.items()})
    theirs = "/exec?query=" + quote(f"select ts, {NUMBERS} from bars where {where}")
    nowhere = f"redis://127.0.0.1:{api._free_port()}/0"
    with api._server(dsn, redis_url, STATIC_BYTES="1") as port:
        size = str(len(api._get(port, ours)))
    with (
        api._server(dsn, redis_url, STATIC_BYTES=size) as port,
        api._server(dsn, redis_url, STATIC_BYTES="1", BARWRIGHT_PAGE_CACHE_BARS="0") as redis,
        api._server(dsn, nowhere, STATIC_BYTES="1", BARWRIGHT_PAGE_CACHE_BARS="0") as bare,
    ):
        paths = {"static_bytes": (port, "/static"), "barwright_cached": (port, ours), "barwright_redis": (redis, ours),
                 "barwright_database": (bare, ours), "questdb": (quest.port, theirs)}  # fmt: skip
        times: dict[str, list[float]] = {peer: [] for peer in paths}
        rates: dict[str, list[float]] = {"static_bytes": [], "barwright_cached": []}
        for _ in range(rounds):
            for peer, (of, path) in paths.items():
                times[peer] += _repeated_http(of, path)
            for peer, found in rates.items():
                found.append(api._load(*paths[peer], 1.0))
    return {
        "requests_per_s": compared(rates, "static_bytes", 0),
        "ms": {peer: api._percentiles(iter(took)) for peer, took in times.items()},
    }


def _repeated_http(port: int, path: str) -> list[float]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as link:

        def ask() -> None:
            link.request("GET", path)
            link.getresponse().read()

        ask()  # what this warms (a page in Redis, a plan) is what stays warm
        ask()
        return repeated(ask)


def history(dsn: str, redis_url: str, quest: Quest, market: Market, rounds: int) -> dict[str, Any]:
    """Seconds of all bars of all symbols, as files over HTTP, beside COPY of them in binary."""
    ours = (f"/v1/bars?symbol={ALL}&interval=1m&start={shown(market.times['start'])}"
            f"&end={shown(market.sealed)}&format=")  # fmt: skip
    theirs = quote(f"select ts, symbol, {NUMBERS} from bars where ts < '{shown(market.sealed)}'")
    times: dict[str, list[float]] = {}
    with export.server(dsn, redis_url) as (port, _):
        _complete([(port, ours), (quest.port, f"/exp?query={theirs}&fmt=")], market)
        for _ in range(rounds):
            for format in ("csv", "parquet", "arrow"):
                times.setdefault(f"barwright_{format}", []).append(export.drained(port, ours + format)[0])
            for format in ("csv", "parquet"):
                took = export.drained(quest.port, f"/exp?fmt={format}&query={theirs}")[0]
                times.setdefault(f"questdb_{format}", []).append(took)
            times.setdefault("copy_binary", []).append(_copied_out(dsn, market))
    return compared(times, "copy_binary")


def _complete(paths: list[tuple[int, str]], market: Market) -> None:
    """That the files hold all closed bars; also loads what makes them."""
    wanted = SYMBOLS * ((market.sealed - market.times["start"]) // timedelta(minutes=1))
    for port, path in paths:
        rows = questdb.get(port, path + "csv").count(b"\n") - 1
        stored = len(polars.read_parquet(questdb.get(port, path + "parquet")))
        assert rows == stored == wanted, f"{path}: {rows} and {stored} of {wanted} bars"


def _copied_out(dsn: str, market: Market) -> float:
    query = f"copy (select * from ohlcv_1m where bucket < '{shown(market.sealed)}') to stdout (format binary)"
    with sql.connect(dsn, "bench", autocommit=True) as connection, connection.cursor() as cursor:
        began = time.perf_counter()
        with cursor.copy(query.encode()) as rows:
            for _ in rows:
                pass
        return time.perf_counter() - began


def compared(rounds: dict[str, list[float]], first: str, digits: int = 3) -> dict[str, Any]:
    """The median of each figure, and of its ratio to `first` in the same round."""
    result: dict[str, Any] = {name: _median(found, digits) for name, found in rounds.items()}
    result[f"of_{first}"] = {
        name: _median([one / of for one, of in zip(found, rounds[first], strict=True)], 3)
        for name, found in rounds.items()
        if name != first
    }
    return result


def _median(found: list[float], digits: int) -> float:
    return round(statistics.median(found), digits or None)
