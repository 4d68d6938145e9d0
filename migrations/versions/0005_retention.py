"""Compression, retention and storage: what is kept for how long, and how; bars stay when their ticks go."""

from alembic import op
from sqlalchemy import text

from barwright.migrations.files import run, run_again

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def _engine() -> str:
    """The engine this database was built with."""
    return str(op.get_bind().execute(text("select engine from barwright.meta")).scalar_one())


def upgrade() -> None:
    """Add the policies; nothing is compressed or dropped before maintain applies the settings."""
    engine = _engine()
    run("common/retention.sql", f"{engine}/retention.sql")


def downgrade() -> None:
    """Back to everything as it arrived; what was dropped stays dropped."""
    engine = _engine()
    run_again("common/audit_level.sql", "audit_bucket")
    run_again("common/audit.sql", "audit_sample")
    run_again("common/symbols.sql", "purge_symbol")
    run_again("common/tasks.sql", "pieces")
    if engine == "postgres":
        run_again("postgres/ticks.sql", "prepare_ticks")
        run_again("postgres/levels.sql", "repair")
    run(f"{engine}/retention_undo.sql", "common/retention_undo.sql")
