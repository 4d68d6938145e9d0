"""`barwright storage`, and settings of compression and retention that would lose bars."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from barwright import cli, sql
from barwright.ingest.policies import apply
from barwright.settings import Settings
from barwright.sql.engine import engine_of, levels
from tests import citus


def test_it_tells_rows_bytes_and_what_comes_next(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start = today - timedelta(days=20)
    with sql.connect(database, "test", autocommit=True) as connection:
        connection.execute("update level set sealed = %(start)s, watermark = %(start)s", {"start": start})
        connection.execute(
            "select prepare_ticks(array(select generate_series(%s, %s, interval '1 day')))", (start, today)
        )
        connection.execute(
            "insert into ticks (symbol, ts, seq, price, size) select 'A', %s + n * interval '1 minute', n, 1, 1 "
            "from generate_series(0, 20 * 1440 - 1) as n",
            (start,),
        )
        connection.execute("select move_seal(%s)", (today,))
        engine = engine_of(connection)
        for level in levels(connection):
            engine.advance(level.name)
        assert "has not applied" in CliRunner().invoke(cli.cli, ["storage"]).output
        assert apply(connection, Settings(compress_after_days=2, raw_retention_days=6))
        citus.analyze(connection)
    done = CliRunner().invoke(cli.cli, ["storage", "--json"])
    assert done.exit_code == 0, done.output
    rows = {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert [*rows] == ["ticks", "1m", "5m", "15m", "30m", "1h", "4h", "1d"]
    assert rows["1d"]["rows"] == 20
    assert rows["1m"]["rows"] == 20 * 1440
    ticks = rows["ticks"]
    assert 6 * 1440 <= ticks["rows"] <= 13 * 1440
    assert ticks["bytes"] > ticks["index_bytes"] > 0
    assert ticks["bytes_per_row"] > 0
    assert (ticks["keep"], ticks["compress_after"]) == (6, 2)
    assert start.isoformat() < ticks["since"].replace("Z", "+00:00") == ticks["oldest"].replace("Z", "+00:00")
    if ticks["engine"] == "timescaledb":
        assert ticks["compressed_bytes_per_row"] < ticks["plain_bytes_per_row"]
    table = CliRunner(env={"COLUMNS": "200"}).invoke(cli.cli, ["storage"]).output
    assert f"drops {ticks['drops_at'][:10]}" in table
    assert "kept for ever" in table or ticks["engine"] == "timescaledb"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"raw_retention_days": 1}, "4 days at least"),
        ({"raw_retention_days": 5, "correction_hours": 96}, "6 days at least"),
        ({"raw_retention_days": 5, "compress_after_days": 7}, "dropped before they are compressed"),
        ({"raw_retention_days": 10, "refresh_floor_days": 10}, "a day less"),
        ({"level_retention": "1m=730"}, "BARWRIGHT_RAW_RETENTION_DAYS of at most 730"),
        ({"raw_retention_days": 30, "level_retention": "1m=20"}, "ticks: 30 days"),
        ({"raw_retention_days": 30, "level_retention": "5m=60"}, "1m: for ever"),
        ({"raw_retention_days": 30, "level_retention": "1m=90,5m=60"}, "1m: 90 days"),
        ({"raw_retention_days": 30, "level_retention": "1m=60,1d=90"}, "1d is kept for ever"),
        ({"level_retention": "2m=60"}, "no level '2m'"),
        ({"level_retention": "1m"}, "not LEVEL=DAYS"),
        ({"raw_retention_days": 30, "level_retention": "1m=nan"}, "more than 0"),
        ({"raw_retention_days": 30, "level_retention": "1m=inf"}, "more than 0"),
        ({"raw_retention_days": float("inf")}, "finite"),
        ({"compress_after_days": float("inf")}, "finite"),
        ({"chunk_hours": 5}, "take one of 1, 2, 3"),
    ],
)
def test_settings_that_would_lose_bars_are_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Settings(**given)


def test_what_is_left_empty_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COMPRESS_AFTER_DAYS", "RAW_RETENTION_DAYS", "REFRESH_FLOOR_DAYS", "CHUNK_HOURS", "LEVEL_RETENTION"):
        monkeypatch.setenv(f"BARWRIGHT_{name}", "")
    settings = Settings()
    assert (settings.compress_after_days, settings.raw_retention_days, settings.chunk_hours) == (0, None, None)
    assert settings.level_days == {}
    assert settings.refresh_floor == 30
    assert Settings(raw_retention_days=8, compress_after_days=2).refresh_floor == 7
