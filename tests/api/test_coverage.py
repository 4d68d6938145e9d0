"""`coverage` in answers: every rule by example, and random coverage against a model that looks at every second."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests import oracle
from tests.api.conftest import Api
from tests.api.truth import end, text
from tests.api.vouched import Vouched, now
from tests.sql.market import INTERVALS, Market

New = Callable[..., Market]
DAY = timedelta(days=1)
D = datetime(2015, 3, 2, tzinfo=UTC)  # a Monday
_names = iter(f"C{n}" for n in range(10_000))


@pytest.fixture
def v(connection: psycopg.Connection[Any]) -> Vouched:
    """A symbol of its own."""
    name = next(_names)
    connection.execute("insert into symbols (symbol) values (%s)", (name,))
    return Vouched(connection, name)


def at(days: float = 0, hours: float = 0, minutes: float = 0) -> datetime:
    return D + timedelta(days=days, hours=hours, minutes=minutes)


def verdict(api: Api, v: Vouched, interval: str = "1m", **params: Any) -> tuple[Any, Any]:
    """`complete` and `finest`, the same from caches and in CSV."""
    params = {name: text(value) if isinstance(value, datetime) else value for name, value in params.items()}
    found = api.json("/v1/bars", symbol=v.symbol, interval=interval, **params)["coverage"]
    table = api.get("/v1/bars", symbol=v.symbol, interval=interval, format="csv", **params)
    assert table.headers["x-barwright-complete"] == {True: "true", False: "false", None: "null"}[found["complete"]]
    return found["complete"], found["finest"]


def test_nobody_vouches_for_what_nobody_registered(api: Api, v: Vouched) -> None:
    v.imported((at(0), at(9)))
    assert verdict(api, v, start=at(1), end=at(2)) == (None, None)
    assert verdict(api, v) == (None, None)
    v.late((at(1), at(1, 1)))
    assert verdict(api, v, start=at(1), end=at(2)) == (None, None)


# What covers ten days from D, registered from at(1) on: what is asked, and what must be said.
COVERED = [
    (lambda v: v.imported((at(0), at(10))), "1m", (1, 2), (True, "1m")),
    (lambda v: v.imported((at(0), at(10))), "1mo", (30, 31), (False, None)),
    (lambda v: v.imported((at(0), at(10))), "1m", (0, 2), (None, None)),  # before its history begins
    (lambda v: v.imported((at(0), at(1)), (at(2), at(10))), "1m", (1, 2), (False, None)),
    (lambda v: v.imported((at(0), at(1, 5)), (at(1, 6), at(10))), "1m", (2, 3), (True, "1m")),
    (lambda v: v.imported((at(0), at(10)), interval="1d"), "1m", (1, 2), (None, "1d")),
    (lambda v: v.imported((at(0), at(10)), interval="1d"), "4h", (1, 2), (None, "1d")),
    (lambda v: v.imported((at(0), at(10)), interval="1d"), "1d", (1, 2), (True, "1d")),
    (lambda v: v.imported((at(0), at(14)), interval="1d"), "1w", (7, 14), (True, "1d")),
    (lambda v: v.imported((at(0), at(10)), interval="1h"), "30m", (1, 2), (None, "1h")),
    (lambda v: v.imported((at(0), at(10)), interval="1h"), "4h", (1, 2), (True, "1h")),
    (lambda v: v.imported((at(0), at(3)), interval="1d").imported((at(3), at(10))), "1m", (2, 4), (None, "1d")),
    (lambda v: v.imported((at(0), at(3)), interval="1d").imported((at(3), at(10))), "1m", (3, 4), (True, "1m")),
    (lambda v: v.live((at(0), at(10))), "1m", (1, 2), (True, "1m")),
    (lambda v: v.live((at(0), at(10))).cut([at(1, 3)]), "1m", (1, 2), (False, None)),
    (lambda v: v.live((at(0), at(10))).cut([at(1, 3)]).imported((at(1, 3), at(1, 4))), "1m", (1, 2), (True, "1m")),
    (lambda v: v.live((at(0), at(1.5)), (at(1.5), at(10))), "1m", (1, 2), (True, "1m")),  # two sessions meet
    (lambda v: v.imported((at(0), at(10))).late((at(1, 5), at(1, 6))), "1m", (1, 2), (False, "1m")),
    (lambda v: v.imported((at(0), at(10))).late((at(1, 5), at(1, 6))), "1m", (2, 3), (True, "1m")),
    (lambda v: v.imported((at(0), at(10))).stop(), "1m", (1, 2), (True, "1m")),
    (lambda v: v.imported((at(0), at(2))).stop(), "1m", (1, 3), (None, None)),  # nobody will ever bring the rest
]


@pytest.mark.parametrize(("prepare", "interval", "days", "said"), COVERED)
def test_what_is_said_of_spans_in_the_past(
    api: Api, v: Vouched, prepare: Callable[[Vouched], Any], interval: str, days: tuple[int, int], said: Any
) -> None:
    prepare(v.register(at(1)))
    assert verdict(api, v, interval, start=at(days[0]), end=at(days[1])) == said
    assert verdict(api, v, interval, start=at(days[0]), end=at(days[1]), order="desc") == said


def test_a_bucket_belongs_to_the_span_as_a_whole(api: Api, v: Vouched) -> None:
    v.register(at(0)).imported((at(0), at(0, 1, 45)), (at(0, 1, 46), at(5)))
    assert verdict(api, v, "1h", start=at(0, 0, 30), end=at(0, 1, 30)) == (False, None)
    assert verdict(api, v, "1m", start=at(0, 0, 30), end=at(0, 1, 30)) == (True, "1m")
    assert verdict(api, v, "1h", start=at(0, 1, 30), end=at(0, 5)) == (True, "1m")


def test_the_gaps_that_are_listed(api: Api, v: Vouched) -> None:
    holes = [(at(1, 0, 2 * n), at(1, 0, 2 * n + 1)) for n in range(60)]
    v.register(at(0)).imported((at(0), at(1)), *((hi, hi + timedelta(minutes=1)) for _, hi in holes), (at(1, 2), at(9)))
    found = api.json("/v1/bars", symbol=v.symbol, interval="1m", start=text(at(0)), end=text(at(3)))["coverage"]
    assert found["gaps"] == [[text(lo), text(hi)] for lo, hi in holes[:50]]
    assert found["more_gaps"] == 10
    v.connection.execute("select file_tasks(%s, null, 1)", (v.symbol,))
    found = api.json("/v1/bars", symbol=v.symbol, interval="5m", start=text(at(1)), end=text(at(1, 0, 5)), order="desc")
    # What is known is at most half a second old.
    assert found["coverage"]["gaps"] == [[text(lo), text(hi)] for lo, hi in holes[:3]]


def test_the_tasks_that_are_listed(api: Api, v: Vouched) -> None:
    v.register(at(0)).imported((at(0), at(1)), (at(2), at(3)), (at(4), at(9)))
    v.connection.execute("select file_tasks(%s, tstzrange(%s, %s), 1)", (v.symbol, at(0), at(9)))
    wanted = v.connection.execute("select id from backfill_task where symbol = %s and span && tstzrange(%s, %s)",
                                  (v.symbol, at(1), at(2))).fetchall()  # fmt: skip
    found = api.json("/v1/bars", symbol=v.symbol, interval="1m", start=text(at(1)), end=text(at(2)))["coverage"]
    assert [(task["id"], task["status"], task["attempt"]) for task in found["backfills"]] == [
        (wanted[0][0], "queued", 0)
    ]
    assert (found["backfills"][0]["from"], found["backfills"][0]["to"]) == (text(at(1)), text(at(2)))


def test_the_end_that_is_now(api: Api, v: Vouched) -> None:
    this = now(v.connection)
    minute = this.replace(second=0, microsecond=0)
    ago, ahead = minute - timedelta(hours=3), minute + timedelta(hours=1)
    # An import that ends with the last whole minute says nothing of the one now open.
    v.register(ago).imported((ago, minute))
    assert verdict(api, v, start=ago) == (None, None)
    assert verdict(api, v, start=ago, end=minute) == (True, "1m")
    assert verdict(api, v, "1d", start=ago - DAY) == (None, None)
    v = Vouched(v.connection, next(_names)).register(ago).live((ago, ahead))
    for interval in ("1m", "5m", "1h"):
        assert verdict(api, v, interval, start=ago) == (True, "1m")
    assert verdict(api, v, start=ago, end=ahead) == (True, "1m")
    assert verdict(api, v, start=minute + timedelta(minutes=5), end=ahead) == (None, None)  # the future


def test_what_is_not_yet_due_is_pending(api: Api, v: Vouched) -> None:
    minute = now(v.connection).replace(second=0, microsecond=0)
    v.register(minute - DAY, grace=timedelta(hours=2)).live((minute - DAY, minute - timedelta(hours=1)))
    assert verdict(api, v, start=minute - DAY / 2) == (None, None)
    assert verdict(api, v, start=minute - DAY / 2, end=minute - timedelta(hours=1)) == (True, "1m")
    found = api.json("/v1/bars", symbol=v.symbol, interval="1m", start=text(minute - DAY / 2))["coverage"]
    assert found["gaps"] == []


def test_other_programs_symbols(api: Api, v: Vouched) -> None:
    minute = now(v.connection).replace(second=0, microsecond=0)
    v.register(minute - DAY, "kafka", "cryptocompare", live=False).imported(
        (minute - DAY, minute + timedelta(minutes=1))
    )
    assert verdict(api, v, start=minute - DAY / 2, end=minute) == (True, "1m")
    assert verdict(api, v, start=minute - DAY / 2, end=minute + timedelta(minutes=5))[0] in (True, None)
    silent = Vouched(v.connection, next(_names)).register(minute - DAY, "kafka", None, live=False)
    assert verdict(api, silent, start=minute - DAY / 2, end=minute) == (None, None)


def test_a_page_answers_for_itself_only(api: Api, new: New, connection: psycopg.Connection[Any]) -> None:
    m = new()
    m.insert(*(m.trade(m.at("02-01 00:00") + timedelta(minutes=n), "1") for n in range(100)))
    m.seal("02-02 00:00")
    start, hole = m.at("02-01 00:00"), m.at("02-01 01:00")
    v = Vouched(connection, m.symbol).register(start)
    v.imported((start, hole), (hole + timedelta(minutes=1), start + DAY))
    span = {"start": start, "end": start + timedelta(hours=2)}
    assert verdict(api, v, **span) == (False, None)
    assert verdict(api, v, **span, limit=60) == (True, "1m")
    assert verdict(api, v, **span, limit=61) == (False, None)
    assert verdict(api, v, **span, limit=39, order="desc") == (True, "1m")
    assert verdict(api, v, **span, limit=40, order="desc") == (False, None)
    # Without a start an answer begins with its first bar.
    assert verdict(api, v, end=span["end"], limit=39) == (True, "1m")
    assert verdict(api, v, end=span["end"], limit=40) == (False, None)
    assert verdict(api, v, end=hole) == (True, "1m")


class Model:
    """Four days from a midnight, a flag a second: what is said of them by looking at each."""

    def __init__(self, base: datetime, start: datetime) -> None:
        self.base = base
        self.start = self.second(start)
        self.live, self.late, self.cut = bytearray(4 * 86400), bytearray(4 * 86400), bytearray(4 * 86400)
        self.proved = {name: bytearray(4 * 86400) for name in ("1m", "1h", "1d")}

    def second(self, ts: datetime) -> int:
        return int((ts - self.base).total_seconds())

    def mark(self, flags: bytearray, lo: int, hi: int) -> None:
        flags[lo:hi] = b"\1" * (hi - lo)

    def covered(self, fineness: str, second: int) -> bool:
        """Whether a second is proved for bars as fine as this."""
        finer = {"1m": ["1m"], "1h": ["1m", "1h"], "1d": ["1m", "1h", "1d"]}[fineness]
        return bool(self.live[second] and not self.cut[second]) or any(self.proved[name][second] for name in finer)

    def missing(self, fineness: str, lo: int, hi: int) -> list[int]:
        """The minutes of [lo, hi) since the start that are not wholly proved, or await repair."""
        return [
            m for m in range(max(lo, self.start), hi, 60)
            if any(not self.covered(fineness, s) or self.late[s] for s in range(m, m + 60))
        ]  # fmt: skip

    def verdict(self, interval: str, lo: int, hi: int) -> tuple[bool | None, str | None, list[list[str]]]:
        """complete, finest and gaps of a span in the past."""
        needs = "1m" if interval in ("1m", "5m", "15m", "30m") else "1h" if interval in ("1h", "4h") else "1d"
        proved = [
            name for name in ("1m", "1h", "1d")
            if lo < hi and lo >= self.start and all(self.covered(name, s) for s in range(lo, hi))
        ]  # fmt: skip
        complete = False if self.missing("1d", lo, hi) else True if needs in proved else None
        gaps: list[list[str]] = []
        for m in self.missing(needs, lo, hi):
            begin, over = (text(self.base + timedelta(seconds=s)) for s in (m, m + 60))
            if gaps and gaps[-1][1] == begin:
                gaps[-1][1] = over
            else:
                gaps.append([begin, over])
        return complete, (proved[0] if proved else None), gaps


@pytest.mark.parametrize("seed", range(6))
def test_random_coverage_equals_the_model(api: Api, new: New, connection: psycopg.Connection[Any], seed: int) -> None:
    dice = random.Random(seed)
    m = new()
    base = oracle.bucket(m.at("02-07 00:00"), "1w") + timedelta(days=7)
    m.insert(*(m.trade(base + timedelta(minutes=dice.randrange(4 * 1440)), "1") for _ in range(60)))
    m.seal(base + timedelta(days=40))
    start = base + timedelta(minutes=dice.choice([0, 0, 90, 1441]))
    v, model = Vouched(connection, m.symbol).register(start), Model(base, start)
    widths = {"1m": 60, "1h": 86400, "1d": 86400}
    for _ in range(dice.randrange(12)):
        kind = dice.choice(["1m", "1m", "1h", "1d", "live", "live", "cut", "late"])
        width = widths.get(kind, 60 if kind in ("cut", "late") else 1)
        lo, hi = sorted(n * width for n in dice.sample(range(4 * 86400 // width + 1), 2))
        if kind in ("cut", "late"):
            hi = lo + 60 if lo < 4 * 86400 else lo
        span = base + timedelta(seconds=lo), base + timedelta(seconds=hi)
        if lo >= hi:
            continue
        if kind in widths:
            v.imported(span, interval=kind)
            model.mark(model.proved[kind], lo, hi)
        elif kind == "live":
            v.live(span)
            model.mark(model.live, lo, hi)
        elif kind == "cut":
            v.cut([span[0]])
            model.mark(model.cut, lo, hi)
        else:
            v.late(span)
            model.mark(model.late, lo, hi)
    for _ in range(12):
        _compare(api, m, model, dice)


def _compare(api: Api, m: Market, model: Model, dice: random.Random) -> None:
    interval = dice.choice([i for i in INTERVALS if i not in ("1w", "1mo")])
    lo, hi = sorted(model.base + timedelta(minutes=dice.randrange(-60, 4 * 1440)) for _ in range(2))
    hi = min(hi, model.base + timedelta(days=3))
    params: dict[str, Any] = {"start": text(min(lo, hi)), "end": text(hi), "order": dice.choice(["asc", "desc"])}
    params["limit"] = dice.choice([1, 3, 1000])
    if dice.random() < 0.3:
        del params["start"]
    answer = api.json("/v1/bars", symbol=m.symbol, interval=interval, **params)
    buckets = [oracle_time(bar["bucket"]) for bar in answer["bars"]]
    a = ceiling(min(lo, hi), interval)
    b = max(a, ceiling(hi, interval))
    if "start" not in params:
        if not buckets:
            return
        a, b = min(buckets), ceiling(hi, interval)
    if answer["next_cursor"] is not None:
        a, b = (a, end(buckets[-1], interval)) if params["order"] == "asc" else (buckets[-1], b)
    a_s, b_s = (int((t - model.base).total_seconds()) for t in (a, b))
    if a_s < 0:
        assert answer["coverage"]["finest"] is None
        assert answer["coverage"]["complete"] is (False if model.missing("1d", 0, b_s) else None)
        return
    said = answer["coverage"]
    gaps = model.verdict(interval, a_s, b_s)[2]
    assert (said["complete"], said["finest"], said["gaps"]) == (*model.verdict(interval, a_s, b_s)[:2], gaps[:50])


def oracle_time(bucket: str) -> datetime:
    return datetime.fromisoformat(bucket)


def ceiling(ts: datetime, interval: str) -> datetime:
    """The first bucket start at or after a time."""
    floor = oracle.bucket(ts, interval)
    return floor if floor == ts else end(floor, interval)
