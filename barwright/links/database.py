"""PostgreSQL behind a pooler: which roles may be."""

from barwright.errors import BarwrightError
from barwright.settings import Settings


def pooled(settings: Settings) -> bool:
    """Whether a connection is one only for a transaction."""
    return settings.pooler == "transaction"


def demand_sessions(settings: Settings, role: str) -> None:
    """BarwrightError where a role that keeps things in its sessions would be given others' for each transaction."""
    if pooled(settings):
        raise BarwrightError(
            f"BARWRIGHT_POOLER=transaction, but {role} keeps locks and tables in its sessions.",
            f"Give {role} a DATABASE_URL that goes past the pooler, and leave BARWRIGHT_POOLER away: it needs few "
            "connections.",
        )
