"""Whether the roles do their work: bars closed in time, nothing lost, nothing missing for long."""

from __future__ import annotations

from typing import Final

from barwright.commands.watching import duration
from barwright.doctor.finding import Finding, Findings, problem, warning, well
from barwright.doctor.look import ROLES, Look

# Seconds. A level is rolled up within 3 s of its end; a maintain that takes over needs some more.
OVERDUE: Final = 30.0
LATE: Final = 30.0  # a late tick is repaired within 2 s, 10,000 of them within 22 s
GAP: Final = 600.0  # a vendor's grace and a retried task are over by then
QUIET: Final = 60.0  # no record landed for so long although there are some: ingest stands still
WAITING: Final = 100_000  # records: a second of work for one process
WHY: Final = {
    "feed": "nothing new arrives from the sources, and no history is fetched",
    "ingest": "nothing lands in the database",
    "maintain": "bars are not closed, late ticks not repaired, gaps not asked for",
    "serve": "clients get no answer",
}


def checks(look: Look, lag: int | None) -> Findings:
    """All of them; `lag` is how many records wait for ingest (None: Kafka does not tell)."""
    yield from roles(look)
    yield from bars(look)
    yield from history(look)
    yield from landing(look, lag)


def roles(look: Look) -> Findings:
    """Each role runs, and maintain leads."""
    for role in ROLES:
        if look.running(role):
            yield well(role, "runs")
        else:
            yield problem(role, f"No {role} is connected: {WHY[role]}.", f"Start one: barwright {role}")
    for state in look.states:
        if state.error and state.state == "error":
            yield warning(
                state.role, f"{state.machine} of {state.instance}: {state.error}", f"Read the log of {state.role}."
            )


def bars(look: Look) -> Findings:
    """Bars are closed in time, repaired, and right."""
    overdue = look.figures.get("watermark_overdue_seconds", {})
    for (level,), seconds in overdue.items():
        if seconds > OVERDUE:
            yield problem(
                "watermark", f"{level} bars should have been closed {duration(seconds)} ago.",
                "Is a maintain running, and what does its log say? A long ingest transaction holds it up too.",
            )  # fmt: skip
    ahead = look.figure("watermark_ahead_seconds")
    if ahead > 0:
        yield problem(
            "watermark", f"A watermark is {duration(ahead)} ahead of the clock: bars below it hide ticks that come.",
            "A tick or a manual refresh was dated in the future. See docs/operations.md#watermarkahead",
        )  # fmt: skip
    late = look.figure("late_range_oldest_age_seconds")
    if late > LATE:
        yield problem("late ticks", f"Some wait for repair since {duration(late)}.", "See the log of maintain.")
    yield from _audit(look)
    for name in look.blind:
        yield problem(
            "views", f"{name} does not show the live bar: real-time aggregation is off.",
            f"alter materialized view barwright.{name} set (timescaledb.materialized_only = false);",
        )  # fmt: skip
    for job in look.jobs:
        if job.status == "Failed":
            yield warning(
                "jobs", f"{job.procedure} on {job.on} failed, {job.failures} times in all.",
                "select * from timescaledb_information.job_errors order by finish_time desc limit 5;",
            )  # fmt: skip


def _audit(look: Look) -> Findings:
    found, still = (look.figure(name) for name in ("audit_findings", "audit_findings_open"))
    if still:
        yield problem("auditor", f"{still:.0f} bars differ from their ticks.", "barwright audit; does maintain run?")
    elif found:
        yield warning("auditor", f"{found:.0f} bars differed from their ticks; they are repaired.", "barwright audit")
    else:
        yield well("auditor", f"{look.figure('audited_bars'):,.0f} bars compared with their ticks, none differed")


def history(look: Look) -> Findings:
    """What is missing is being fetched."""
    oldest = look.figure("gap_oldest_age_seconds")
    gaps = look.figure("gaps")
    if oldest > GAP:
        yield problem(
            "gaps",
            f"{gaps:.0f}, the oldest for {duration(oldest)}.",
            "barwright gaps; barwright backfill SYMBOL shows why",
        )
    else:
        yield well("gaps", f"{gaps:.0f} being filled" if gaps else "none")
    if look.failing:
        symbol, error = look.failing
        yield warning(
            "backfill", f"{symbol}: {error}", f"It is tried again. barwright backfill {symbol} shows how far it is."
        )


def landing(look: Look, lag: int | None) -> Findings:
    """What arrives on Kafka lands."""
    moved = min((position.age for position in look.positions), default=0.0)
    if lag and moved > QUIET:
        yield problem(
            "ingest", f"{lag:,} records wait, and none has landed for {duration(moved)}.", "Read the log of ingest."
        )
    elif lag and lag > WAITING:
        yield warning("ingest", f"{lag:,} records wait.", "If that grows, start one more: barwright ingest")
    elif lag is not None:
        yield well("lag", f"{lag:,} records")
    skipped = sum(position.skipped for position in look.positions)
    if skipped:
        yield problem(
            "ingest", f"{skipped:,.0f} records were gone from Kafka before they had landed.",
            "Raise the topic's retention. What a source can give again is fetched: barwright gaps",
        )  # fmt: skip
    yield _letters(look)


def _letters(look: Look) -> Finding:
    letters = look.letters
    if letters.lately:
        return problem(
            "dead letters",
            f"{letters.lately:,} in the last hour ({letters.total:,} in all), the newest: {letters.reason}",
            "barwright dead-letters lists them; once the sender is mended, barwright dead-letters --resend",
        )  # fmt: skip
    return well("dead letters", f"{letters.total:,}, none in the last hour" if letters.total else "none")
