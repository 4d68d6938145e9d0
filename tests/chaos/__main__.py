"""`make chaos`: faults at random for some minutes, then every bar against the truth. It prints its seed first."""

import sys
import tempfile
import time
from pathlib import Path
from random import SystemRandom

import click

from tests.chaos.run import run


@click.command()
@click.option("--minutes", type=float, default=5, show_default=True, help="how long things break")
@click.option("--seed", type=int, help="of a run to be repeated; else a new one")
@click.option("--keep", type=click.Path(path_type=Path), help="a new directory for data and logs, which stays")
def main(minutes: float, seed: int | None, keep: Path | None) -> None:
    """Break a whole Barwright and compare every bar with the truth."""
    seed = SystemRandom().randrange(10**6) if seed is None else seed
    click.echo(f"seed {seed}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        if keep:
            keep.mkdir(parents=True)
        report = run(minutes * 60, seed, keep or Path(temporary), click.echo)
    click.echo(f"{len(report.faults)} faults, {report.deaths} processes started again, {report.late} late trades")
    click.echo(
        f"healed {report.healed} s after the last fault; {report.bars:,} bars compared; answers {report.answers}"
    )
    click.echo(f"{time.monotonic() - began:.0f} s in all")
    for line in report.wrong:
        click.echo(f"WRONG {line}")
    click.echo(f"seed {seed}: {'WRONG' if report.wrong else 'every bar is the truth'}")
    sys.exit(bool(report.wrong))


main()
