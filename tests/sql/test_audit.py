"""The auditor finds what differs from its ticks, and the next round puts it right; on both engines."""

from collections.abc import Callable
from typing import Any

import pytest

from barwright.sql.engine import levels
from tests.sql.market import Market

New = Callable[..., Market]


@pytest.fixture
def m(new: New) -> Market:
    """A rolled-up day of trades, ties and an imported bar."""
    m = new()
    m.insert(
        *(
            m.trade(f"03-01 {n % 24:02}:{n % 60:02}:{n % 7:02}", str(100 + n % 13), f"0.{n + 1}", "bs"[n % 2])
            for n in range(90)
        )
    )
    m.insert(m.bar("03-01 07:31", "1 2 0.5 1.50", "3", "4.5", 6), m.trade("03-01 08:00:00", "3", side=None))
    m.connection.execute("insert into symbols (symbol) values (%s)", (m.symbol,))
    m.seal("03-10 00:00")
    return m


def audit(m: Market, interval: str, bucket: str) -> bool | None:
    """What the auditor says of one bucket."""
    row = m.connection.execute("select audit_bucket(%s, %s, %s)", (m.symbol, interval, m.at(bucket))).fetchone()
    assert row is not None
    return row[0]  # type: ignore[no-any-return]


def spoil(m: Market, interval: str, change: str) -> None:
    """Change what the engine holds of a level, behind its back."""
    table = f"rollup_{interval}"
    if m.engine.name == "timescaledb":
        row = m.connection.execute(
            "select format('%%I.%%I', materialization_hypertable_schema, materialization_hypertable_name) "
            "from timescaledb_information.continuous_aggregates where view_name in (%s, %s)",
            (f"ohlcv_{interval}", f"cagg_{interval}"),
        ).fetchone()
        assert row is not None
        table = row[0]
    m.connection.execute(change.format(table=table), {"symbol": m.symbol})


def findings(m: Market) -> list[tuple[Any, ...]]:
    """(interval, expected high, found high, repaired) of this market."""
    return m.connection.execute(
        "select \"interval\", expected->>'high', found->>'high', repaired_at is not null from audit_finding "
        "where symbol = %s order by id", (m.symbol,)).fetchall()  # fmt: skip


def test_right_bars_and_empty_buckets_pass(m: Market) -> None:
    for level in levels(m.connection):
        for bucket in ("03-01 00:00", "03-01 08:00", "03-02 00:00"):
            start = level.floor(m.at(bucket)).strftime("%m-%d %H:%M")
            assert audit(m, level.name, start) is True, (level.name, bucket)
    assert audit(m, "1m", "03-01 07:31") is True
    assert audit(m, "1m", "03-20 00:00") is None  # not closed
    assert findings(m) == []


@pytest.mark.parametrize("interval", ["1m", "15m", "1h", "1d"])
def test_a_changed_bar_is_found_and_repaired(m: Market, interval: str) -> None:
    bucket = "03-01 00:00"
    spoil(m, interval, "update {table} set high = 999 where symbol = %(symbol)s")
    assert audit(m, interval, bucket) is False
    assert audit(m, interval, bucket) is None  # it awaits repair
    assert findings(m)[0][2] == "999"
    m.repair()
    m.connection.execute("select finish_findings()")
    assert findings(m)[0][3] is True
    assert audit(m, interval, bucket) is True
    first = m.bars(interval)[0]
    assert first == m.oracle(interval)[0]


def test_a_missing_bar_and_one_too_many_are_found(m: Market) -> None:
    spoil(m, "5m", "delete from {table} where symbol = %(symbol)s")
    assert audit(m, "5m", "03-01 00:00") is False
    m.connection.execute("delete from ticks where symbol = %s and ts >= %s", (m.symbol, m.at("03-01 23:00")))
    m.connection.execute("delete from late_range")
    assert audit(m, "1h", "03-01 23:00") is False


def test_two_times_with_one_seq_are_told(m: Market) -> None:
    m.insert(m.trade("03-01 12:12:01", "1", seq=5), m.trade("03-01 12:12:02", "2", seq=5))
    m.repair()
    audit(m, "1m", "03-01 12:12")
    audit(m, "1m", "03-01 12:12")
    assert [f[0] for f in findings(m)] == ["seq"]


def test_a_sample_is_a_bucket_of_a_day_that_has_bars(m: Market) -> None:
    for _ in range(20):
        row = m.connection.execute("select symbol, bucket from audit_sample(%s)", (m.symbol,)).fetchone()
        assert row is not None
        assert row[0] == m.symbol
        assert m.at("03-01 00:00") <= row[1] < m.at("03-02 00:00")
