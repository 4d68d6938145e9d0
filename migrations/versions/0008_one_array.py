"""Ticks are rolled up in a fifth less time: open and close come out of one array."""

from alembic import op
from sqlalchemy import text

from barwright.migrations.files import run, run_again

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _engine() -> str:
    """The engine this database was built with."""
    return str(op.get_bind().execute(text("select engine from barwright.meta")).scalar_one())


def upgrade() -> None:
    """What computes bars, and the views that were made of it; TimescaleDB has its own first and last."""
    if _engine() == "postgres":
        run("postgres/bars.sql", "postgres/live.sql")


def downgrade() -> None:
    """Back to an array for each."""
    if _engine() == "postgres":
        run_again("postgres/levels.sql", "select_bars")
        run("postgres/live.sql")
