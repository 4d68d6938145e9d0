"""Random stories of what is known of a few symbols: who vouched, what was lost, imported, late."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from psycopg.types.multirange import TimestamptzMultirange
from psycopg.types.range import TimestamptzRange

NAMES = [f"G{n}" for n in range(4)]
BEGIN = datetime(2001, 1, 1, tzinfo=UTC)
# Minutes, and what lies just beside them.
instants = st.builds(
    lambda minute, beside: BEGIN + timedelta(minutes=minute, microseconds=beside),
    st.integers(0, 30),
    st.sampled_from([0, 0, 0, 1, -1, 20_000_000]),
)
minutes = st.integers(-1, 30).map(lambda n: BEGIN + timedelta(minutes=n))
names = st.sampled_from(NAMES)


def spans(ends: st.SearchStrategy[datetime]) -> st.SearchStrategy[TimestamptzRange]:
    """Ranges with and without their ends, none of them empty."""
    return st.builds(
        lambda two, bounds: TimestamptzRange(min(two), max(two), bounds),
        st.lists(ends, min_size=2, max_size=2, unique=True),
        st.sampled_from(["[)", "[)", "[)", "[]", "()", "(]"]),
    )


symbols = st.fixed_dictionaries({
    "start": instants | instants | instants | st.none(),
    "end": st.none() | instants,
    "source": st.sampled_from(["simulator", "simulator", "simulator", None]),
    "stopped": st.sampled_from([None, None, None, BEGIN]),
})  # fmt: skip
# What of all time is live: everything for half of the sessions, so that late ticks and lost minutes are all there is.
everything = st.just([TimestamptzRange(None, None)])
covered = (everything | st.lists(spans(instants), max_size=4)).map(TimestamptzMultirange)
sessions = st.tuples(st.lists(names, max_size=6) | st.just(NAMES), covered)
stories = st.fixed_dictionaries({
    "symbols": st.lists(symbols, min_size=len(NAMES) - 1, max_size=len(NAMES) - 1),  # the last is not registered
    "sessions": st.lists(sessions, max_size=4),
    "lost": st.lists(st.tuples(names, minutes), max_size=5, unique=True),
    "imported": st.lists(st.tuples(names, st.sampled_from(["1m", "1h", "1d"]), spans(instants)), max_size=5),
    "late": st.lists(st.tuples(names, spans(instants) | st.just(TimestamptzRange(empty=True))), max_size=5),
})  # fmt: skip
# All is live, and late ticks of a minute await repair: chance finds this too seldom.
ALL_BUT_LATE = {
    "symbols": [{"start": BEGIN, "end": None, "source": "simulator", "stopped": None}],
    "sessions": [(NAMES, TimestamptzMultirange([TimestamptzRange(None, None)]))],
    "lost": [],
    "imported": [],
    "late": [(NAMES[0], TimestamptzRange(BEGIN, BEGIN + timedelta(minutes=1)))],
}
# The same of a minute that was lost.
ALL_BUT_LOST = ALL_BUT_LATE | {"late": [], "lost": [(NAMES[0], BEGIN + timedelta(minutes=1))]}


def lay(connection: Any, story: dict[str, Any]) -> None:
    """What is known of the symbols, instead of all that was."""
    connection.execute("delete from symbols; delete from live_session; delete from uncovered; "
                       "delete from imported_span; delete from late_range")  # fmt: skip
    for name, s in zip(NAMES, story["symbols"], strict=False):
        connection.execute(
            "insert into symbols (symbol, source, history_start, history_end, history_source, stopped_at) "
            "values (%s, 'simulator', %s, %s, %s, %s)", (name, s["start"], s["end"], s["source"], s["stopped"]),
        )  # fmt: skip
    for n, (listed, covered) in enumerate(story["sessions"]):
        connection.execute("insert into live_session (session, topic, partition, topic_id, symbols, covered) "
                           "values ('s', 't', %s, gen_random_uuid(), %s, %s)", (n, listed, covered))  # fmt: skip
    for row in story["lost"]:
        connection.execute("insert into uncovered (symbol, minute) values (%s, %s)", row)
    for row in story["imported"]:
        connection.execute(
            "insert into imported_span (symbol, \"interval\", source, span) values (%s, %s, 's', %s)", row
        )
    for row in story["late"]:
        connection.execute("insert into late_range (symbol, span) values (%s, %s)", row)
