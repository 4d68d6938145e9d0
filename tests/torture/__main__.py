"""`make torture MINUTES=…`: hypothesis breaks a whole Barwright under load, every message and bar is accounted for."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from random import Random, SystemRandom

import click
import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis.stateful import run_state_machine_as_test

from tests.torture.machine import Torture
from tests.torture.run import Run


@click.command()
@click.option("--minutes", type=float, default=5, show_default=True, help="how long things break")
@click.option("--rate", type=float, default=8000, show_default=True, help="messages a second of the load")
@click.option("--steps", type=int, default=30, show_default=True, help="steps between two quiet points")
@click.option("--examples", type=int, default=10**6, help="at most so many quiet points")
@click.option("--seed", type=int, help="of a run to be repeated; else a new one")
@click.option("--market/--no-market", default=True, help="whether an exchange is followed and backfilled too")
@click.option("--keep", type=click.Path(path_type=Path), help="a new directory for data and logs, which stays")
@click.option("--table", type=click.Path(path_type=Path), help="files to write the table to: this name .md and .json")
def main(
    minutes: float,
    rate: float,
    steps: int,
    examples: int,
    seed: int | None,
    market: bool,
    keep: Path | None,
    table: Path | None,
) -> None:
    """Torture a whole Barwright and account for every message and every bar."""
    seed = SystemRandom().randrange(10**6) if seed is None else seed
    click.echo(f"seed {seed}")
    with tempfile.TemporaryDirectory() as temporary:
        if keep:
            keep.mkdir(parents=True)
        run = Run(keep or Path(temporary), seed, rate, market, click.echo)
        with run:
            _torture(run, minutes * 60, steps, examples)
    counts = run.counts
    click.echo(counts.markdown())
    if table:
        table.with_suffix(".md").write_text(counts.markdown() + "\n")
        table.with_suffix(".json").write_text(counts.json() + "\n")
    for line in counts.wrong:
        click.echo(f"WRONG {line}")
    click.echo(f"seed {seed}: {'WRONG' if counts.wrong else 'every message and every bar is accounted for'}")
    sys.exit(bool(counts.wrong))


def _torture(run: Run, seconds: float, steps: int, examples: int) -> None:
    """Examples, each of so many steps, until the time is up; the seed chooses them all."""
    Torture.run, random = run, Random(run.counts.seed)
    run.until = time.monotonic() + seconds
    while not run.over and run.counts.quiet < examples and not run.counts.wrong:
        machine = hypothesis.seed(random.randrange(10**9))(type("Torture", (Torture,), {}))
        # The first example of each is the plainest that there is.
        settings = hypothesis.settings(
            max_examples=min(5, examples - run.counts.quiet), stateful_step_count=steps, deadline=None, database=None,
            phases=[Phase.generate], suppress_health_check=list(HealthCheck), print_blob=False,
        )  # fmt: skip
        try:
            run_state_machine_as_test(machine, settings=settings)
        except Exception:
            # Hypothesis wraps what it could not repeat; what is wrong is in the counts.
            if not run.counts.wrong:
                raise


main()
