"""`barwright restore`: a backup becomes an empty database again."""

from collections.abc import Callable
from pathlib import Path

import click
from rich.table import Table

from barwright.backup.manifest import Manifest
from barwright.backup.restore import restore
from barwright.commands.backup import steps
from barwright.commands.common import answered, console
from barwright.ingest.kafka import KafkaError, Partition, logs
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
    if backup.positions:
        console().print(_positions(backup, settings()))


def _positions(backup: Manifest, settings: Settings) -> Table:
    """From where ingest reads on, and whether Kafka still has what comes there."""
    try:
        found = logs(settings, {position.topic for position in backup.positions})
    except (KafkaError, OSError) as error:
        click.echo(f"Kafka cannot be asked what it still holds: {error}", err=True)
        found = None
    table = Table("topic", "partition", "ingest reads on at", "to come", "lost")
    for one in backup.positions:
        log = found.get(Partition(one.topic, one.partition)) if found is not None else None
        if found is None:
            rest = ("unknown", "unknown")
        elif log is None:
            rest = ("", "the topic is gone")
        elif str(log.topic_id) != one.topic_id:
            rest = (f"{log.end - log.start:,}", "the topic was made again")
        else:
            rest = (f"{log.end - max(one.next_offset, log.start):,}", f"{max(log.start - one.next_offset, 0):,}")
        table.add_row(one.topic, str(one.partition), f"{one.next_offset:,}", *rest)
    return table
