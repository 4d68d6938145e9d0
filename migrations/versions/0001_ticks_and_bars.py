"""Ticks, bars of every level, and exactly-once positions, on the engine the server offers."""

from alembic import context, op
from sqlalchemy import text

from barwright.migrations.files import run
from barwright.migrations.server import choose, inspect

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Build the engine that fits and record it."""
    settings = context.config.attributes["settings"]
    engine = choose(inspect(op.get_bind()), settings.engine, settings.timescaledb_minimum)
    run("common/tables.sql", "common/functions.sql", f"{engine}/ticks.sql")
    if engine == "timescaledb":
        run("timescaledb/levels.sql", "timescaledb/policies.sql", role="maintain")
    else:
        run("postgres/levels.sql")
    run("common/calendar.sql", "common/comments.sql")
    op.get_bind().execute(text("insert into barwright.meta (engine) values (:engine)"), {"engine": engine})
    run("common/search_path.sql")


def downgrade() -> None:
    """Drop what this revision made; the schema goes with the last revision (env.py)."""
    run("common/drop.sql")
