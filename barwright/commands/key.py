"""`barwright key`: make keys of the API, list them, revoke them, and make links that log a browser in."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import click
from rich.table import Table

from barwright import instance, sql
from barwright.api.access import SCOPES, Need, scopes_of
from barwright.api.access.login import shown
from barwright.api.access.token import KEY, LINK_LASTS, Kind, minted
from barwright.commands.common import Connection, connected, console, plain, put_json
from barwright.errors import BarwrightError
from barwright.settings import Settings

Q = sql.queries("keys")
FIELDS = ("prefix", "kind", "name", "scopes", "created_at", "expires_at", "revoked_at", "state")
_scope = click.option(
    "--scope", type=click.Choice(SCOPES), default="read", show_default=True,
    help="what it may: read; write, which also registers and removes symbols; admin, which also purges their data",
)  # fmt: skip


@click.group("key")
def command() -> None:
    """Make keys of the API, list them, revoke them."""


@command.command()
@click.argument("name")
@_scope
@click.option(
    "--days", type=click.FloatRange(min=0, min_open=True, max=36_500), help="good for so long; else until it is revoked"
)
@click.option("--json", "as_json", is_flag=True, help="tell it as JSON")
@click.pass_obj
def create(settings: Callable[[], Settings], name: str, scope: Need, days: float | None, as_json: bool) -> None:
    """Make a key for NAME and print it: this once, for only its hash is kept. Several keys may have one name: make the
    next before the one before is revoked."""
    with connected(settings(), "key") as connection:
        key, made = _make(connection, "key", name, scope, None if days is None else timedelta(days=days))
    if as_json:
        put_json({"key": key, "prefix": made["prefix"], "name": made["name"], "scopes": made["scopes"]})
        return
    click.echo(key)
    click.echo(f"It is shown this once. `barwright key revoke {made['prefix']}` ends it within seconds.", err=True)


@command.command()
@_scope
@click.option("--name", default="login", show_default=True, help="whose session it makes")
@click.option("--url", help="where the API is reached, as https://bars.example.com; else on this machine")
@click.pass_obj
def link(settings: Callable[[], Settings], scope: Need, name: str, url: str | None) -> None:
    """Make a link that logs a browser in, once, within 15 minutes: its session lasts 30 days."""
    current = settings()
    with connected(current, "key") as connection:
        key, _ = _make(connection, "link", name, scope, LINK_LASTS)
    running = instance.read(current.home)
    here = f"http://127.0.0.1:{running.port if running else current.port}"
    click.echo(shown((url or here).rstrip("/"), key))


@command.command("list")
@click.option("--all", "everything", is_flag=True, help="those that are over too")
@click.option("--json", "as_json", is_flag=True, help="one JSON object a line")
@click.pass_obj
def list_keys(settings: Callable[[], Settings], everything: bool, as_json: bool) -> None:
    """List keys, login links and sessions, the newest first."""
    with connected(settings(), "key") as connection:
        found = connection.execute(Q["list"], {"all": everything}).fetchall()
    rows = [dict(zip(FIELDS, row, strict=True)) for row in found]
    if as_json:
        for row in rows:
            put_json(plain(row))
        return
    table = Table("prefix", "kind", "name", "scope", "made", "expires", "state")
    for row in rows:
        table.add_row(
            row["prefix"], row["kind"], row["name"], row["scopes"][-1], _day(row["created_at"]),
            _day(row["expires_at"]), row["state"],
        )  # fmt: skip
    console().print(table if rows else "no keys: `barwright key create NAME` makes one")


@command.command()
@click.argument("prefix")
@click.pass_obj
def revoke(settings: Callable[[], Settings], prefix: str) -> None:
    """End the key, link or session whose PREFIX is given; the whole key will do too. Who holds it is let in for 5
    seconds more at the most."""
    prefix = prefix[:11] if KEY.fullmatch(prefix) else prefix
    with connected(settings(), "key") as connection:
        found = connection.execute(Q["revoke"], {"prefix": prefix}).fetchone()
    if found is None:
        raise BarwrightError(f"There is no key {prefix[:40]}.", "`barwright key list --all` lists them.")
    click.echo(f"{prefix} {'is revoked' if found[0] is None else 'was revoked already'}.")


def _make(
    connection: Connection, kind: Kind, name: str, scope: Need, lasts: timedelta | None
) -> tuple[str, dict[str, Any]]:
    if not 0 < len(name) <= 64 or not name.isprintable():
        raise BarwrightError(f"{name!r:.80} is no name for a key.", "1 to 64 printable characters.")
    key, made = minted(kind, name, scopes_of(scope), lasts)
    connection.execute(Q["make"], made)
    return key, made


def _day(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M}"
