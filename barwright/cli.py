"""The command line. Commands import what they need when they run, so that `--help` is quick."""

import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import click

from barwright import __version__
from barwright.errors import BarwrightError
from barwright.lazy import LazyGroup

if TYPE_CHECKING:
    from barwright.settings import Settings


class Commands(LazyGroup):
    """The commands of this module, and those that live with what they do: given a function that returns the settings,
    attached to what runs."""

    elsewhere: ClassVar = {
        "simulator": ("barwright.simulator.command", "Run a simulated exchange, print its truth, make it fail."),
        "replay": ("barwright.ingest.replay", "Send the trades of a CSV file to the tick topic."),
        "dead-letters": (
            "barwright.ingest.dead_letters",
            "List messages that could not become rows, or send them again.",
        ),
        "symbol": ("barwright.commands.symbol", "Register symbols, list them, remove them."),
        "gaps": ("barwright.commands.gaps", "List what is missing of the history."),
        "backfill": ("barwright.commands.backfill", "Ask for a symbol's history, and show how far it is."),
        "storage": ("barwright.commands.storage", "Show what ticks and bars take, and what is kept for how long."),
        "audit": ("barwright.commands.audit", "Show what the auditor found, or look at every bar now."),
        "status": ("barwright.commands.status", "Show what runs, how far it is, and whether that is well."),
        "doctor": ("barwright.commands.doctor", "Find what is wrong with servers, settings and roles, and what to do."),
        "key": ("barwright.commands.key", "Make keys of the API, list them, revoke them; make login links."),
        "backup": ("barwright.commands.backup", "Back the database up while everything runs."),
        "restore": ("barwright.commands.restore", "Fill an empty database from a backup."),
        "health": ("barwright.commands.health", "Ask a role whether it lives and can work."),
        "metrics": ("barwright.commands.metrics", "List every metric."),
        "role": ("barwright.commands.role", "List the database roles, give them passwords."),
        "copy": ("barwright.commands.copy", "Copy a database into an empty one of the other engine."),
        "diagram": ("barwright.machines.diagram", "Draw the state machines, as DOT or SVG."),
    }


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.pass_context
def cli(context: click.Context) -> None:
    """OHLCV bars you can trust: ticks on Kafka become exact bars in the database and in the API.

    Everything is configured by the environment; `barwright config` lists it.
    """
    context.obj = _attached


@cli.command()
def run() -> None:
    """Run everything on this machine, in the foreground: servers, feed, ingest, maintain and the API."""
    from barwright import run as running

    running.run(settings())


@cli.command()
def feed() -> None:
    """Publish a source's trades to Kafka."""
    from barwright.ingest import feed as role

    _until_stopped("feed", role.run)


@cli.command()
def ingest() -> None:
    """Land Kafka's messages in the database, each once. Run several to share the work."""
    import gc

    from barwright.ingest import consume as role

    # What waits in queues is freed by its reference counts. Looking through it and all modules for cycles, each 700
    # objects, took a sixth to a quarter of the time where each message holds one tick.
    gc.freeze()
    gc.set_threshold(50_000)
    _until_stopped("ingest", role.run)


@cli.command()
def maintain() -> None:
    """Close and repair bars. Run two, and the second takes over when the first dies."""
    from barwright.ingest import maintain as role

    _until_stopped("maintain", role.run)


@cli.command()
def serve() -> None:
    """Answer clients: the HTTP API."""
    from barwright import log, schema
    from barwright.api import server

    attached = _attached()
    log.configure(attached, "serve")
    schema.demand(attached, empty=True)  # it says by itself, to those who ask, that nothing is migrated yet
    server.run(attached)


@cli.command()
@click.argument("revision", default="head")
@click.option("--ini", is_flag=True, help="Print the path of the alembic.ini instead, for `alembic -c`.")
def migrate(revision: str, ini: bool) -> None:
    """Bring the database's schema to a revision (the newest). Twice is harmless, two at once are safe."""
    from sqlalchemy.exc import OperationalError

    from barwright import migrations

    if ini:
        click.echo(migrations.HERE / "alembic.ini")
        return
    try:
        migrations.upgrade(_attached(), revision)
    except OperationalError as error:
        raise BarwrightError(f"The database: {error.orig}", "Check DATABASE_URL or the PG* variables.") from error


@cli.command()
def env() -> None:
    """Print the variables that attach a shell to the running instance: eval "$(barwright env)"."""
    import shlex

    from barwright import instance

    home = settings().home
    running = instance.read(home)
    if running is None:
        raise BarwrightError(f"No Barwright runs in {home}.", "Start one with `barwright run`, or set BARWRIGHT_HOME.")
    for name, value in running.exports().items():
        click.echo(f"export {name}={shlex.quote(value)}")


@cli.command()
@click.option("--markdown", "as_page", is_flag=True, help="docs/configuration.md: every setting, without its value.")
def config(as_page: bool) -> None:
    """List every setting: its variable, its default, what it means, and its value now."""
    from rich.console import Console

    from barwright.configuration import markdown, table

    if as_page:
        click.echo(markdown(), nl=False)
    else:
        Console().print(table(settings()))


def settings() -> "Settings":
    """The settings of this process; BarwrightError names each variable that is wrong."""
    from pydantic import ValidationError

    from barwright.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        from barwright.configuration import variable

        wrong = [f"{variable(str(item['loc'][0]))}={item['input']}: {item['msg']}" for item in error.errors()]
        raise BarwrightError("; ".join(wrong) + ".", "`barwright config` says what each setting takes.") from error


def _attached() -> "Settings":
    """The settings, attached to the instance that runs in their home where the environment names no servers."""
    from barwright import instance

    return instance.attach(settings())


def _until_stopped(name: str, role: Callable[["Settings", threading.Event], None]) -> None:
    """Run a role until SIGTERM or SIGINT: it drains, and the process ends with status 0."""
    from barwright import log, schema

    attached, stop = _attached(), threading.Event()
    log.configure(attached, name)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    schema.demand(attached)
    role(attached, stop)


def main() -> None:
    """The `barwright` command; what Barwright can explain is said in a sentence, not in a traceback."""
    try:
        cli()
    except BarwrightError as error:
        click.echo(f"barwright: {error.message}", err=True)
        if error.hint:
            click.echo(error.hint, err=True)
        sys.exit(1)
