"""`barwright symbol`: register symbols, list them, remove them."""

from collections.abc import Callable
from typing import Any

import click
from rich.table import Table

from barwright import instance, sql
from barwright import simulated as simulation
from barwright.api.errors import ApiError
from barwright.api.registration import Registration, registration
from barwright.api.symbols import FIELDS
from barwright.commands.common import Connection, Q, answered, connected, console, named, one, plain, put_json
from barwright.commands.watching import watch
from barwright.errors import BarwrightError
from barwright.settings import Settings

SYMBOLS = sql.queries("api")["symbols"]


@click.group("symbol")
def command() -> None:
    """Register symbols, list them, remove them."""


@command.command()
@click.argument("symbol")
@click.option(
    "--source", help="simulator, cryptocompare, ccxt:EXCHANGE or kafka; simulator where the instance runs one"
)
@click.option("--market", help="the source's own name of it; made from the symbol without")
@click.option("--base", help="what is traded; taken from the market without")
@click.option("--quote", help="what it is priced in; taken from the market without")
@click.option("--start", required=True, help="since when its history is wanted, as 2020-01-01")
@click.option("--history-source", help="who gives the history of a symbol from kafka")
@click.option("--wait/--no-wait", default=False, help="show the progress until all is there")
@click.option("--json", "as_json", is_flag=True, help="tell the symbol as JSON")
@click.pass_obj
def add(settings: Callable[[], Settings], /, symbol: str, wait: bool, as_json: bool, **given: str | None) -> None:
    """Register SYMBOL: its live feed starts, and its history is fetched, newest first. Twice is harmless; an earlier
    start asks for the part before only."""
    current = settings()
    given["source"] = given["source"] or _default_source(current)
    with connected(current, "symbol") as connection:
        wanted = _checked(symbol, given, one(connection, "now")[0])
        with connection.transaction():
            one(connection, "hold", symbol=wanted.symbol)
            before = _rows(connection, wanted.symbol)
            connection.execute(Q["register"], wanted.arguments())
        [made] = _rows(connection, wanted.symbol)
        if as_json:
            put_json(plain(made))
        else:
            click.echo(_what_happens(wanted, before[0] if before else None, made))
        if wait and made["history_source"]:
            watch(connection, wanted.symbol)


@command.command()
@click.pass_obj
def simulated(settings: Callable[[], Settings]) -> None:
    """Register BARWRIGHT_SIMULATOR_SYMBOLS, markets of the simulated exchange, with the history of two days; what is
    registered, or was stopped, stays as it is. `barwright run` does it by itself."""
    with answered():
        made = simulation.register(settings())
    click.echo(f"registered: {', '.join(made) or 'nothing new'}")


def _default_source(settings: Settings) -> str | None:
    """The simulator, where the instance of this home runs one or the environment names one."""
    running = instance.read(settings.home)
    return "simulator" if (running and running.simulator_url) or "simulator_url" in settings.model_fields_set else None


def _checked(symbol: str, given: dict[str, str | None], clock: float) -> Registration:
    """The registration; errors in the words of the API, as of options."""
    try:
        return registration(symbol, {name: value for name, value in given.items() if value is not None}, clock)
    except ApiError as error:
        allowed = error.details.get("allowed")
        hint = error.hint or (f"Allowed: {allowed}." if isinstance(allowed, str) else "")
        raise BarwrightError(error.message, hint) from error


def _rows(connection: Connection, symbol: str | None) -> list[dict[str, Any]]:
    return [dict(zip(FIELDS, row, strict=True)) for row in connection.execute(SYMBOLS, {"symbol": symbol})]


def _what_happens(wanted: Registration, before: dict[str, Any] | None, made: dict[str, Any]) -> str:
    """A sentence about what is going on from now on."""
    known = before is not None and before["source"] is not None
    what = "is registered already" if known else "is registered"
    live = f"{made['source']} is followed live" if made["live"] else "its trades come from kafka"
    if made["market"] and made["live"]:
        live += f" ({made['market']})"
    if made["history_source"] is None:
        return f"{wanted.symbol} {what}: {live}; nobody gives its history."
    since = f"{made['history_start']:%Y-%m-%d %H:%M}"
    moved = ""
    if known and before and before["history_start"] and before["history_start"] < wanted.start:
        moved = " (a start moves only back)"
    elif known and before and before["history_start"] and made["history_start"] < before["history_start"]:
        moved = f", now also what lies before {before['history_start']:%Y-%m-%d %H:%M}"
    return (
        f"{wanted.symbol} {what}: {live}, and its history since {since} UTC{moved} is fetched from "
        f"{made['history_source']}, newest first. `barwright backfill {wanted.symbol}` shows how far it is."
    )


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="one JSON object a line")
@click.pass_obj
def list_symbols(settings: Callable[[], Settings], as_json: bool) -> None:
    """List every symbol."""
    with connected(settings(), "symbol") as connection:
        rows = _rows(connection, None)
        gaps = dict(connection.execute(Q["gap_counts"]).fetchall())
    if as_json:
        for row in rows:
            put_json(plain(row) | {"gaps": gaps.get(row["symbol"], 0)})
        return
    table = Table("symbol", "source", "market", "history since", "history by", "gaps", "state", "newest")
    for row in rows:
        state = (
            "stopped" if row["stopped"] else "live" if row["live"] else "registered" if row["source"] else "heard of"
        )
        table.add_row(
            row["symbol"], row["source"] or "", row["market"] or "", _day(row["history_start"]),
            row["history_source"] or "", str(gaps.get(row["symbol"], 0)), state, _day(row["newest"]),
        )  # fmt: skip
    console().print(table if rows else "no symbols: `barwright symbol add BTCUSD --start 2020-01-01` registers one")


def _day(at: Any) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M}"


@command.command()
@click.argument("symbol")
@click.option("--purge", is_flag=True, help="remove its data too; there is no way back")
@click.pass_obj
def remove(settings: Callable[[], Settings], symbol: str, purge: bool) -> None:
    """Follow SYMBOL no more and ask for no more of its history. Its data stay, unless --purge is given."""
    with connected(settings(), "symbol") as connection:
        symbol = named(connection, symbol)
        done = one(connection, "purge" if purge else "stop", symbol=symbol)[0]
    if purge:
        click.echo(f"{symbol} and its data are gone.")
    else:
        click.echo(f"{symbol} {'is' if done else 'was'} followed no more; its data stay.")
