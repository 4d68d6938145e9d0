"""`barwright metrics`: every metric there is, from what declares them; docs/metrics.md is its output."""

from collections.abc import Iterator
from types import ModuleType

import click
from prometheus_client.metrics import MetricWrapperBase

from barwright.api import metrics as serve
from barwright.ingest import maintain_metrics as maintain
from barwright.ingest import metrics as ingest
from barwright.ingest.feed import metrics as feed
from barwright.machines import base
from barwright.metrics.families import Family
from barwright.metrics.health import Health
from barwright.metrics.overview import Overview

HEAD = """# Metrics

Every role answers `/metrics` at `BARWRIGHT_METRICS` (`host:port`; `barwright run` names the ports in `instance.json`),
as text or OpenMetrics, and beside it `/health/live` and `/health/ready`. The API's own port has `/metrics` too, of its
process and of the whole database. No label ever holds a symbol or a topic's name; `topics` is `fixed` or `dynamic`.

This page is made by `barwright metrics`.
"""
WHOLE = """
What no process can count is read from the database, by every `maintain` and by the API's own port. All of them say the
same: take `max by (…)` of it, never a sum.
"""
Row = tuple[str, str, tuple[str, ...], str]


@click.command()
def command() -> None:
    """List every metric: its name, type, labels and meaning."""
    click.echo(page(), nl=False)


def page() -> str:
    """All of them, as Markdown."""
    every = [*_families(Health), *_counted(base)]
    parts = [
        ("Every role", [*every, ("process_*, python_*", "", (), "The process, by prometheus-client.")], ""),
        ("ingest", [*_counted(ingest), *_families(ingest.Consuming)], ""),
        ("feed", [*_counted(feed), *_families(feed.Following)], ""),
        ("maintain", list(_counted(maintain)), ""),
        ("serve", [*_counted(serve), *_families(serve.Serving)], ""),
        ("The whole database", list(_families(Overview)), WHOLE),
    ]
    return HEAD + "".join(_table(title, rows, text) for title, rows, text in parts)


def _counted(module: ModuleType) -> Iterator[Row]:
    """The metrics that a module counts."""
    for metric in vars(module).values():
        if isinstance(metric, MetricWrapperBase):
            [described] = metric.describe()
            name = described.name + ("_total" if described.type == "counter" else "")
            yield name, described.type, tuple(metric._labelnames), described.documentation


def _families(kind: type) -> Iterator[Row]:
    """The metrics that a collector looks up."""
    families: tuple[Family, ...] = kind.families  # type: ignore[attr-defined]
    for family in families:
        name = f"barwright_{family.name}{'_total' if family.kind == 'counter' else ''}"
        yield name, family.kind, family.labels, family.help


def _table(title: str, rows: list[Row], text: str) -> str:
    lines = [
        f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {meaning} |"
        for name, kind, labels, meaning in rows
    ]
    return "\n".join(["", f"## {title}", text, "| metric | type | labels | what |", "|---|---|---|---|", *lines, ""])
