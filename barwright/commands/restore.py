"""`barwright restore`: a backup becomes an empty database again."""

from collections.abc import Callable
from pathlib import Path

import click
from rich.table import Table

from barwright.backup.restore import restore
from barwright.commands.backup import steps
from barwright.commands.common import answered, console
from barwright.settings import Settings


@click.command("restore")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(1, 64), help="tables restored at once")
@click.pass_obj
def command(settings: Callable[[], Settings], folder: Path, jobs: int) -> None:
    """Fill an empty database from the backup in FOLDER, with every role stopped. Started again, ingest reads on in
    Kafka from the positions in it, to the last tick; by a new epoch caches and streams forget what is lost."""
    with answered(), steps("restoring") as told:
        backup = restore(settings(), folder, jobs, told)
    click.echo(f"restored the {backup.engine} database of {backup.made_at:%Y-%m-%d %H:%M:%S}Z; its epoch is renewed")
    table = Table("topic", "partition", "ingest reads on at")
    for position in backup.positions:
        table.add_row(position.topic, str(position.partition), f"{position.next_offset:,}")
    console().print(table if backup.positions else "no positions: nothing had landed from Kafka")
