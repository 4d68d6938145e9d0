"""The gaps and newest ticks of ten thousand symbols at once, not symbol by symbol; storage of all nodes of Citus."""

from alembic import op
from sqlalchemy import text

from barwright.migrations.files import run, run_again

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def _engine() -> str:
    """The engine this database was built with."""
    return str(op.get_bind().execute(text("select engine from barwright.meta")).scalar_one())


def upgrade() -> None:
    """Replace what was slow, and what other applications' aggregates stopped; no table changes."""
    run("common/gaps.sql", "common/newest.sql")
    if _engine() == "timescaledb":
        run("timescaledb/own_aggregates.sql")
    else:
        run("postgres/storage.sql", "postgres/citus.sql")


def downgrade() -> None:
    """Back to the former definitions."""
    if _engine() == "timescaledb":
        run_again("timescaledb/retention.sql", "compress_bars", "set_refresh_floor")
    else:
        run_again("postgres/distribution.sql", "distribute", "kept_live", "audit_sample")
        run_again("postgres/retention.sql", "storage")
        run("postgres/storage_undo.sql")
    run("common/newest_undo.sql")
    run_again("common/coverage.sql", "history_bound", "gaps")
