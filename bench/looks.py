"""What a look at the open minute of all symbols of a lane takes while that minute fills: by the view, and by what is
carried from look to look, in turn in one run. `python -m bench.looks --json FILE`."""

import json
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import psycopg

from barwright import sql
from barwright.api.database import _SETTINGS
from barwright.api.encode import NULL
from barwright.api.intervals import moment
from barwright.api.stream.carry import Carry, Held
from barwright.api.stream.lane import TAILS_SQL
from barwright.embedded.postgres import Postgres
from bench.__main__ import machine, migrated, server

SYMBOLS, RATE, TOGETHER = 200, 5_000, 10
SECONDS, TURNS = (5, 15, 25, 35, 45, 55), 7
FILL = """
insert into ticks (ts, symbol, seq, price, size, side)
select %(start)s::timestamptz + n * interval '1 second' / %(rate)s, 'S' || (n / %(together)s) %% %(symbols)s, n,
       100 + n * 0.001, 0.5, 'b'
from generate_series(%(first)s::integer, %(last)s - 1) as n
"""


class Series:
    """One that is followed."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.held: Held | None = None


def measure(dsn: str) -> list[dict[str, Any]]:
    """On an empty migrated database; milliseconds, medians. Between two looks a tenth of a second's ticks land."""
    with sql.connect(dsn, "bench", autocommit=True) as writer, sql.connect(dsn, "serve", **_options()) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        row = writer.execute("select watermark from level where name = '1m'").fetchone()
        assert row
        writer.execute("insert into symbols (symbol) select 'S' || n from generate_series(0, %s) as n", (SYMBOLS - 1,))
        writer.execute("select prepare_ticks(array[%s])", (row[0],))
        carry, series, landed = Carry(), [Series(f"S{n}") for n in range(SYMBOLS)], 0
        lo = int(row[0].timestamp())
        tails = {"symbols": [one.symbol for one in series], "lo": moment(lo), "null": NULL}
        result = []
        for second in SECONDS:
            found: dict[str, list[float]] = {"view": [], "carried": []}
            for _ in range(TURNS):
                goal = max(landed + RATE // 10, (second * RATE) - TURNS * RATE // 10)
                while landed < goal:
                    last = min(landed + RATE // 10, goal)
                    writer.execute(FILL, {"start": row[0], "rate": RATE, "together": TOGETHER, "symbols": SYMBOLS,
                                          "first": landed, "last": last})  # fmt: skip
                    landed = last
                    if landed < goal - RATE // 10:
                        continue
                    with reader.transaction():  # it has looked just before
                        _carried(reader, carry, series, lo)
                with reader.transaction():
                    began = time.perf_counter()
                    bars = _carried(reader, carry, series, lo)
                    found["carried"].append(time.perf_counter() - began)
                    began = time.perf_counter()
                    truth = reader.execute(TAILS_SQL["1m"], tails).fetchall()
                    found["view"].append(time.perf_counter() - began)
                assert sorted(bars) == sorted(truth)
            result.append({"second": second, "ticks": landed} | {f"{kind}_ms": round(statistics.median(took) * 1e3, 1)
                                                                for kind, took in found.items()})  # fmt: skip
            click.echo(result[-1])
        return result


def _options() -> dict[str, Any]:
    return {"prepare_threshold": 0, **sql.connection_options("serve", False, **_SETTINGS)}


def _carried(reader: psycopg.Connection[Any], carry: Carry, series: list[Series], lo: int) -> list[Any]:
    found, others = carry.take(series, lo, *[reader.execute(*query).fetchall() for query in carry.queries(series, lo)])
    assert not others or len(others) < SYMBOLS
    return found


@click.command()
@click.option("--json", "file", type=click.Path(path_type=Path), help="where the figures are kept")
def main(file: Path | None) -> None:
    """Looks."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(server("DATABASE_URL", Postgres(home)))
        dsn = stack.enter_context(migrated(url))
        result = {"machine": machine(url), "symbols": SYMBOLS, "ticks_per_s": RATE, "looks": measure(dsn)}
    if file:
        file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
