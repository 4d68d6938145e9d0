"""The main job on a running instance: trades go in by Kafka, exact bars come out of the API and the views."""

import csv
import json
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from kafka import KafkaProducer

from tests import oracle
from tests.services import ROOT
from tests.test_run import Running, whole

DATA = ROOT.parent / "shared" / "data"
FIELDS = ("open", "high", "low", "close", "volume", "quote_volume", "vwap", "trades", "buy_volume", "imported")
ALL = (*oracle.WIDTHS, "1mo")


class Instance:
    """A running Barwright and its clients."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.variables = running.variables()
        self.api = httpx.Client(base_url=f"http://127.0.0.1:{self.variables['BARWRIGHT_PORT']}", timeout=30)
        self.sql = psycopg.connect(self.variables["DATABASE_URL"], autocommit=True)
        self.kafka = KafkaProducer(bootstrap_servers=self.variables["KAFKA_BOOTSTRAP_SERVERS"], acks="all")

    def close(self) -> None:
        self.api.close()
        self.sql.close()
        self.kafka.close()

    def send(self, symbol: str, value: Any) -> None:
        """One record to the tick topic."""
        self.kafka.send("tick-data", key=symbol.encode(), value=json.dumps(value).encode()).get(10)

    def bars(self, symbol: str, interval: str, **parameters: Any) -> list[dict[str, Any]]:
        """Every bar by following the cursor, numbers as decimals."""
        found: list[dict[str, Any]] = []
        cursor: dict[str, Any] = {"start": "1970-01-01", **parameters}
        while True:
            answer = self.api.get("/v1/bars", params={"symbol": symbol, "interval": interval, **cursor})
            if answer.status_code == 404:
                return []
            assert answer.status_code == 200, answer.text
            page = json.loads(answer.text, parse_float=Decimal, parse_int=Decimal)
            found += page["bars"]
            if not page["next_cursor"]:
                return found
            cursor = {"cursor": page["next_cursor"], **parameters}

    def view(self, symbol: str, interval: str) -> list[dict[str, Any]]:
        """The same from SQL."""
        rows = self.sql.execute(f"select bucket, {', '.join(FIELDS)} from ohlcv_{interval} "
                                "where symbol = %s order by bucket", (symbol,))  # fmt: skip
        return [dict(zip(("bucket", *FIELDS), row, strict=True)) for row in rows]


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """`barwright run`."""
    with whole(tmp_path_factory.mktemp("end-to-end")) as running:
        instance = Instance(running)
        yield instance
        instance.close()


def within(seconds: float, read: Callable[[], Any], wanted: Any) -> None:
    """Read until it is as wanted; what was read last is compared when time is up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if read() == wanted:
            return
        time.sleep(0.1)
    assert read() == wanted


def compact(bars: list[dict[str, Any]], fields: tuple[str, ...] = FIELDS) -> list[tuple[Any, ...]]:
    """Bars as tuples, buckets as times."""
    return [(when(bar["bucket"]), *(bar[field] for field in fields)) for bar in bars]


def when(bucket: str | datetime) -> datetime:
    return datetime.fromisoformat(bucket) if isinstance(bucket, str) else bucket


def market(symbol: str, trades: int, seed: int) -> list[dict[str, Any]]:
    """A few days of trades with ties, bursts and holes, as rows of `ticks`."""
    rng, ts = random.Random(seed), datetime(2023, 2, 26, 22, tzinfo=UTC)
    rows, price = [], 1000
    for n in range(trades):
        ts += timedelta(milliseconds=rng.choice([0, 0, 1, 30, 2_000, 9_000, 60_000]) if rng.random() < 0.999 else 10**7)
        price = max(1, price + rng.randrange(-9, 10))
        size = Decimal(rng.randrange(0, 10**12)) / 10**8
        row = {"symbol": symbol, "ts": ts, "seq": n + 1, "price": Decimal(price) / 1000, "size": size}
        rows.append({**row, "side": rng.choice("bs"), **dict.fromkeys(("open", "high", "low", "quote", "trades"))})
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows as a CSV that `replay` takes."""
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["ts", "id", "side", "price", "size", "symbol"])
        for row in rows:
            side = {"b": "buy", "s": "sell"}[row["side"]]
            out.writerow(
                [row["ts"].isoformat(), row["seq"], side, f"{row['price']:f}", f"{row['size']:f}", row["symbol"]]
            )
    return path


def test_a_real_day_gives_the_bars_the_exchange_published(instance: Instance) -> None:
    if not DATA.exists():
        pytest.skip("the real trades are not here (../shared/data)")
    status, _, errors = instance.running.ask("replay", str(DATA / "XRPETH-trades.csv"), "--symbol", "XRPETH")
    assert status == 0, errors
    fields = ("open", "high", "low", "close", "volume")
    for interval, count in (("1m", 2469), ("5m", 706)):
        with (DATA / f"XRPETH-{interval}.csv").open() as file:
            published = [(when(row["bucket"]), *(Decimal(row[f]) for f in fields)) for row in csv.DictReader(file)]
        assert len(published) == count
        within(5, lambda i=interval: compact(instance.bars("XRPETH", i), fields), published)  # type: ignore[misc]
        assert compact(instance.view("XRPETH", interval), fields) == published


def test_random_trades_out_of_order_give_the_oracle_s_bars_at_every_interval(
    instance: Instance, tmp_path: Path
) -> None:
    """Two symbols (one with a slash) in one file, lines shuffled, replayed twice: nothing is lost or doubled."""
    rows = market("TEST/A", 3000, seed=1) + market("test:b", 3000, seed=2)
    shuffled = random.Random(3).sample(rows, len(rows))
    file = str(write(tmp_path / "trades.csv", shuffled))
    for _ in range(2):
        assert instance.running.ask("replay", file, "--speed", "max")[0] == 0
    for symbol in ("TEST/A", "test:b"):
        truth = {i: compact(oracle.bars([r for r in rows if r["symbol"] == symbol], i)) for i in ALL}
        within(5, lambda s=symbol: {i: compact(instance.bars(s, i)) for i in ALL}, truth)  # type: ignore[misc]
        assert {i: compact(instance.view(symbol, i)) for i in ALL} == truth
        pages = instance.bars(symbol, "1m", order="desc", limit=7 * 100)
        assert compact(pages[::-1]) == truth["1m"]


def test_bad_lines_are_counted_and_the_good_ones_land(instance: Instance, tmp_path: Path) -> None:
    rows = market("BADLINES", 50, seed=4)
    file = write(tmp_path / "bad.csv", rows)
    lines = file.read_text().splitlines()
    lines[10:10] = ["nonsense", "2023-01-01T00:00:00Z,7,buy,NaN,1,BADLINES", "2023-01-01T00:00:00Z,8,buy,-1,1,BADLINES"]
    file.write_text("\n".join(lines))
    status, output, errors = instance.running.ask("replay", str(file))
    assert status == 1
    assert "3" in (output + errors).strip().splitlines()[-1]
    assert all(f"{n}" in output + errors for n in (11, 12, 13))
    within(5, lambda: compact(instance.view("BADLINES", "1h")), compact(oracle.bars(rows, "1h")))


def test_a_late_tick_is_right_in_the_api_within_two_seconds(instance: Instance, tmp_path: Path) -> None:
    rows = market("LATE", 500, seed=5)
    assert instance.running.ask("replay", str(write(tmp_path / "late.csv", rows)))[0] == 0
    within(5, lambda: compact(instance.bars("LATE", "1d")), compact(oracle.bars(rows, "1d")))
    late = {**rows[100], "seq": 9999, "price": Decimal("77777.5"), "side": "s"}
    instance.send("LATE", {"type": "trade", "symbol": "LATE", "ts": late["ts"].isoformat(), "id": 9999,
                           "price": "77777.5", "size": f"{late['size']:f}", "side": "sell"})  # fmt: skip
    truth = {i: compact(oracle.bars([*rows, late], i)) for i in ALL}
    # 2 s for the repair and half a second until every API process has looked at the log.
    within(2.5, lambda: {i: compact(instance.bars("LATE", i)) for i in ALL}, truth)


def test_an_imported_bar_replaces_its_trades(instance: Instance) -> None:
    bar = {"type": "bar", "symbol": "IMPORT", "interval": "1m", "ts": "2023-03-01T00:00:00Z", "open": "10",
           "high": "20", "low": "5", "close": "15", "volume": "7.5", "quote_volume": "99.25", "trades": 12}  # fmt: skip
    trade = {"type": "trade", "symbol": "IMPORT", "ts": "2023-03-01T00:00:30Z", "id": "1", "price": "99", "size": "1"}
    instance.send("IMPORT", [trade, bar])
    wanted = [(when("2023-03-01T00:00:00Z"), 10, 20, 5, 15, Decimal("7.5"), Decimal("99.25"),
               Decimal("13.233333333333"), 12, None, True)]  # fmt: skip
    within(5, lambda: compact(instance.bars("IMPORT", "1d")), wanted)


def test_bad_messages_are_kept_and_can_be_sent_again(instance: Instance) -> None:
    good = {"type": "trade", "symbol": "DEAD", "ts": "2023-03-01T00:00:30Z", "id": "1", "price": "99", "size": "1"}
    instance.send("DEAD", [good, {**good, "id": "2", "price": "NaN"}, {**good, "id": "3", "price": "98"}])
    within(5, lambda: [bar[8] for bar in compact(instance.view("DEAD", "1d"))], [2])
    status, output, errors = instance.running.ask("dead-letters")
    assert status == 0, errors
    assert "price" in output


def test_live_bars_move(instance: Instance) -> None:
    """The simulated market is there without anyone's doing, and its newest bar is this very minute's."""
    answer = instance.api.get("/v1/bars/latest", params={"symbol": "BTCUSD"}).json()
    newest = next(iter(answer["bars"])) if isinstance(answer["bars"], list) else answer["bars"]["BTCUSD"]
    assert datetime.now(UTC) - when(newest["bucket"]) < timedelta(minutes=2)
    assert newest["closed"] is False
