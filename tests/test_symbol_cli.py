"""The commands about symbols and their history, on a database of their own."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from barwright import cli, sql
from tests.api.vouched import Vouched
from tests.sql.market import Market

Run = Callable[..., Result]
D = datetime(2015, 3, 2, tzinfo=UTC)


@pytest.fixture
def run(database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The command line, attached to the test's database."""
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("BARWRIGHT_HOME", str(tmp_path))
    monkeypatch.delenv("SIMULATOR_URL", raising=False)
    return lambda *arguments: CliRunner().invoke(cli.cli, arguments)


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:
    with sql.connect(database, "test", autocommit=True) as connection:
        yield connection


def good(result: Result) -> str:
    """What a command that must succeed prints."""
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_add_list_and_remove(run: Run, connection: psycopg.Connection[Any]) -> None:
    assert "no symbols" in good(run("symbol", "list"))
    said = good(run("symbol", "add", "BTCUSD", "--source", "simulator", "--start", "2020-01-01"))
    assert "BTCUSD is registered: simulator is followed live (Coinbase~BTC~USD)" in said
    assert "since 2020-01-01 00:00 UTC is fetched from simulator, newest first" in said
    again = good(run("symbol", "add", "BTCUSD", "--source", "simulator", "--start", "2021-01-01"))
    assert "is registered already" in again
    assert "a start moves only back" in again
    earlier = good(run("symbol", "add", "BTCUSD", "--source", "simulator", "--start", "2019-01-01"))
    assert "now also what lies before 2020-01-01 00:00" in earlier
    silent = good(run("symbol", "add", "A/B:c", "--source", "kafka", "--start", "2019-01-01", "--json"))
    assert (json.loads(silent)["history_source"], json.loads(silent)["live"]) == (None, False)
    assert "BTCUSD" in good(run("symbol", "list"))
    [first, second] = map(json.loads, good(run("symbol", "list", "--json")).splitlines())
    assert (first["symbol"], first["gaps"]) == ("A/B:c", 0)
    assert (second["symbol"], second["gaps"], second["history_start"]) == ("BTCUSD", 1, "2019-01-01T00:00:00Z")
    assert "its data stay" in good(run("symbol", "remove", "BTCUSD"))
    assert "stopped" in good(run("symbol", "list"))
    assert "are gone" in good(run("symbol", "remove", "BTCUSD", "--purge"))
    assert "BTCUSD" not in good(run("symbol", "list"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["symbol", "add", "A", "--start", "2020-01-01"], "source is missing"),
        (["symbol", "add", "-", "--source", "simulator", "--start", "2020-01-01"], "is no symbol"),
        (["symbol", "add", "A", "--source", "simulater", "--start", "2020-01-01"], "Did you mean simulator?"),
        (["symbol", "add", "A", "--source", "simulator", "--start", "soon"], "is no time"),
        (["symbol", "add", "A", "--source", "simulator", "--start", "2199-01-01"], "in the future"),
        (["symbol", "add", "A", "--source", "simulator", "--market", "x", "--start", "2020-01-01"], "Coinbase~BTC~USD"),
        (["symbol", "remove", "NOBODY"], "There is no symbol NOBODY"), (["gaps", "NOBODY"], "There is no symbol"),
        (["backfill", "NOBODY"], "There is no symbol"), (["audit", "--symbol", "NOBODY"], "There is no symbol"),
    ],
)  # fmt: skip
def test_what_is_refused_is_said_in_a_sentence(run: Run, arguments: list[str], words: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert words in str(result.exception)


def test_the_markets_of_the_simulated_exchange_are_registered_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARWRIGHT_SIMULATOR_SYMBOLS", "BTCUSD, EUR/USD")
    assert good(run("symbol", "simulated")) == "registered: BTCUSD, EUR/USD\n"
    good(run("symbol", "remove", "BTCUSD"))
    assert good(run("symbol", "simulated")) == "registered: nothing new\n"
    listed = {row["symbol"]: row for row in map(json.loads, good(run("symbol", "list", "--json")).splitlines())}
    assert (listed["BTCUSD"]["stopped"], listed["EUR/USD"]["stopped"]) == (True, False)
    monkeypatch.setenv("BARWRIGHT_SIMULATOR_SYMBOLS", "no symbol")
    assert "BARWRIGHT_SIMULATOR_SYMBOLS: 'no symbol' is no symbol." in str(run("symbol", "simulated").exception)


def test_gaps(run: Run, connection: psycopg.Connection[Any]) -> None:
    assert good(run("gaps")) == "no gaps\n"
    v = (
        Vouched(connection, "A")
        .register(D)
        .imported((D, D + timedelta(days=1)), (D + timedelta(days=2), D.replace(year=2199)))
    )
    assert (
        good(run("gaps", "A", "--json")) == '{"symbol":"A","from":"2015-03-03T00:00:00Z","to":"2015-03-04T00:00:00Z"}\n'
    )
    assert "2015-03-03 00:00:00" in good(run("gaps"))
    v.imported((D, D.replace(year=2199)))
    assert good(run("gaps", "A", "--json")) == ""


def test_backfill_shows_how_far_it_is_until_all_is_there(
    run: Run, connection: psycopg.Connection[Any], database: str
) -> None:
    Vouched(connection, "A").register(D).imported((D + timedelta(days=9), D.replace(year=2199)))
    asked = json.loads(good(run("backfill", "A", "--no-wait", "--json")))
    assert (asked["tasks_filed"], asked["tasks_open"], asked["seconds_missing"]) == (9, 9, 9 * 86400)
    connection.execute("update backfill_task set error = 'the exchange is away' where id = 1")

    def land() -> None:
        with sql.connect(database, "test", autocommit=True) as other:
            for n in range(9):
                time.sleep(0.4)
                Vouched(other, "A").imported((D + timedelta(days=8 - n), D + timedelta(days=9 - n)))
            other.execute("update backfill_task set status = 'landed', landed_at = now(), rows = 1440")

    landing = threading.Thread(target=land)
    landing.start()
    said = run("backfill", "A")
    landing.join()
    lines = said.stderr.splitlines()
    assert said.exit_code == 0, said.output
    assert lines[0] == "0 tasks filed"
    assert "the exchange is away" in lines[1]
    assert any("about" in line and "left" in line for line in lines), lines
    assert lines[-1].startswith("A: 100 %")
    again = json.loads(good(run("backfill", "A", "--again", "--start", "2015-03-04", "--end", "2015-03-05", "--no-wait",
                                "--json")))  # fmt: skip
    assert (again["tasks_filed"], again["tasks_open"], again["seconds_missing"]) == (1, 1, 0)
    good(run("symbol", "add", "SILENT", "--source", "kafka", "--start", "2020-01-01"))
    assert "Nobody asked for the history" in str(run("backfill", "SILENT").exception)


def test_a_terminal_sees_a_bar(run: Run, connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    Vouched(connection, "A").register(D).imported((D, D.replace(year=2199)))
    shown = run("backfill", "A")
    assert shown.exit_code == 0, shown.exception
    assert "100 %, 0 bars, 0 tasks open" in shown.stderr
    assert "\x1b[" in shown.stderr


def test_audit(run: Run, connection: psycopg.Connection[Any]) -> None:
    assert "0 bars looked at, 0 findings" in good(run("audit"))
    connection.execute("insert into symbols (symbol) values ('A')")
    m = Market(connection, "A", era=count(2016))
    m.insert(*(m.trade(m.at("02-01 00:00") + timedelta(minutes=7 * n), str(n + 1)) for n in range(60)))
    m.seal("02-03 00:00")
    assert "0 wrong" in good(run("audit", "--symbol", "A", "--all"))
    # A trade that nobody noted as late.
    connection.execute("insert into ticks (symbol, ts, seq, price, size) values ('A', %s, 1000000, 5, 1)",
                       (m.at("02-01 00:03"),))  # fmt: skip
    result = run("audit", "--all", "--json")
    found = [json.loads(line) for line in result.output.splitlines()]
    assert result.exit_code == 1
    # What is built on it awaits its repair and is not judged.
    assert [(line["interval"], line["bucket"]) for line in found[:-1]] == [("1m", "2016-02-01T00:03:00Z")]
    assert (found[-1]["wrong"], found[-1]["not_judged"]) == (1, 6)
    told = [json.loads(line) for line in good(run("audit", "--json", "--symbol", "A")).splitlines()]
    assert told[0]["findings"] == 1
    assert [(line["expected"]["trades"], line["found"]) for line in told[1:]] == [(1, None)]
    assert "2016-02-01 00:03:00" in good(run("audit"))
    m.repair()
    assert run("audit", "--all").exit_code == 0
