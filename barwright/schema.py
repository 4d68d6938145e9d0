"""Whether the database's schema is new enough for this code. Revisions only add to what older code uses, so that old
and new processes may run side by side while an upgrade is rolled out: migrate first, then replace the roles."""

from pathlib import Path

import psycopg
import structlog

from barwright import sql
from barwright.errors import BarwrightError
from barwright.links.database import pooled
from barwright.settings import Settings

log = structlog.get_logger()
# The revisions that this code comes with, by its files: neither roles nor `barwright status` load Alembic to know.
REVISIONS = sorted(path.name[:4] for path in (Path(__file__).parent / "migrations" / "versions").glob("[0-9]*.py"))
NEWEST = REVISIONS[-1]


def demand(settings: Settings, empty: bool = False) -> None:
    """Raise BarwrightError where the database's schema is older than this code works with, or, but with `empty`, is not
    there at all. A database that is away is waited for by the roles themselves."""
    try:
        with sql.connect(settings.database_url, "schema", pooled(settings)) as connection:
            row = connection.execute(sql.queries("run")["revision"]).fetchone()
    except psycopg.errors.UndefinedTable:
        row = None
    except psycopg.OperationalError as error:
        if "unsupported startup parameter" in str(error):  # PgBouncer's words
            raise BarwrightError("The database is behind a pooler.", "Set BARWRIGHT_POOLER=transaction.") from error
        return
    if row is None and empty:
        return
    if row is None:
        raise BarwrightError("The database is not migrated.", "Run `barwright migrate`.")
    (found,) = row
    if found < NEWEST:
        raise BarwrightError(
            f"The database's schema is at revision {found}, and this Barwright works with {NEWEST} or a later one.",
            "Run this version's `barwright migrate` first; older roles may go on running meanwhile.",
        )
    if found > NEWEST:
        log.info("the schema is newer than this code", revision=found, code=NEWEST)
