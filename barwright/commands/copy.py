"""`barwright copy`: from one engine to the other."""

from collections.abc import Callable

import click

from barwright.backup.copying import copy
from barwright.commands.backup import steps
from barwright.commands.common import answered
from barwright.settings import Settings


@click.command("copy")
@click.argument("origin", metavar="FROM_URL")
@click.pass_obj
def command(settings: Callable[[], Settings], origin: str) -> None:
    """Copy the database at FROM_URL into the empty, migrated one of DATABASE_URL, of whichever engine: ticks, coverage,
    tasks, symbols, keys and Kafka's positions. Bars are made again from the ticks and compared, each of every interval.

    Stop feed and ingest before and let maintain finish; started on the new database, ingest reads on in Kafka."""
    with answered(), steps("copying") as told:
        counts = copy(origin, settings(), told)
    told_counts = ", ".join(f"{count:,} of {interval}" for interval, count in counts.items())
    click.echo(f"copied; every bar is the same: {told_counts}")
