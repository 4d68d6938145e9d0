"""`barwright gaps`: what is missing."""

from collections.abc import Callable

import click
from rich.table import Table

from barwright.api.history import gap
from barwright.commands.common import Q, connected, console, named, put_json
from barwright.commands.watching import duration
from barwright.settings import Settings


@click.command("gaps")
@click.argument("symbol", required=False)
@click.option("--limit", type=click.IntRange(1), default=10_000, help="at most so many (10,000)")
@click.option("--json", "as_json", is_flag=True, help="one JSON object a line")
@click.pass_obj
def command(settings: Callable[[], Settings], symbol: str | None, limit: int, as_json: bool) -> None:
    """List what is missing of SYMBOL's history, or of every symbol's, and what awaits repair, newest first."""
    with connected(settings(), "gaps") as connection:
        if symbol is not None:
            symbol = named(connection, symbol)
        rows = connection.execute(Q["gaps"], {"symbol": symbol, "limit": limit}).fetchall()
    if as_json:
        for row in rows:
            put_json(gap(row))
        return
    table = Table("symbol", "from (UTC)", "to (UTC)", "length")
    for name, start, end in rows:
        table.add_row(name, f"{start:%F %T}", f"{end:%F %T}", duration((end - start).total_seconds()))
    console().print(table if rows else "no gaps")
