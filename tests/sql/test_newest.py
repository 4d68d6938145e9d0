"""The newest tick, minute and bar of many symbols, as of each by itself, and not by a call for each."""

from datetime import UTC, datetime, timedelta

from barwright import sql
from tests import citus

CALLS = (
    "select count(*) from pg_stat_xact_user_functions where funcname in ('newest_tick', 'newest_minute', 'newest_bar')"
)


def test_the_newest_of_many_symbols_are_asked_for_at_once(engine_dsn: str) -> None:
    """A call for each took 5 s for 10,000 symbols, 26 times as long as one query."""
    now = datetime.now(UTC)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    names, days = ["N1", "N2", "N3", "none"], [today] * 4
    with sql.connect(engine_dsn, "test", autocommit=True, prepare_threshold=None) as connection:
        ask = connection.execute
        ask("select prepare_ticks(%s)", ([today, today + timedelta(days=1)],))
        for n, name in enumerate(names[:3]):
            for minute in range(n + 1):
                ask("insert into ticks (symbol, ts, seq, price, size) values (%s, %s, %s, 1, 1)",
                    (name, today + timedelta(minutes=minute), minute))  # fmt: skip
        ask("begin")
        ask("set local track_functions = 'pl'")
        ticks = ask("select * from newest_ticks(%s)", (names,)).fetchall()
        minutes = ask("select * from newest_minutes(%s, %s)", (names, days)).fetchall()
        bars = ask("select * from newest_bars(%s)", (names,)).fetchall()
        if not citus.coordinates(connection):  # where each symbol's worker is asked by name
            assert ask(CALLS).fetchone() == (0,)
        assert ticks == [(name, *(ask("select newest_tick(%s)", (name,)).fetchone() or ())) for name in names]
        assert minutes == [
            (name, *(ask("select newest_minute(%s, %s)", (name, today)).fetchone() or ())) for name in names
        ]
        assert bars == [(name, *row) for name in names for row in ask("select * from newest_bar(%s)", (name,))]
        assert [newest for _, newest in ticks] == [*(today + timedelta(minutes=n) for n in range(3)), None]
        ask("commit")
