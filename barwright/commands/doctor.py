"""`barwright doctor`: everything that is wrong with the servers, the settings and what runs, and what to do."""

from collections.abc import Callable

import click
from rich.table import Table
from rich.text import Text

from barwright.commands.common import console, put_json
from barwright.doctor.examination import Examination, examine
from barwright.doctor.finding import Finding
from barwright.settings import Settings

STYLES = {"well": "green", "warning": "yellow", "problem": "bold red"}
MARKS = {"well": "ok", "warning": "warning", "problem": "PROBLEM"}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="one JSON object a finding")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Check settings, versions, edition, rights, clocks, topics, disks and what runs, and tell what to do.

    The status is 1 if there is a problem.
    """
    settings: Callable[[], Settings] = context.obj
    found = examine(settings())
    if as_json:
        for finding in found.findings:
            put_json(finding._asdict())
    else:
        console().print(table(found.findings))
        console().print(verdict(found))
    if found.problems:
        context.exit(1)


def table(findings: list[Finding]) -> Table:
    """A line for each, what is wrong first."""
    rows = Table("", "what", "", "next step", box=None)
    for finding in sorted(findings, key=lambda each: ("problem", "warning", "well").index(each.state)):
        rows.add_row(Text(MARKS[finding.state], STYLES[finding.state]), finding.what, finding.said, finding.todo)
    return rows


def verdict(found: Examination) -> Text:
    """All of it in a line."""
    if found.problems:
        return Text(f"{len(found.problems)} problem{'s' * (len(found.problems) > 1)}", STYLES["problem"])
    if found.warnings:
        return Text(f"no problem, {len(found.warnings)} warning{'s' * (len(found.warnings) > 1)}", STYLES["warning"])
    return Text("no problem", STYLES["well"])
