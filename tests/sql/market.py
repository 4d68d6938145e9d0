"""A market in a database: ticks go in by the rules of ingest, and every level must equal the oracle."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

from barwright.sql.engine import engine_of, levels
from tests import oracle

INTERVALS = (*oracle.WIDTHS, "1mo")
COLUMNS = [
    "symbol",
    "bucket",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "vwap",
    "trades",
    "buy_volume",
    "imported",
]
INSERT = """
insert into ticks (symbol, ts, seq, price, size, side, open, high, low, quote, trades)
values (%(symbol)s, %(ts)s, %(seq)s, %(price)s, %(size)s, %(side)s, %(open)s, %(high)s, %(low)s, %(quote)s, %(trades)s)
on conflict (symbol, ts, seq) do update set (price, size, open, high, low, quote, trades)
= (excluded.price, excluded.size, excluded.open, excluded.high, excluded.low, excluded.quote, excluded.trades)
where ticks.seq = -1
"""
_seq = count(1)
_era = count(1972, 2)


class Market:
    """Two years of its own in a shared database (they only go up, so no test sees another's bars), one fresh symbol."""

    def __init__(self, connection: Any, symbol: str = "", leap: bool = False, era: Iterator[int] = _era) -> None:
        self.connection = connection
        self.engine = engine_of(connection)
        self.year = next(y for y in era if not leap or (y % 4 == 0 and y % 100 != 0))
        self.start = datetime(self.year, 1, 1, tzinfo=UTC)
        self.symbol = symbol or f"T{self.year}"
        self.ticks: dict[tuple[str, datetime, int], dict[str, Any]] = {}
        connection.execute("delete from late_range")
        # Nothing is rolled up yet in this year: as on the day Barwright was installed.
        connection.execute("update level set sealed = date_bin(width, %(t)s, '2000-01-03Z'), "
                           "watermark = date_bin(width, %(t)s, '2000-01-03Z')", {"t": self.start})  # fmt: skip

    def at(self, text: str) -> datetime:
        """`02-28 23:59:59.5` of this market's year; `+1-01-01 00:00` of the next."""
        year, rest = (self.year + 1, text[3:]) if text.startswith("+1-") else (self.year, text)
        return datetime.fromisoformat(f"{year}-{rest.replace(' ', 'T')}").replace(tzinfo=UTC)

    def trade(self, ts: str | datetime, price: str, size: str = "1", side: str | None = "b", seq: int = 0,
              symbol: str = "") -> dict[str, Any]:  # fmt: skip
        """A trade; without `seq` it comes after every trade made before."""
        return {"symbol": symbol or self.symbol, "ts": self.at(ts) if isinstance(ts, str) else ts,
                "seq": seq or next(_seq), "price": Decimal(price), "size": Decimal(size), "side": side, "open": None,
                "high": None, "low": None, "quote": None, "trades": None}  # fmt: skip

    def bar(self, ts: str | datetime, prices: str, volume: str = "1", quote: str | None = None,
            trades: int | None = None) -> dict[str, Any]:  # fmt: skip
        """An imported minute; `prices` is `open high low close`."""
        o, h, low, c = map(Decimal, prices.split())
        return {**self.trade(ts, str(c), volume, None), "seq": -1, "open": o, "high": h, "low": low,
                "quote": None if quote is None else Decimal(quote), "trades": trades}  # fmt: skip

    def insert(self, *ticks: dict[str, Any]) -> None:
        """Land ticks: what lies below the seal is noted as late."""
        self.connection.execute("select prepare_ticks(%s)", (sorted({t["ts"] for t in ticks}),))
        for tick in ticks:
            self.connection.execute(INSERT, tick)
            self.connection.execute(
                "insert into late_range (symbol, span) select %(symbol)s, tstzrange(m, m + interval '1 minute') "
                "from date_bin('1 minute', %(ts)s, '2000-01-03Z') as m where m < late_below()", tick)  # fmt: skip
            key = tick["symbol"], tick["ts"], tick["seq"]
            if tick["seq"] == -1 or key not in self.ticks:
                self.ticks[key] = tick

    def seal(self, until: str | datetime) -> None:
        """Seal up to a time and roll every level up."""
        self.connection.execute("select move_seal(%s)", (self.at(until) if isinstance(until, str) else until,))
        self.advance()

    def advance(self, *names: str) -> None:
        """Roll levels up, bottom up."""
        for level in levels(self.connection):
            if not names or level.name in names:
                self.engine.advance(level.name)

    def repair(self) -> int:
        """Put late ticks right."""
        return self.engine.repair()

    def bars(self, interval: str) -> list[dict[str, Any]]:
        """What SQL clients see of this market's symbols."""
        symbols = sorted({t["symbol"] for t in self.ticks.values()} | {self.symbol})
        rows = self.connection.execute(
            f"select {', '.join(COLUMNS)} from ohlcv_{interval} where symbol = any(%s) "
            "and bucket >= %s and bucket < %s order by symbol collate \"C\", bucket",
            (symbols, self.start - timedelta(days=31), self.start + timedelta(days=400)))  # fmt: skip
        return [dict(zip(COLUMNS, row, strict=True)) for row in rows]

    def oracle(self, interval: str, ticks: Iterable[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
        """What they must see."""
        return oracle.bars(self.ticks.values() if ticks is None else ticks, interval)

    def check(self, intervals: Iterable[str] = INTERVALS) -> None:
        """Every level equals the oracle, to the last digit."""
        for interval in intervals:
            assert self.bars(interval) == self.oracle(interval), interval
