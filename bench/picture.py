"""Barwright beside its peers as one picture: `python -m bench.picture RESULT.json PICTURE.svg`."""

import json
import math
from html import escape
from pathlib import Path
from typing import Any

import click

WIDTH, LEFT, RIGHT, ROW, GAP = 760, 210, 90, 20, 44
OURS, THEIRS, LIMIT = "#1f6feb", "#8c959f", "#d0d7de"
LIMITS = ("copy_", "kafka_alone", "static_bytes")
# (what, unit, part of the result, what of each of its figures); shorter is better, but for what is by second
PANELS = [
    ("Ticks landed, by second", "/s", "ingest", ""),
    ("One tick sent → seen by a query, p50", "ms", "latency_ms", "p50_ms"),
    ("All minute bars of all ticks", "s", "refresh", ""),
    ("500 closed bars by SQL, received, p50", "ms", "query_ms.closed.received", "p50_ms"),
    ("500 closed bars by SQL, as Python's numbers, p50", "ms", "query_ms.closed", "p50_ms"),
    ("500 bars, the last one open, by SQL, p50", "ms", "query_ms.open", "p50_ms"),
    ("The newest bar by SQL, p50", "ms", "query_ms.last_bar", "p50_ms"),
    ("500 closed bars over HTTP, p50", "ms", "page.ms", "p50_ms"),
    ("All bars of all symbols as a file", "s", "history_s", ""),
    ("A tick on disk", "bytes", "bytes.tick", ""),
]
LEFT_OUT = ("of_", "p50_to", "rows", "received", "bars", "barwright_peak_mb", "questdb_lines_committed")


def figures(result: dict[str, Any], part: str, of: str) -> dict[str, float]:
    """The figures of a panel by name."""
    for name in part.split("."):
        result = result[name]
    return {
        name: float(value[of] if of else value)
        for name, value in result.items()
        if not name.startswith(LEFT_OUT) and value
    }


def panel(found: dict[str, float], what: str, unit: str, top: int) -> list[str]:
    """Bars on a scale of powers of ten, ours first."""
    lowest, most = math.floor(math.log10(min(found.values())) - 0.2), math.log10(max(found.values()))
    parts = [f'<text x="{LEFT}" y="{top - 8}" class="what">{escape(what)}</text>']
    for n, (name, value) in enumerate(sorted(found.items(), key=lambda one: "barwright" not in one[0])):
        long = (math.log10(value) - lowest) / (most - lowest) * (WIDTH - LEFT - RIGHT)
        colour = OURS if "barwright" in name else LIMIT if name.startswith(LIMITS) else THEIRS
        y = top + n * ROW
        parts += [
            f'<text x="{LEFT - 8}" y="{y + 13}" class="name">{escape(name.replace("_", " "))}</text>',
            f'<rect x="{LEFT}" y="{y + 2}" width="{long:.1f}" height="{ROW - 5}" fill="{colour}"/>',
            f'<text x="{LEFT + long + 6:.1f}" y="{y + 13}">{value:,.{0 if value >= 100 else 2}f} {unit}</text>',
        ]
    return parts


def picture(result: dict[str, Any]) -> str:
    """All panels under each other, as SVG."""
    peers, machine, parts, top = result["peers"], result["machine"], [], 60
    for what, unit, part, of in PANELS:
        found = figures(peers, part, of)
        parts += panel(found, what, unit, top)
        top += len(found) * ROW + GAP
    told = (f"{peers['ticks']:,} ticks, medians of {peers['rounds']} rounds, {machine['cores']} cores, load "
            f"{machine['load']} at the start ({machine['cpu']}); scales are logarithmic")  # fmt: skip
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}">',
        "<style>svg{font:12px sans-serif}text{fill:#57606a}.what{font-weight:bold}.name{text-anchor:end}</style>",
        f'<rect width="{WIDTH}" height="{top}" fill="#ffffff"/>',
        f'<text x="16" y="22">{escape(told)}</text>', *parts, "</svg>", "",
    ])  # fmt: skip


@click.command()
@click.argument("result", type=click.Path(exists=True, path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
def main(result: Path, target: Path) -> None:
    """Draw."""
    target.write_text(picture(json.loads(result.read_text())))


if __name__ == "__main__":
    main()
