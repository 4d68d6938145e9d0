"""Database roles: an owner without login, one for each process, and one for people who only read bars."""

from barwright.migrations.files import run

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make functions fit to run as the owner; the roles and their grants follow every upgrade (env.py)."""
    run("common/audit_level.sql")


def downgrade() -> None:
    """Everything belongs to who migrates."""
    run("common/roles_undo.sql", "common/roles_drop.sql")
