"""Keys of the API: who may ask, for what, until when."""

from barwright.migrations.files import run

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the keys; the same on both engines."""
    run("common/keys.sql")


def downgrade() -> None:
    """Back to an API that knows nobody."""
    run("common/keys_undo.sql")
