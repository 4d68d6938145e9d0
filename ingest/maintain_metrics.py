"""What maintain counts."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

LEADER: Final = Gauge("barwright_leader", "Whether this maintain is the active one.")
_ROUNDS: Final = Counter("barwright_rounds", "Rounds of maintain.", ("outcome",))
ROUNDS: Final = {outcome: _ROUNDS.labels(outcome) for outcome in ("done", "failed")}
_STEPS: Final = Histogram("barwright_round_duration_seconds", "Steps of a round.", ("step",), buckets=SECONDS)
STEPS: Final = {
    step: _STEPS.labels(step) for step in ("seal", "advance", "repair", "file", "correct", "audit", "notify")
}
POSTPONED: Final = Counter("barwright_seals_postponed", "Seals that let ingest pass and were tried again later.")
REPAIRED: Final = Counter("barwright_repaired_ranges", "Late ranges that were repaired.")
REPAIR_SECONDS: Final = Histogram(
    "barwright_repair_duration_seconds", "Repairs that had something to do.", buckets=SECONDS
)
_FILED: Final = Counter("barwright_backfills_filed", "Backfill tasks that maintain filed.", ("reason",))
FILED: Final = {reason: _FILED.labels(reason) for reason in ("gap", "correction")}
LANDED: Final = Counter("barwright_backfills_landed", "Backfill tasks whose bars are there, repairs included.")
