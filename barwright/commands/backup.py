"""`barwright backup`: a dump of a running instance that `barwright restore` and Kafka make whole again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from barwright.backup.take import take
from barwright.commands.common import answered, put_json
from barwright.settings import Settings


@click.command("backup")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(1, 64), help="tables dumped at once")
@click.option("--json", "as_json", is_flag=True, help="tell what was backed up as JSON")
@click.pass_obj
def command(settings: Callable[[], Settings], folder: Path, jobs: int, as_json: bool) -> None:
    """Back the database up into FOLDER while everything runs: bars, ticks, keys, and the positions in Kafka from which
    `barwright restore` lets ingest read on. Kafka must still hold what has come since."""
    with answered(), steps("backing up") as told:
        made = take(settings(), folder, jobs, told)
    if as_json:
        put_json(made)
        return
    click.echo(
        f"{folder}: {made.size / 1e6:,.1f} MB, engine {made.engine}, minutes closed up to "
        f"{made.closed_until:%Y-%m-%d %H:%M}Z, {len(made.positions)} positions in Kafka"
    )


@contextmanager
def steps(title: str) -> Iterator[Callable[[str], None]]:
    """Shows the step that is under way, on a terminal."""
    shown = Console(stderr=True, markup=False, highlight=False)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.fields[step]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=shown, disable=not shown.is_terminal, transient=True) as progress:
        task = progress.add_task(title, total=None, step="")
        yield lambda step: progress.update(task, step=step)
