"""`barwright status`: what runs, how far it is, and whether that is well."""

from collections.abc import Callable, Iterator
from typing import Any

import click
from rich.table import Table

from barwright import __version__
from barwright.commands.common import console, put_json
from barwright.commands.doctor import table, verdict
from barwright.commands.watching import duration
from barwright.doctor.examination import Examination, examine
from barwright.doctor.look import ROLES, Look
from barwright.doctor.replica import Standby
from barwright.settings import Settings

LAGS = ("seal_lag", "watermark_lag", "watermark_overdue")


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="all of it as one JSON object")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Show the roles, lags, gaps, backfills, jobs and versions, and a verdict with the next step for each problem.

    The status is 1 if there is a problem. `barwright doctor` looks more closely.
    """
    settings: Callable[[], Settings] = context.obj
    found = examine(settings(), thoroughly=False)
    if as_json:
        put_json(told(found))
    else:
        for part in _shown(found):
            console().print(part)
    if found.problems:
        context.exit(1)


def told(found: Examination) -> dict[str, Any]:
    """All of it for programs; times in seconds."""
    unwell = [finding._asdict() for finding in found.findings if finding.state != "well"]
    answer: dict[str, Any] = {
        "version": __version__,
        "verdict": "problem" if found.problems else "warning" if found.warnings else "well",
        "findings": unwell,
    }
    if found.look is None:
        return answer
    look, figure = found.look, found.look.figure
    return answer | {
        "engine": look.server.engine, "postgresql": look.server.postgres, "timescaledb": look.server.timescaledb,
        "schema": look.server.revision,
        "roles": {role: _role(look, role) for role in ROLES},
        "replica": _replica(found.standby),
        "lag_messages": found.lag,
        "levels": {
            level: {name: look.figure(f"{name}_seconds", level) for name in LAGS}
            for (level,) in look.figures["watermark_lag_seconds"]
        },
        "symbols": {state: int(count) for (state,), count in look.figures["symbols"].items()},
        "gaps": {"spans": int(figure("gaps")), "seconds": figure("gap_missing_seconds"),
                 "oldest_seconds": figure("gap_oldest_age_seconds")},
        "backfill_tasks": {status: int(count) for (status,), count in look.figures["backfill_tasks"].items()},
        "late_ranges": int(figure("late_ranges")),
        "dead_letters": look.letters._asdict(),
        "audit": {"bars": int(figure("audited_bars")), "findings": int(figure("audit_findings")),
                  "open": int(figure("audit_findings_open"))},
        "topics": [position._asdict() for position in look.positions],
        "jobs": [job._asdict() for job in look.jobs],
    }  # fmt: skip


def _replica(standby: Standby | None) -> dict[str, Any] | None:
    if standby is None:
        return None
    lag = standby.lag
    return {"state": standby.state, "lag_seconds": lag and lag.seconds, "lag_bytes": lag and lag.size}


def _role(look: Look, role: str) -> dict[str, Any]:
    machines = [state for state in look.states if state.role == role]
    return {
        "running": look.running(role),
        "processes": len({state.instance for state in machines}),
        "users": sorted({process.user for process in look.processes if process.program == role}),
        "machines": {f"{state.machine} {state.state}": state.machines for state in machines},
    }


def _shown(found: Examination) -> Iterator[Any]:
    if found.look is not None:
        yield _head(found, found.look)
        yield _roles(found.look)
        yield _levels(found.look)
        if found.look.jobs:
            yield _jobs(found.look)
    yield verdict(found)
    if unwell := [finding for finding in found.findings if finding.state != "well"]:
        yield table(unwell)


def _head(found: Examination, look: Look) -> str:
    server, figure = look.server, look.figure
    extension = f", TimescaleDB {server.timescaledb}" if server.timescaledb else ""
    lag = "unknown" if found.lag is None else f"{found.lag:,}"
    symbols = ", ".join(f"{count:.0f} {state}" for (state,), count in look.figures["symbols"].items() if count)
    tasks = ", ".join(f"{count:.0f} {status}" for (status,), count in look.figures["backfill_tasks"].items() if count)
    missing = duration(figure("gap_missing_seconds")) if figure("gaps") else "nothing"
    return "\n".join(
        [
            f"Barwright {__version__}, schema {server.revision}",
            f"engine    {server.engine} on PostgreSQL {server.postgres}{extension}",
            *([f"replica   {found.standby}"] if found.standby else []),
            f"symbols   {symbols or 'none'}",
            f"Kafka     {lag} records to land; dead letters {look.letters.total:,}",
            f"missing   {missing} in {figure('gaps'):.0f} gaps; late ranges {figure('late_ranges'):.0f}",
            f"backfills {tasks or 'none'}",
            f"auditor   {figure('audited_bars'):,.0f} bars, {figure('audit_findings'):.0f} differed",
        ]
    )


def _roles(look: Look) -> Table:
    rows = Table("role", "processes", "user", "machines", box=None)
    for role in ROLES:
        one = _role(look, role)
        state = str(one["processes"] or 1) if one["running"] else "none"
        machines = ", ".join(f"{count} {name}" for name, count in one["machines"].items())
        rows.add_row(role, state, ", ".join(one["users"]), machines)
    return rows


def _levels(look: Look) -> Table:
    rows = Table("level", "seal behind", "watermark behind", "overdue", box=None)
    for (level,), behind in look.figures["watermark_lag_seconds"].items():
        seal, overdue = look.figure("seal_lag_seconds", level), look.figure("watermark_overdue_seconds", level)
        rows.add_row(level, duration(seal), duration(behind), duration(overdue) if overdue > 1 else "")
    return rows


def _jobs(look: Look) -> Table:
    rows = Table("job", "on", "last run", "failures", "next", box=None)
    for job in look.jobs:
        start = f"{job.next_start:%F %T}" if job.next_start else ""
        rows.add_row(job.procedure, job.on, job.status, str(job.failures or 0), start)
    return rows
