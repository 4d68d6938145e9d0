"""Alembic migrations that run the files of sql/; there is no DDL in Python."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError

from barwright.errors import BarwrightError
from barwright.settings import Settings

HERE = Path(__file__).parent


def config(settings: Settings) -> Config:
    """Alembic's configuration without an ini file, so that it works from an installed wheel."""
    cfg = Config()
    cfg.set_main_option("script_location", str(HERE))
    cfg.attributes["settings"] = settings
    return cfg


def upgrade(settings: Settings, revision: str = "head") -> None:
    """Bring the database to a revision. Twice is harmless; two at once wait for each other.

    Raises BarwrightError when the server is not fit or the revision is unknown.
    """
    try:
        command.upgrade(config(settings), revision)
    except CommandError as error:
        raise BarwrightError(str(error), "`alembic history` lists the revisions.") from error


def downgrade(settings: Settings, revision: str = "base") -> None:
    """Take the database back to a revision; `base` leaves nothing of ours behind."""
    command.downgrade(config(settings), revision)
