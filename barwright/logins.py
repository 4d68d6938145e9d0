"""The database logins of `barwright run`: each process works as the role made for it, which may little else."""

import json
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

import psycopg

from barwright import sql
from barwright.settings import Settings
from barwright.sql import roles

# The role of each process.
ROLE_OF = {"feed": "feed", "ingest": "ingest", "maintain": "maintain", "serve": "api"}


def existing(settings: Settings) -> set[str]:
    """The roles that are there, by kind; none where the server cannot be reached, which the migration will tell."""
    try:
        with sql.connect(settings.database_url, "run") as connection:
            there = {role.name for role in roles.roles(connection, settings.role_prefix)}
    except psycopg.OperationalError:
        return set()
    return {kind for kind in roles.LOGINS if roles.name_of(settings.role_prefix, kind) in there}


def logins(settings: Settings, home: Path, ours: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The DSN of each process that can work as its own role, and of each other the reason.

    Passwords are those of the settings, or the home's; only roles in `ours` are given one (the others' belong to
    somebody who has set them).
    """
    passwords = _passwords(settings, home)
    reasons = _give(settings, {kind: passwords[kind] for kind in ours})
    urls = {}
    for process, kind in ROLE_OF.items():
        name = roles.name_of(settings.role_prefix, kind)
        url = roles.url_of(settings.database_url, name, passwords[kind])
        if reason := reasons.get(kind) or _obstacle(url, kind):
            reasons[kind] = reason
        else:
            urls[process] = url
    return urls, {process: reasons[kind] for process, kind in ROLE_OF.items() if kind in reasons}


def _passwords(settings: Settings, home: Path) -> dict[str, str]:
    """By kind; those that are made are kept in the home for its user's eyes only."""
    file = home / "database.passwords"
    kept = json.loads(file.read_text()) if file.exists() else {}
    names = {kind: roles.name_of(settings.role_prefix, kind) for kind in roles.LOGINS}
    made = {name: secrets.token_urlsafe(24) for name in names.values() if name not in kept}
    if made:
        draft = home / "database.passwords.new"
        draft.touch(0o600)
        draft.write_text(json.dumps({**kept, **made}, indent=1) + "\n")
        draft.replace(file)
    given = {kind: getattr(settings, f"{kind}_password").get_secret_value() for kind in names}
    return {kind: given[kind] or {**kept, **made}[name] for kind, name in names.items()}


def _give(settings: Settings, passwords: Mapping[str, str]) -> dict[str, str]:
    """Set passwords of roles; of those that could not be, the reason."""
    reasons = {}
    with sql.connect(settings.database_url, "run", autocommit=True) as connection:
        for kind, password in passwords.items():
            try:
                roles.set_password(connection, roles.name_of(settings.role_prefix, kind), password)
            except psycopg.Error as error:
                reasons[kind] = str(error.diag.message_primary)
    return reasons


def _obstacle(url: str, kind: str) -> str:
    """Why a role cannot work here; "" when it can."""
    try:
        with sql.connect(url, "run") as connection:
            connection.execute("select from barwright.meta")
            able = kind != "maintain" or connection.execute(roles.Q["may_refresh"]).fetchone() == (True,)
    except psycopg.Error as error:
        return str(error).strip().splitlines()[0]
    return "" if able else "it does not own the continuous aggregates"
