"""The engine postgres on several machines: ticks and bars by symbol on the workers of a Citus cluster."""

from alembic import op
from sqlalchemy import text

from barwright.migrations.files import run, run_again

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def _engine() -> str:
    """The engine this database was built with."""
    return str(op.get_bind().execute(text("select engine from barwright.meta")).scalar_one())


def upgrade() -> None:
    """Functions only: rows are distributed after every upgrade (env.py), where the server can."""
    run("common/workers.sql")
    if _engine() == "postgres":
        run("postgres/distribution.sql")


def downgrade() -> None:
    """Without the functions; rows stay where they are, since all that older revisions do works there too."""
    if _engine() == "postgres":
        # Made anew: Citus lets no function that its workers know come to depend on what only the coordinator has.
        op.execute("drop function barwright.audit_sample")
        run_again("common/landing.sql", "kept_live")
        run_again("common/retention.sql", "audit_sample", "purge_symbol")
        run_again("common/functions.sql", "finish_repair")
        run_again("postgres/history.sql", "lay_coarse")
        run("postgres/distribution_undo.sql")
    run("common/workers_undo.sql")
