"""A short run of the state machine: whatever hypothesis does to a whole Barwright, each message and bar is accounted
for. `make torture` is the long one."""

import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from tests import oracle
from tests.torture import plan
from tests.torture.sums import EPOCH, Sums, exact

# Another seed each time would make a red run hard to repeat; `make torture` takes a new one.
SEED = 8


@pytest.mark.alone  # it breaks all there is
def test_every_message_is_accounted_for(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.torture", "--minutes", "0.1", "--seed", str(SEED), "--rate", "300",
               "--steps", "8", "--examples", "2", "--no-market", "--keep", tmp_path / "torture"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "every message and every bar is accounted for" in done.stdout


@pytest.mark.parametrize("interval", [*oracle.WIDTHS, "1mo"])
def test_the_sums_of_the_load_are_the_oracles(interval: str) -> None:
    sums, ticks = Sums(), {}
    begin = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp() * 1000)
    for segment in (plan.Segment(0, begin, 50, 0, 3000), plan.Segment(3000, begin + 60_000, 50, -5000, 6000),
                    plan.Segment(6000, begin + 120_000, 50, 86_400_000, 6500)):  # fmt: skip
        sums.take(segment)
        for n in range(segment.first, segment.end):
            if plan.kind(n) != "bad" and not segment.is_ahead:
                t = plan.trade(segment, n)
                ticks[t.n] = _tick(t)
    assert sums.bars(interval) == oracle.bars(ticks.values(), interval)
    assert sums.counts["accepted"] == len(ticks)
    assert sums.counts.total() == 6500


def _tick(t: plan.Trade) -> dict[str, object]:
    return {"symbol": f"L{t.symbol}", "ts": EPOCH.fromtimestamp(t.ts / 1000, UTC), "seq": t.n,
            "price": exact(t.price, plan.PRICE), "size": exact(t.size, plan.SIZE), "side": "b" if t.buys else "s",
            "open": None, "high": None, "low": None, "quote": Decimal(0), "trades": None}  # fmt: skip
