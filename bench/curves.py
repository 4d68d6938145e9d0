"""A soak as one picture, and the medians of its quarters: `python -m bench.curves SAMPLES.json PICTURE.svg`."""

import json
import statistics
from html import escape
from pathlib import Path
from typing import Any

import click

WIDTH, HEIGHT, LEFT, RIGHT, GAP = 720, 110, 64, 150, 34
COLOURS = ("#1f6feb", "#d29922", "#2da44e")
# (what, its unit, the lines: name, kind and part of a sample)
PANELS = [
    ("ticks sent and not landed", "", [("waiting", "waiting_ticks", "")]),
    ("an answer", "ms", [("p50", "answer", "p50_ms"), ("p99", "answer", "p99_ms")]),
    ("age of news at a socket", "ms", [("p50", "news_age", "p50_ms"), ("p99", "news_age", "p99_ms")]),
    ("memory", "MB", [(role, role, "mb") for role in ("ingest", "maintain", "serve")]),
    ("open files", "", [(role, role, "files") for role in ("ingest", "maintain", "serve")]),
]


def panel(
    samples: list[dict[str, Any]], what: str, unit: str, lines: list[tuple[str, str, str]], top: int
) -> list[str]:
    """One panel, from zero to the highest value."""
    values = [_values(samples, kind, part) for _, kind, part in lines]
    most, end = max(map(max, values)) or 1.0, samples[-1]["at_s"]
    parts = [
        f'<text x="{LEFT}" y="{top - 8}" class="what">{escape(what)}</text>',
        f'<rect x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT}" class="frame"/>',
        f'<text x="{LEFT - 6}" y="{top + 10}" class="scale">{most:,.0f} {unit}</text>',
        f'<text x="{LEFT - 6}" y="{top + HEIGHT}" class="scale">0</text>',
    ]
    for n, ((name, _, _), line) in enumerate(zip(lines, values, strict=True)):
        points = " ".join(
            f"{LEFT + one['at_s'] / end * (WIDTH - LEFT - RIGHT):.1f},{top + HEIGHT * (1 - value / most):.1f}"
            for one, value in zip(samples, line, strict=True)
        )
        colour = COLOURS[n]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.2"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 8}" y="{top + 14 + 16 * n}" fill="{colour}">{escape(name)} '
                     f"{line[-1]:,.0f} {unit}</text>")  # fmt: skip
    return parts


def _values(samples: list[dict[str, Any]], kind: str, part: str) -> list[float]:
    return [float(one[kind][part] if part else one[kind]) for one in samples]


def quarters(values: list[float]) -> list[float]:
    """The median of each quarter of the time, of at least one value."""
    n = len(values)
    begins = [min(round(q * n / 4), n - 1) for q in range(4)]
    return [statistics.median(values[lo : max(hi, lo + 1)]) for lo, hi in zip(begins, [*begins[1:], n], strict=True)]


def table(samples: list[dict[str, Any]]) -> str:
    """The median of each curve in each quarter of the time, as Markdown."""
    rows = ["| | first quarter | second | third | last |", "|---|---|---|---|---|"]
    for what, unit, lines in PANELS:
        for name, kind, part in lines:
            medians = quarters(_values(samples, kind, part))
            told = " | ".join(f"{median:,.0f} {unit}".rstrip() for median in medians)
            rows.append(f"| {f'{what}: {name}' if len(lines) > 1 else what} | {told} |")
    return "\n".join(rows)


def picture(result: dict[str, Any]) -> str:
    """All panels under each other, as SVG."""
    samples = result["samples"]
    height = GAP + len(PANELS) * (HEIGHT + GAP) + 16
    told = (f"{result['symbols']} symbols, {result['ticks_per_s']:,} ticks/s, {result['minutes']:g} minutes, "
            f"{result['machine']['cores']} cores; at the right the last value")  # fmt: skip
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}">',
        "<style>svg{font:12px sans-serif}text{fill:#57606a}.what{font-weight:bold}.scale{text-anchor:end}"
        ".frame{fill:none;stroke:#d0d7de}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for n, (what, unit, lines) in enumerate(PANELS):
        parts += panel(samples, what, unit, lines, GAP + n * (HEIGHT + GAP))
    return "\n".join([*parts, f'<text x="{LEFT}" y="{height - 8}">{escape(told)}</text>', "</svg>", ""])


@click.command()
@click.argument("samples", type=click.Path(exists=True, path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
def main(samples: Path, target: Path) -> None:
    """Draw."""
    result = json.loads(samples.read_text())
    target.write_text(picture(result))
    click.echo(table(result["samples"]))


if __name__ == "__main__":
    main()
