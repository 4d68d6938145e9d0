"""A registered symbol of a market, and what sources and live connections prove of it."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from psycopg.types.range import TimestamptzRange

from tests.sql.market import Market

TOPIC = UUID(int=1)
NO_SPANS = "{}"


class History:
    """A market's symbol, registered from `start` to `end` (`MM-DD hh:mm`, as in Market.at)."""

    def __init__(self, market: Market, start: str = "03-01 00:00", end: str = "03-05 00:00") -> None:
        self.market, self.connection = market, market.connection
        self.symbol, self.start, self.end = market.symbol, market.at(start), market.at(end)
        self.connection.execute("delete from late_range")
        self.register(self.start)
        self.connection.execute("update symbols set history_end = %s where symbol = %s", (self.end, self.symbol))

    def register(self, start: datetime, source: str = "simulator") -> None:
        """Register it, or again."""
        self.connection.execute(
            "select register_symbol(%s, %s, 'E~B~Q', 'B', 'Q', %s, %s, '10 s', true)",
            (self.symbol, source, start, source),
        )

    def span(self, lo: str, hi: str) -> TimestamptzRange:
        """A range of this market's year."""
        return TimestamptzRange(self.market.at(lo), self.market.at(hi))

    def gaps(self) -> list[tuple[str, str]]:
        """What is missing, as `MM-DD hh:mm`."""
        return self._spans("select lower(span), upper(span) from gaps where symbol = %s order by 1")

    def covered(self, level: str = "1d") -> list[tuple[str, str]]:
        """What is proved for a level, whoever did."""
        return self._spans(
            "select lower(span), upper(span) from unnest(covered(%s, tstzrange(null, null), %s)) as span order by 1",
            level,
        )

    def _spans(self, query: str, *more: str) -> list[tuple[str, str]]:
        rows = self.connection.execute(query, (self.symbol, *more)).fetchall()
        return [(_text(lo), _text(hi)) for lo, hi in rows]

    def mark(self, n: int, lo: str, hi: str, count: int = 0, seen: int = 0, session: str = "", rest: int = 0) -> None:
        """One mark of a live session of this symbol."""
        mark = {"n": n, "from": self.market.at(lo).isoformat(), "to": self.market.at(hi).isoformat(), "count": count,
                "seen": seen, "source": "simulator", "symbols": [self.symbol] if n == 1 else None}  # fmt: skip
        self.connection.execute("select land_session(%s, 'tick-data', 0, %s, %s, %s)",
                                (session or f"s-{self.symbol}", TOPIC, Jsonb([mark]), rest))  # fmt: skip

    def task(self, status: str = "fetching") -> tuple[Any, ...]:
        """Claim the most urgent task of this market's source: (id, interval, from, to, attempt)."""
        row = self.connection.execute(
            'select id, "interval", lower(span), upper(span), attempt '
            "from claim_task(array['simulator'], 'me', '30 s')"
        ).fetchone()
        assert row is not None, "there is no task"
        if status != "fetching":
            self.connection.execute("update backfill_task set status = %s where id = %s", (status, row[0]))
        return tuple(row)

    def file(self, **options: Any) -> int:
        """File what is missing; returns how many tasks that were."""
        row = self.connection.execute("select file_tasks(%s, null, 0, 64, %s)",
                                      (self.symbol, options.get("pause", timedelta(0)))).fetchone()  # fmt: skip
        assert row is not None
        return int(row[0])

    def import_minutes(self, lo: str, hi: str, *bars: dict[str, Any], task: int | None = None, attempt: int = 1,
                       refused: list[datetime] | None = None) -> None:  # fmt: skip
        """Land an import of minutes as ingest does: what is wholly live is left alone."""
        span = self.span(lo, hi)
        row = self.connection.execute("select kept_live(%s, %s)", (self.symbol, span)).fetchone()
        kept = list(row[0])
        landing = [bar for bar in bars if not any(bar["ts"] in part for part in kept)]
        # In a transaction of its own, as ingest does: it runs as another role, which Citus minds.
        self.connection.execute("select prepare_ticks(%s)", ([bar["ts"] for bar in landing],))
        with self.connection.transaction():
            if landing:
                self.market.insert(*landing)
            self.connection.execute(
                "select land_import(%s, %s, %s, '1m', 'simulator', %s, %s, %s, %s, true)",
                (task, attempt, self.symbol, span, [bar["ts"] for bar in landing], row[0], refused or []))  # fmt: skip
        for key in [k for k, t in self.market.ticks.items() if t["seq"] == -1 and t["ts"] in span]:
            if key[1] not in {bar["ts"] for bar in landing} and not any(key[1] in part for part in kept):
                del self.market.ticks[key]

    def import_coarse(self, interval: str, lo: str, hi: str, *bars: dict[str, Any]) -> None:
        """Land hours or days."""
        columns = [
            [bar[name] for bar in bars] for name in ("ts", "open", "high", "low", "price", "size", "quote", "trades")
        ]
        with self.connection.transaction():
            self.connection.execute(
                "select land_coarse(null, 1, %s, %s, 'simulator', %s, %s, "
                "%s, %s, %s, %s, %s::numeric[], %s::numeric[], %s::bigint[], true)",
                (self.symbol, interval, self.span(lo, hi), *columns))  # fmt: skip

    def bars(self, interval: str) -> list[tuple[Any, ...]]:
        """(bucket, open, high, low, close, volume) of a level."""
        rows = self.connection.execute(
            f"select bucket, open, high, low, close, volume from ohlcv_{interval} where symbol = %s order by bucket",
            (self.symbol,),
        ).fetchall()
        return [(_text(bucket), *map(float, numbers)) for bucket, *numbers in rows]


def _text(ts: datetime | None) -> str:
    return "" if ts is None else ts.strftime("%m-%d %H:%M:%S.%f").removesuffix(".000000").removesuffix(":00")
