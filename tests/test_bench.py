"""What measures us beside others: their bars are ours, and the harness runs."""

import json
from contextlib import ExitStack
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bench import __main__ as bench
from bench import curves, frames, growth, market, peers, picture
from tests import oracle
from tests.services import ROOT


def test_bars_of_pandas_duckdb_and_polars_are_the_oracles() -> None:
    rows = [market.row(market.tick(n)) for n in range(2_000)]
    ticks = [
        {"symbol": symbol, "ts": datetime.fromisoformat(ts), "seq": int(seq), "price": Decimal(price),
         "size": Decimal(size), "side": side}
        for ts, symbol, seq, price, size, side in rows
    ]  # fmt: skip
    names = market.NUMBERS.split(", ")
    right = frames.bars((bar["bucket"], bar["symbol"], *(bar[name] for name in names))
                        for bar in oracle.bars(ticks, "1m"))  # fmt: skip
    table = frames.frame(rows)
    with frames.database(table) as duckdb:
        frames.same(right, frames.bars(frames.by_duckdb(duckdb)), 0, "duckdb")
    frames.same(right, frames.bars(frames.by_polars(table).rows()), 0, "polars")
    pandas = frames.by_pandas(frames.floats(table)).itertuples(index=False, name=None)
    frames.same(right, frames.bars(pandas), 1e-9, "pandas")


@pytest.mark.parametrize("within", [0, 1e-9])
def test_a_wrong_bar_is_no_peers(within: float) -> None:
    right: frames.Bars = {("A", 0): (Decimal("1.5"), 2)}
    with pytest.raises(AssertionError, match="x has 0 bars, we have 1"):
        frames.same(right, {}, within, "x")
    with pytest.raises(AssertionError, match=r"instead of 1\.5"):
        frames.same(right, {("A", 0): (Decimal("1.50001"), 2)}, within, "x")


def test_the_pictures_show_the_figures_that_are_kept() -> None:
    results, docs = ROOT / "bench" / "results", ROOT / "docs"
    assert (docs / "bench.svg").read_text() == picture.picture(json.loads((results / "peers.json").read_text()))
    soak = json.loads((results / "soak.json").read_text())
    assert (docs / "soak.svg").read_text() == curves.picture(soak)
    assert curves.table(soak["samples"]) in (docs / "proof.md").read_text()


@pytest.mark.slow
def test_peers_and_growth_run_to_their_end(postgres: Any, kafka: Any, valkey: Any, tmp_path: Path) -> None:
    with ExitStack() as stack:
        dsn = stack.enter_context(bench.migrated(postgres.url))
        result = peers.measure(dsn, kafka.url, valkey.url, tmp_path, ticks=20_000, rounds=1)
    with bench.migrated(postgres.url) as dsn:
        grown = growth.measure(dsn, kafka.url, valkey.url, lambda: bench.migrated(postgres.url), ticks=10_000, rounds=1)
    assert result["query_ms"]["closed"]["rows"] == market.Market(20_000).bars
    assert grown["times_small"].keys() == {"symbols", "days"}
    whole = json.loads(json.dumps({"machine": bench.machine(postgres.url), "peers": result}))
    assert picture.picture(whole).count("<rect") > 40
