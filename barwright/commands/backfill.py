"""`barwright backfill`: ask for what is missing of a symbol, and show how far it is."""

from collections.abc import Callable
from datetime import UTC, datetime

import click
from psycopg.types.range import TimestamptzRange

from barwright.commands.common import connected, named, one, put_json, time_of
from barwright.commands.watching import look, watch
from barwright.errors import BarwrightError
from barwright.settings import Settings


@click.command("backfill")
@click.argument("symbol")
@click.option("--again", is_flag=True, help="also what is there already: what the source has now replaces it")
@click.option("--start", help="only from here on, as 2020-01-01")
@click.option("--end", help="only up to here")
@click.option("--wait/--no-wait", default=True, help="show the progress until all is there (the default)")
@click.option("--json", "as_json", is_flag=True, help="tell how far it is at last as JSON")
@click.pass_obj
def command(
    settings: Callable[[], Settings], symbol: str, again: bool, start: str | None, end: str | None, wait: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Ask for what is missing of SYMBOL's history before all else, and show how far it is until all is there."""
    span = _span(start, end)
    with connected(settings(), "backfill") as connection:
        symbol = named(connection, symbol)
        if look(connection, symbol)["share"] is None:
            raise BarwrightError(
                f"Nobody asked for the history of {symbol}.",
                f"`barwright symbol add {symbol} --start 2020-01-01` does.",
            )
        filed = one(connection, "ask_again" if again else "ask", symbol=symbol, span=span)[0]
        if not as_json:
            click.echo(f"{filed:,} task{'' if filed == 1 else 's'} filed", err=True)
        found = watch(connection, symbol, tasks_too=again) if wait else look(connection, symbol)
    if as_json:
        put_json(found | {"tasks_filed": filed})


def _span(start: str | None, end: str | None) -> TimestamptzRange:
    """Without bounds everything that was asked for."""
    lo = time_of("start", start) or datetime(1970, 1, 1, tzinfo=UTC)
    hi = time_of("end", end) or datetime(9999, 1, 1, tzinfo=UTC)
    if hi <= lo:
        raise BarwrightError("--end lies before --start.")
    return TimestamptzRange(lo, hi)
