"""`barwright role`: list the database roles, and give them passwords."""

import sys
from collections.abc import Callable
from pathlib import Path
from secrets import token_urlsafe

import click
import psycopg
from rich.table import Table

from barwright.commands.common import connected, console, put_json
from barwright.errors import BarwrightError
from barwright.settings import Settings
from barwright.sql import roles
from barwright.sql.roles import LOGINS, Role


@click.group("role")
def command() -> None:
    """List the database roles, and give them passwords."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="one JSON object per line")
@click.pass_obj
def list_(settings: Callable[[], Settings], as_json: bool) -> None:
    """List the roles: whether they can log in, their connections, limits and timeouts."""
    current = settings()
    with connected(current, "role") as connection:
        found = roles.roles(connection, current.role_prefix)
    if as_json:
        for role in found:
            put_json(vars(role))
        return
    if not found:
        raise BarwrightError(
            f"There are no roles {current.role_prefix}_….",
            "Migrate as a user that may make roles (CREATEROLE), or have an administrator make them.",
        )
    table = Table("role", "login", "password", "connections", "granted here", "settings", box=None)
    for role in found:
        table.add_row(*_shown(role))
    console().print(table)


def _shown(role: Role) -> list[str]:
    limit = "" if role.limit < 0 else f" of {role.limit}"
    password = {True: "set", False: "none", None: "unknown"}[role.password] if role.login else ""
    return [
        role.name,
        "yes" if role.login else "no",
        password,
        f"{role.connections}{limit}",
        "yes" if role.granted else "no",
        ", ".join(setting for setting in role.settings if not setting.startswith("search_path")),
    ]


@command.command()
@click.argument("name")
@click.option(
    "--file", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="read it from a file"
)
@click.option("--generate", is_flag=True, help="make one and print it, this once")
@click.pass_obj
def password(settings: Callable[[], Settings], name: str, file: Path | None, generate: bool) -> None:
    """Give the role NAME (feed, ingest, maintain, api or read) a password, which is asked for."""
    current = settings()
    kind = name.removeprefix(f"{current.role_prefix}_")
    if kind not in LOGINS:
        raise BarwrightError(f"{name} is none of the roles.", f"They are {', '.join(LOGINS)}.")
    if file and generate:
        raise click.UsageError("--file or --generate, not both.")
    secret = token_urlsafe(24) if generate else file.read_text().strip() if file else _asked()
    if not secret:
        raise BarwrightError("The password is empty.", "Nobody could log in with it.")
    role = roles.name_of(current.role_prefix, kind)
    with connected(current, "role") as connection:
        try:
            roles.set_password(connection, role, secret)
        except psycopg.errors.UndefinedObject as error:
            raise BarwrightError(f"There is no role {role}.", "`barwright migrate` makes the roles.") from error
        except psycopg.errors.InsufficientPrivilege as error:
            message = f"This user may not give {role} a password."
            raise BarwrightError(message, "Ask as the one that migrated, or as a superuser.") from error
    click.echo(secret if generate else f"{role} has a new password.")


def _asked() -> str:
    """From a person at a terminal, else from a pipe."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().strip()
