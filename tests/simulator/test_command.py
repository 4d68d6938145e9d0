"""`barwright simulator`: the truth on standard output, faults by a word."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from barwright import cli
from barwright.errors import BarwrightError
from barwright.simulator.bars import bars
from barwright.simulator.buckets import INTERVALS
from barwright.simulator.command import INTERVALS as OFFERED
from barwright.simulator.exchange import Exchange
from barwright.simulator.times import minute_of
from tests.simulator.conftest import BITCOIN, Running

Call = Callable[..., Result]
SPAN = ("--start", "2024-01-31T23:00Z", "--end", "2024-02-01T03:00:00+01:00")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """A command where no exchange runs."""
    monkeypatch.setenv("BARWRIGHT_HOME", str(tmp_path))
    monkeypatch.setenv("SIMULATOR_URL", "http://127.0.0.1:1")

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli.cli, ["simulator", *arguments])

    return run


def test_bars_are_printed_as_csv(call: Call) -> None:
    done = call("bars", "--symbol", "BTCUSD", *SPAN, "--seed", "3")
    rows = list(csv.DictReader(io.StringIO(done.output)))
    assert list(rows[0]) == ["bucket", "open", "high", "low", "close", "volume", "quote_volume", "trades", "buy_volume"]
    market = Exchange(3, 8.0).market(BITCOIN)
    (truth,) = bars(market, minute_of("2024-01-31T23:00"), minute_of("2024-02-01T02:00"))
    assert (rows[0]["bucket"], rows[-1]["bucket"]) == ("2024-01-31T23:00:00Z", "2024-02-01T01:59:00Z")
    assert [int(row["trades"]) for row in rows] == truth.trades.tolist()
    assert [Decimal(row["volume"]).scaleb(market.size_places) for row in rows] == truth.volume.tolist()
    assert [Decimal(row["high"]).scaleb(market.price_places) for row in rows] == truth.high.tolist()
    assert not any("E" in cell or cell.endswith((".", ".0")) for row in rows for cell in row.values())


def test_every_interval_and_the_market_by_name(call: Call) -> None:
    assert OFFERED == INTERVALS
    for interval in INTERVALS:
        done = call(
            "bars", "--market", "Kraken~ETH~EUR", "--start", "2024-02-01", "--end", "2024-02-02", "--interval", interval
        )
        lines = done.output.splitlines()
        assert (
            len(lines)
            == {"1m": 1440, "5m": 288, "15m": 96, "30m": 48, "1h": 24, "4h": 6, "1d": 1, "1mo": 1}.get(interval, 0) + 1
        )


def test_a_year_of_minutes_takes_seconds(running: Running) -> None:
    start = time.monotonic()
    done = running.barwright("simulator", "bars", "--symbol", "BTCUSD", "--start", "2023-01-01", "--end", "2024-01-01",
                             "--interval", "1d")  # fmt: skip
    assert len(done.stdout.splitlines()) == 366
    assert time.monotonic() - start < 20


def test_trades_sum_to_the_bar(call: Call) -> None:
    span = ("--start", "2024-02-01T00:00Z", "--end", "2024-02-01T00:01Z")
    rows = list(csv.DictReader(io.StringIO(call("trades", "--symbol", "X/Y", *span).output)))
    (bar,) = csv.DictReader(io.StringIO(call("bars", "--symbol", "X/Y", *span).output))
    assert sum(Decimal(row["size"]) for row in rows) == Decimal(bar["volume"])
    assert (rows[0]["price"], rows[-1]["price"], len(rows)) == (bar["open"], bar["close"], int(bar["trades"]))
    assert {row["side"] for row in rows} <= {"buy", "sell"}


def test_the_running_exchange_is_asked_for_its_seed(running: Running) -> None:
    span = ("--symbol", "ETHUSD", "--start", "2024-02-01", "--end", "2024-02-01T00:05Z")
    own = running.barwright("simulator", "bars", *span).stdout
    market = Exchange(1, 100.0).market("Coinbase~ETH~USD")
    assert [int(line.split(",")[7]) for line in own.splitlines()[1:]] == next(
        bars(market, minute_of("2024-02-01"), minute_of("2024-02-01") + 5)
    ).trades.tolist()
    assert running.barwright("simulator", "bars", *span, "--seed", "9").stdout != own


def test_faults_by_a_word(faulty: Running) -> None:
    done = faulty.barwright("simulator", "fault", "lose", "--seconds", "60", "--share", "0.25", "--symbol", "BTCUSD")
    told = json.loads(done.stdout)
    assert (told["kind"], told["share"], told["market"]) == ("lose", 0.25, BITCOIN)
    assert json.loads(faulty.barwright("simulator", "fault", "list").stdout)["id"] == told["id"]
    assert json.loads(faulty.barwright("simulator", "fault", "clear").stdout)["id"] == told["id"]
    assert faulty.barwright("simulator", "fault", "list").stdout == ""
    refused = faulty.barwright("simulator", "fault", "lose", "--share", "2")
    assert (refused.returncode, "Traceback" in refused.stderr) == (1, False)


def test_what_cannot_be_is_said(call: Call, running: Running) -> None:
    assert "Name a --symbol" in str(call("bars", *SPAN).exception)
    assert "is no time" in str(call("bars", "--symbol", "A", "--start", "soon", "--end", "2024-01-01").exception)
    assert "is no market" in str(call("bars", "--market", "A", *SPAN).exception)
    assert isinstance(call("fault", "lose").exception, BarwrightError)
    second = running.barwright("simulator")
    assert second.returncode == 1
    assert "cannot listen" in second.stderr
