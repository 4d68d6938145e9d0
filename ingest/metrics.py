"""What ingest counts: per batch, never per tick, and looked up where it is cheap to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from prometheus_client import Counter, Gauge, Histogram, Metric

from barwright.ingest.ticks import MINUTE, stamp
from barwright.metrics.families import Family

if TYPE_CHECKING:
    from barwright.ingest.consume import Group
    from barwright.ingest.landing import Landing
    from barwright.ingest.writer import Writer

KINDS: Final = ("trade", "bar")
TOPICS: Final = ("fixed", "dynamic")
# The first word of a reason, which names the field, to the class it is counted in.
_CLASSES: Final = {
    **dict.fromkeys(("ts", "TS", "TSNS", "T", "timestamp"), "ts"),
    **dict.fromkeys(("symbol", "FSYM", "s"), "symbol"),
    **dict.fromkeys(("price", "P", "p"), "price"),
    **dict.fromkeys(("size", "Q", "q", "amount"), "size"),
    **dict.fromkeys(("seq", "id", "t", "a"), "seq"),
    **dict.fromkeys(("bar", "open", "high", "low", "close", "volume", "quote_volume", "trades", "interval"), "bar"),
    "open and close must lie between low and high": "bar",
    **dict.fromkeys(("mark", "session", "n", "count", "source", "from, to", "to", "task, attempt"), "mark"),
    "side": "side",
}
REASONS: Final = (*sorted(set(_CLASSES.values())), "rule", "json", "database", "other")

_TICKS: Final = Counter(
    "barwright_ticks", "Ticks committed, imported minutes being kind bar, and those that were there already.",
    ("kind", "outcome"),
)  # fmt: skip
INSERTED: Final = {kind: _TICKS.labels(kind, "inserted") for kind in KINDS}
DUPLICATE: Final = {kind: _TICKS.labels(kind, "duplicate") for kind in KINDS}
_LATE: Final = Counter("barwright_late_ticks", "Ticks committed below the seal.", ("kind",))
LATE: Final = {kind: _LATE.labels(kind) for kind in KINDS}
COARSE: Final = Counter("barwright_coarse_bars", "Bars of hours and days that came.")
_MESSAGES: Final = Counter("barwright_messages", "Kafka records committed.", ("topics",))
MESSAGES: Final = {topics: _MESSAGES.labels(topics) for topics in TOPICS}
_LETTERS: Final = Counter("barwright_dead_letters", "Messages, or items of them, that became no row.", ("reason",))
LETTERS: Final = {reason: _LETTERS.labels(reason) for reason in REASONS}
_BATCHES: Final = Histogram(
    "barwright_batch_duration_seconds", "Transactions that landed a batch; merge: with duplicates around, "
    "bisect: with a row that the database refused.", ("path",),
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)  # fmt: skip
BATCHES: Final = {path: _BATCHES.labels(path) for path in ("copy", "merge", "bisect")}
ROWS: Final = Histogram(
    "barwright_batch_rows", "Rows of a batch.", buckets=(1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000)
)
DELAY: Final = Histogram(
    "barwright_trade_delay_seconds", "From the time of a batch's last trade to its commit.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0),
)  # fmt: skip


class _Newest:
    """What NEWEST tells."""

    at = 0.0


newest: Final = _Newest()
NEWEST: Final = Gauge("barwright_newest_trade_timestamp_seconds", "Time of the newest trade landed here; 0: none yet.")
NEWEST.set_function(lambda: newest.at)
_TAKEOVERS: Final = Counter("barwright_takeovers", "Partitions taken over.", ("topics",))
TAKEOVERS: Final = {topics: _TAKEOVERS.labels(topics) for topics in TOPICS}
FENCED: Final = Counter("barwright_fenced", "Partitions given up since another process has them.")
FAILURES: Final = Counter("barwright_write_failures", "Tries that lost the database.")


def landed(landing: Landing, path: str, seconds: float, now: float) -> None:
    """Count a batch that is committed; `now` is the database's clock, in seconds since 1970."""
    batch = landing.batch
    BATCHES[path].observe(seconds)
    ROWS.observe(batch.rows)
    for kind in KINDS:
        INSERTED[kind].inc(landing.inserted[kind])
        DUPLICATE[kind].inc(landing.arrived[kind] - landing.inserted[kind])
        LATE[kind].inc(landing.late[kind])
    COARSE.inc(sum(len(one.landed) for one in landing.imports if not one.is_fine))
    for chunk in batch.chunks:
        MESSAGES[topics_of(chunk.claim.state is None)].inc(len(chunk.records))
    for letter in batch.letters:
        LETTERS[class_of(letter.reason)].inc()
    LETTERS["database"].inc(len(landing.letters) - len(batch.letters))
    if batch.trades:
        at = datetime.fromisoformat(batch.trades[-1].partition("\t")[0]).timestamp()
        DELAY.observe(now - at)
        newest.at = max(at, newest.at)


def late_rows(rows: Sequence[str], seal: int) -> int:
    """How many rows lie below a minute, counted from 1970: their times are texts of one form, so order is theirs."""
    return sum(map(stamp(seal * MINUTE)[:16].__gt__, rows))


def class_of(reason: str) -> str:
    """The class of a dead letter's reason."""
    if reason.startswith("numbered by"):
        return "rule"
    # msgspec's own words: no JSON, or not of the form that a message has.
    if reason.startswith(("not JSON", "Expected", "Object", "Invalid")):
        return "json"
    return _CLASSES.get(reason.partition(":")[0], "other")


def topics_of(is_fixed: bool) -> str:
    """The label of a kind of topics."""
    return "fixed" if is_fixed else "dynamic"


LAG: Final = Family("consumer_lag_messages", "Records of this member's partitions that are not committed.", ("topics",))
PARTITIONS: Final = Family(
    "partitions", "Partitions of this member: read, paused since its writers have enough, or without a position yet.",
    ("topics", "state"),
)  # fmt: skip
HELD: Final = Family("writer_held_bytes", "Records that wait for a writer.")


class Consuming:
    """What the threads of an ingest process have in hand, looked up."""

    families = (LAG, PARTITIONS, HELD)

    def __init__(self, groups: Sequence[Group], writers: Sequence[Writer]) -> None:
        self.groups, self.writers = groups, writers

    def collect(self) -> Iterable[Metric]:
        """See Collector."""
        lag: dict[tuple[str, ...], float] = {}
        partitions: dict[tuple[str, ...], float] = {}
        for group in self.groups:
            topics, session = topics_of(bool(group.topic)), group.session
            lag[topics,] = session.lag() if session else 0
            states = session.counts() if session else {"reading": 0, "paused": 0, "waiting": 0}
            partitions |= {(topics, state): count for state, count in states.items()}
        yield LAG.of(lag)
        yield PARTITIONS.of(partitions)
        yield HELD.of({(): sum(writer.held for writer in self.writers)})
