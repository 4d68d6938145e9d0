"""Alembic migrations that run the files of sql/; there is no DDL in Python."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from psycopg import errors

from barwright import sql
from barwright.errors import BarwrightError
from barwright.settings import Settings
from barwright.sql import roles

HERE = Path(__file__).parent


def config(settings: Settings) -> Config:
    """Alembic's configuration without an ini file, so that it works from an installed wheel."""
    cfg = Config()
    cfg.set_main_option("script_location", str(HERE))
    cfg.attributes["settings"] = settings
    return cfg


def upgrade(settings: Settings, revision: str = "head") -> None:
    """Bring the database to a revision, and give the roles the passwords that are set. Twice is harmless; two at once
    wait for each other.

    Raises BarwrightError when the server is not fit, the revision is unknown, or a password cannot be given.
    """
    try:
        command.upgrade(config(settings), revision)
    except CommandError as error:
        raise BarwrightError(str(error), "`alembic history` lists the revisions.") from error
    _give_passwords(settings)


def downgrade(settings: Settings, revision: str = "base") -> None:
    """Take the database back to a revision; `base` leaves nothing of ours behind."""
    command.downgrade(config(settings), revision)


def knows(settings: Settings, revision: str) -> bool:
    """Whether a revision is one of this Barwright's, and not a newer one's."""
    script = ScriptDirectory.from_config(config(settings))
    return revision in {each.revision for each in script.walk_revisions()}


def _give_passwords(settings: Settings) -> None:
    given = {kind: getattr(settings, f"{kind}_password").get_secret_value() for kind in roles.LOGINS}
    if not any(given.values()):
        return
    with sql.connect(
        settings.database_url, "migrate", settings.pooler == "transaction", autocommit=True, prepare_threshold=None
    ) as connection:
        for kind, password in given.items():
            name = roles.name_of(settings.role_prefix, kind)
            try:
                if password:
                    roles.set_password(connection, name, password)
            except (errors.UndefinedObject, errors.InsufficientPrivilege) as error:
                raise BarwrightError(
                    f"BARWRIGHT_{kind.upper()}_PASSWORD cannot be given to the role {name}: "
                    f"{error.diag.message_primary}.",
                    "Migrate as a user that may make roles (CREATEROLE), or have an administrator make it.",
                ) from error
