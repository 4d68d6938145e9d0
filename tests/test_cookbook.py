"""docs/cookbook.md on both engines: every query answers, and what pandas can say too, pandas says of the same bars."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy
import pandas
import psycopg
import pytest

from barwright import sql
from barwright.sql.engine import engine_of, levels
from tests.services import ROOT

TEXT = (ROOT / "docs" / "cookbook.md").read_text()
QUERIES = {
    f"{title} {n}" if n else title: query
    for title, section in re.findall(r"^## (.*)\n((?:(?!^## ).*\n?)*)", TEXT, re.MULTILINE)
    for n, query in enumerate(re.findall(r"```sql\n(.*?)```", section, re.DOTALL))
}
# A day has a trade each four minutes or so for three days, and one each six hours for 400 days before.
TRADES = """
insert into ticks (symbol, ts, seq, price, size, side)
select
    symbol, ts, n, round((base * (1 + 0.2 * sin(n / 37.0 + base) + 0.05 * cos(n / 3.0)))::numeric, 2),
    round((1 + 0.9 * sin(n * 7.0 + base))::numeric, 4), case when mod(n, 3) = 0 then 'b' else 's' end::"char"
from (values ('BTCUSD', 64000.0), ('ETHUSD', 3200.0), ('SOLUSD', 150.0)) as market (symbol, base)
cross join lateral (
    select now() - interval '3 days' - n * interval '6 hours' as ts, n from generate_series(1, 1600) as n
    union all
    select now() - n * interval '4 minutes' - interval '1 second' * mod(n * 7, 200), 3080 - n
    from generate_series(0, 1079) as n
) as times
"""

REGISTER = """
select register_symbol(
    'BTCUSD', 'simulator', 'X', 'BTC', 'USD', %(t)s, 'simulator', interval '1 minute', true
)
"""
COVER = """
insert into imported_span (symbol, source, "interval", span)
values ('BTCUSD', 'simulator', '1m', tstzrange(%(t)s, now() - interval '1 day'))
"""


@pytest.fixture(scope="module")
def connection(engine_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A database with three symbols, rolled up but for the open buckets, complete but for a day of one of them."""
    with sql.connect(engine_dsn, "test", autocommit=True, prepare_threshold=None) as connection:
        now = datetime.now(UTC)
        connection.execute("select prepare_ticks(array_agg(t)) from generate_series(%s, %s, interval '1 day') as t",
                           (now - timedelta(days=410), now + timedelta(days=1)))  # fmt: skip
        connection.execute(TRADES)
        start = {"t": now - timedelta(days=404)}
        connection.execute("update level set sealed = date_bin(width, %(t)s, '2000-01-03Z'), "
                           "watermark = date_bin(width, %(t)s, '2000-01-03Z')", start)  # fmt: skip
        connection.execute("select move_seal(now())")
        for level in levels(connection):
            engine_of(connection).advance(level.name)
        connection.execute(REGISTER, start)
        connection.execute(COVER, start)
        yield connection


Ask = Callable[[str], pandas.DataFrame]


@pytest.fixture(scope="module")
def ask(connection: psycopg.Connection[Any]) -> Ask:
    """The rows of a query as a frame; numerics as doubles, times in UTC."""

    def ask(query: str) -> pandas.DataFrame:
        cursor = connection.execute(query.encode())
        names = [column.name for column in cursor.description or ()]
        frame = pandas.DataFrame(cursor.fetchall(), columns=names)
        for name, column in zip(names, cursor.description or (), strict=True):
            if column.type_code == 1700:
                frame[name] = frame[name].astype(float)
        return frame

    return ask


def bars(ask: Ask, level: str, symbol: str = "BTCUSD", **span: float) -> pandas.DataFrame:
    """A symbol's bars of the last while, by bucket."""
    since = datetime.now(UTC) - timedelta(**span)
    found = ask(
        f"select * from ohlcv_{level} where symbol = '{symbol}' and bucket >= '{since.isoformat()}' order by bucket"
    )
    return found.set_index("bucket")


def same(found: Any, expected: Any) -> None:
    """Equal to twelve digits, nulls in the same places; the first rows may differ by the moment of asking."""
    length = min(len(found), len(expected))
    assert length > 1
    numpy.testing.assert_allclose(
        numpy.asarray(found, float)[-length:], numpy.asarray(expected, float)[-length:], rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("title", QUERIES)
def test_every_query_answers(ask: Ask, title: str) -> None:
    assert len(QUERIES) >= 22
    assert len(ask(QUERIES[title])) > 0


def test_indicators(ask: Ask) -> None:
    hours = bars(ask, "1h", days=3)
    close = hours["close"]
    same(ask(QUERIES["Simple moving average"])["sma_20"], close.rolling(20, min_periods=1).mean())
    same(ask(QUERIES["Exponential moving average"])["ema_12"], close.ewm(span=12, adjust=False).mean())
    found = ask(QUERIES["Bollinger bands"])
    spread = 2 * close.rolling(20, min_periods=1).std(ddof=0)
    same(found["upper"] - found["middle"], spread)
    same(found["middle"] - found["lower"], spread)
    move = close.diff().dropna()
    gain, loss = (part.clip(lower=0).ewm(alpha=1 / 14, adjust=False).mean() for part in (move, -move))
    same(ask(QUERIES["Relative strength index"])["rsi_14"], 100 - 100 / (1 + gain / loss))
    days = bars(ask, "1d", days=90)
    before = days["close"].shift()
    reach = numpy.fmax(days["high"], before) - numpy.fmin(days["low"], before)
    same(ask(QUERIES["Average true range"])["atr_14"], reach.rolling(14, min_periods=1).mean())


def test_returns(ask: Ask) -> None:
    changes = {
        symbol: numpy.log(bars(ask, "1d", symbol, days=90)["close"]).diff().dropna() for symbol in ("BTCUSD", "ETHUSD")
    }
    found = ask(QUERIES["Returns and volatility"])
    same(found["volatility"], [change.std() * numpy.sqrt(365) for change in changes.values()])
    assert ask(QUERIES["Correlation of two symbols"])["correlation"][0] == pytest.approx(
        changes["BTCUSD"].corr(changes["ETHUSD"])
    )
    days = bars(ask, "1d", days=365)
    fall = days["close"] / days["high"].cummax() - 1
    assert ask(QUERIES["Deepest fall from a high"])["drawdown"][0] == pytest.approx(fall.min())
    change = ask(QUERIES["Change since yesterday's close"]).groupby("symbol")["change"].last()
    assert change["BTCUSD"] == pytest.approx(bars(ask, "1d", days=9)["close"].pct_change().iloc[-1])


WHOLE = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}


def test_widths_and_sessions(ask: Ask) -> None:
    minutes = bars(ask, "1m", hours=4)
    wide = minutes.resample("7min", origin=pandas.Timestamp("2000-01-03", tz="UTC")).agg(WHOLE).dropna()
    found = ask(QUERIES["Bars of any width"])
    for name in WHOLE:
        same(found[name], wide[name][-len(found) :])
    local = bars(ask, "15m", days=4).tz_convert("America/New_York")
    found = ask(QUERIES["Days of New York"])
    for name, how in WHOLE.items():
        same(found[name], local[name].resample("D").agg(how)[-len(found) :])
    halves = bars(ask, "30m", days=10).tz_convert("America/New_York").between_time("09:30", "16:00", inclusive="left")
    halves = halves[halves.index.day_of_week < 5]
    found = ask(QUERIES["A trading session"])
    same(found["volume"], halves["volume"].groupby(halves.index.date).sum()[-len(found) :])


def test_minutes_without_a_trade(ask: Ask) -> None:
    found = ask(QUERIES["Every minute, also those without a trade"]).set_index("bucket")
    assert len(found) == 120
    known = bars(ask, "1m", hours=3)
    full = known["close"].reindex(pandas.date_range(known.index[0], found.index[-1], freq="1min")).ffill()
    first = found["close"].first_valid_index()
    same(found["close"][first:], full[first:])
    same(found["volume"], known["volume"].reindex(found.index).fillna(0))


def test_volume_is_whole(ask: Ask) -> None:
    profile = ask(QUERIES["Volume profile"])
    assert profile["volume"].sum() == pytest.approx(bars(ask, "1m", days=1)["volume"].sum(), rel=0.01)
    sides = ask(QUERIES["Who pressed: buyers or sellers"])
    same(sides["buy_volume"] + sides["sell_volume"], bars(ask, "15m", hours=6)["volume"])
    movers = ask(QUERIES["Top movers of the last 24 hours"])
    day = bars(ask, "15m", "ETHUSD", hours=24)
    assert movers.set_index("symbol")["change"]["ETHUSD"] == pytest.approx(
        day["close"].iloc[-1] / day["open"].iloc[0] - 1
    )
