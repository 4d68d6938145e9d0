"""What is missing is asked for: newest first, none twice, as fine as the source can; on both engines."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from barwright import sql
from tests.sql.history import History
from tests.sql.market import Market

New = Callable[..., Market]


@pytest.fixture
def h(new: New) -> History:
    """A symbol with four days of missing history, all closed, and nobody else's tasks."""
    m = new()
    m.connection.execute("update symbols set stopped_at = now() where stopped_at is null")
    m.connection.execute("delete from backfill_task")
    m.seal("12-01 00:00")
    return History(m)


def tasks(h: History, open_only: bool = True) -> list[tuple[str, str, str]]:
    """(interval, from, to) of tasks, as they are claimed."""
    rows = h.connection.execute(
        "select \"interval\", to_char(lower(span) at time zone 'UTC', 'MM-DD HH24:MI'), "
        "to_char(upper(span) at time zone 'UTC', 'MM-DD HH24:MI') from backfill_task "
        "where symbol = %s and (not %s or status not in ('landed', 'cancelled')) "
        "order by priority desc, upper(span) desc, id",
        (h.symbol, open_only)).fetchall()  # fmt: skip
    return [tuple(row) for row in rows]


def test_minutes_a_day_at_a_time_newest_first_and_none_twice(h: History) -> None:
    h.mark(1, "03-02 10:00:30", "03-02 12:00:15")
    assert h.file() == 5
    assert tasks(h) == [
        ("1m", "03-04 00:00", "03-05 00:00"),
        ("1m", "03-03 00:00", "03-04 00:00"),
        ("1m", "03-02 12:00", "03-03 00:00"),
        ("1m", "03-02 00:00", "03-02 10:01"),
        ("1m", "03-01 00:00", "03-02 00:00"),
    ]
    assert h.file() == 0
    # What lands is not asked for again; what landed in vain is, after a pause.
    task = h.task()
    h.import_minutes("03-04 00:00", "03-04 22:00", task=task[0])
    h.connection.execute("select finish_tasks()")
    assert h.file(pause=timedelta(minutes=1)) == 0
    assert h.file() == 1
    assert tasks(h)[0] == ("1m", "03-04 22:00", "03-05 00:00")


def test_who_misses_something_that_nobody_was_asked_for(h: History) -> None:
    def wanted() -> bool:
        return h.symbol in [symbol for (symbol,) in h.connection.execute(sql.queries("maintain")["wanted"])]

    assert wanted()
    assert h.file() == 4
    assert not wanted()
    h.connection.execute("update backfill_task set status = 'cancelled' where symbol = %s and lower(span) = %s",
                         (h.symbol, h.market.at("03-02 00:00")))  # fmt: skip
    assert wanted()
    h.mark(1, "03-02 00:00", "03-03 00:00")
    assert not wanted()
    h.register(h.market.at("02-28 12:00"))
    assert wanted()
    # As many open tasks as a symbol may have: what they leave is asked for when some of them have landed.
    h.connection.execute("insert into backfill_task (symbol, source, market, interval, span, reason) "
                         "select %s, 'simulator', 'm', '1m', %s, 'gap' from generate_series(1, 61)",
                         (h.symbol, h.span("03-04 00:00", "03-05 00:00")))  # fmt: skip
    assert not wanted()


def test_moving_the_start_back_asks_only_for_the_new_part(h: History) -> None:
    h.import_minutes("03-01 00:00", "03-05 00:00")
    assert h.file() == 0
    h.register(h.market.at("02-28 12:00"))
    h.connection.execute("update symbols set history_end = %s where symbol = %s", (h.end, h.symbol))
    h.file()
    assert tasks(h)[-1] == ("1m", "02-28 12:00", "03-01 00:00") or tasks(h)[-1][1] == "02-28 12:00"
    assert all(task[1] < "03-01 00:00" for task in tasks(h))
    h.register(h.market.at("03-04 00:00"))
    row = h.connection.execute("select history_start from symbols where symbol = %s", (h.symbol,)).fetchone()
    assert row == (h.market.at("02-28 12:00"),)


def test_a_claim_is_taken_over_when_its_lease_or_deadline_lapses(h: History) -> None:
    h.file()
    id_, _, _, _, attempt = h.task()
    assert attempt == 1
    assert h.task()[0] != id_
    assert h.connection.execute("select renew_task(%s, 1, '-1 s')", (id_,)).fetchone() == (True,)
    again = h.task()
    assert (again[0], again[4]) == (id_, 2)
    assert h.connection.execute("select advance_task(%s, 1, 'published', '1 m')", (id_,)).fetchone() == (False,)
    assert h.connection.execute("select advance_task(%s, 2, 'publishing')", (id_,)).fetchone() == (True,)
    assert h.connection.execute("select advance_task(%s, 2, 'published', '-1 s')", (id_,)).fetchone() == (True,)
    assert h.task()[4] == 3
    assert h.connection.execute("select fail_task(%s, 3, 'no luck', '1 h')", (id_,)).fetchone() == (True,)
    assert h.task()[0] != id_
    row = h.connection.execute("select status, error from backfill_task where id = %s", (id_,)).fetchone()
    assert row == ("queued", "no luck")


def test_old_attempts_and_closed_tasks_are_not_locked(h: History) -> None:
    h.file()
    id_, _, lo, hi, _ = h.task()
    row = h.connection.execute(
        "select id, attempt, lower(span), upper(span), kept from lock_tasks(%s)", ([id_],)
    ).fetchone()
    assert row[:4] == (id_, 1, lo, hi)
    h.connection.execute("select stop_symbol(%s)", (h.symbol,))
    assert h.connection.execute("select id from lock_tasks(%s)", ([id_],)).fetchone() is None
    assert h.gaps() == []
    assert h.connection.execute("select stop_symbol(%s)", (h.symbol,)).fetchone() == (False,)


def test_where_minutes_do_not_reach_hours_are_asked_for_and_then_days(h: History) -> None:
    h.file()
    h.task()
    id_, _, _, _, _ = h.task()  # 03-03
    reach = h.market.at("03-03 13:45")
    assert h.connection.execute("select coarsen(%s, 1, %s)", (id_, reach)).fetchone() == (True,)
    # The boundary is a UTC midnight, and each day has one source.
    assert tasks(h) == [("1m", "03-04 00:00", "03-05 00:00"), ("1h", "03-01 00:00", "03-04 00:00")]
    id_ = h.task()[0]
    h.connection.execute("select coarsen(%s, 1, %s)", (id_, h.market.at("03-02 00:00")))
    assert tasks(h) == [("1m", "03-04 00:00", "03-05 00:00"), ("1h", "03-02 00:00", "03-04 00:00"),
                        ("1d", "03-01 00:00", "03-02 00:00")]  # fmt: skip


def test_a_task_has_landed_when_it_is_repaired(h: History) -> None:
    h.file()
    id_ = h.task()[0]
    h.import_minutes("03-04 00:00", "03-05 00:00", h.market.bar("03-04 00:05", "1 1 1 1"), task=id_)
    h.connection.execute("select finish_tasks()")
    status = "select status, rows from backfill_task where id = %s"
    assert h.connection.execute(status, (id_,)).fetchone() == ("repairing", 1)
    h.market.repair()
    h.connection.execute("select finish_tasks()")
    assert h.connection.execute(status, (id_,)).fetchone() == ("landed", 1)


def test_a_client_that_waits_comes_first(h: History) -> None:
    h.file()
    span = h.span("03-02 10:00", "03-02 11:00")
    assert h.connection.execute("select file_tasks(%s, %s, 1)", (h.symbol, span)).fetchone() == (0,)
    assert h.task()[2] == h.market.at("03-02 00:00")


def test_another_source_is_asked_anew(h: History) -> None:
    h.file()
    h.register(h.start, "other")
    assert tasks(h) == []
    assert h.connection.execute(
        "select request_tasks(%s, %s)", (h.symbol, h.span("03-01 12:00", "03-02 06:00"))
    ).fetchone() == (2,)
    sources = h.connection.execute("select distinct source, reason from backfill_task "
                                   "where symbol = %s and status = 'queued'",
                                   (h.symbol,)).fetchall()  # fmt: skip
    assert sources == [("other", "request")]


def test_the_last_days_imports_are_asked_for_again(h: History) -> None:
    c = h.connection
    c.execute("update symbols set registered_at = now() - interval '2 days', "
              "history_start = now() - interval '3 days', history_end = null where symbol = %s",
              (h.symbol,))  # fmt: skip
    lately = "tstzrange(date_trunc('hour', now()) - interval '5 hours', date_trunc('hour', now()) - interval '4 hours')"
    c.execute(f"select prove(%s, '1m', 'simulator', tstzmultirange({lately}))", (h.symbol,))
    assert c.execute("select file_corrections('1 day')").fetchone() == (1,)
    assert c.execute(
        f"select span = {lately}, reason from backfill_task where symbol = %s", (h.symbol,)
    ).fetchall() == [(True, "correction")]
    assert c.execute("select file_corrections('1 day')").fetchone() == (0,)
