"""History joined to the live feed: coverage, gaps, backfill tasks, coarse bars, the auditor's findings."""

from alembic import op
from sqlalchemy import text

from barwright.migrations.files import run

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _engine() -> str:
    """The engine this database was built with."""
    return str(op.get_bind().execute(text("select engine from barwright.meta")).scalar_one())


def upgrade() -> None:
    """Add what history needs to the engine in use."""
    engine = _engine()
    run("common/history.sql", "common/coverage.sql", f"{engine}/history.sql")
    if engine == "timescaledb":
        run("common/calendar.sql")
    run("common/symbols.sql", "common/tasks.sql", "common/landing.sql", "common/audit.sql", "common/comments.sql")


def downgrade() -> None:
    """Back to ticks and bars alone."""
    engine = _engine()
    run(f"{engine}/history_undo.sql", "common/history_undo.sql")
    if engine == "timescaledb":
        run("common/calendar.sql")
