"""What the server offers, and whether Barwright may be built on it."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, text

from barwright.errors import BarwrightError

Engine = Literal["timescaledb", "postgres"]


@dataclass(frozen=True)
class Server:
    """A database server: PostgreSQL's version number (180006), TimescaleDB's version and edition if any."""

    postgres: int
    timescaledb: str | None
    edition: str | None


def inspect(connection: Connection) -> Server:
    """Ask the server; creates the TimescaleDB extension where the server has it preloaded."""
    # A setting of the extension's loader: shared_preload_libraries itself is shown to few.
    preloaded = connection.scalar(text("select current_setting('timescaledb.max_background_workers', true)"))
    installed = connection.scalar(text("select 1 from pg_extension where extname = 'timescaledb'"))
    if preloaded and not installed:
        # In public whatever the search path says: it is the server's, and outlives schema barwright.
        connection.execute(text("create extension if not exists timescaledb schema public"))
    return Server(
        postgres=int(connection.scalar(text("select current_setting('server_version_num')"))),
        timescaledb=connection.scalar(text("select extversion from pg_extension where extname = 'timescaledb'")),
        edition=connection.scalar(text("select current_setting('timescaledb.license', true)")),
    )


def choose(server: Server, wanted: str, minimum: str) -> Engine:
    """The engine to build: `wanted`, or by what the server offers when that is "auto".

    Raises BarwrightError for a server that would lose data or lacks what the engine needs.
    """
    if server.postgres < 160000:
        raise BarwrightError(f"PostgreSQL {server.postgres // 10000} is too old.", "Use PostgreSQL 16 or newer.")
    if wanted == "postgres" or (wanted == "auto" and server.timescaledb is None):
        return "postgres"
    if server.timescaledb is None:
        raise BarwrightError(
            "BARWRIGHT_ENGINE=timescaledb, but this server has no TimescaleDB.",
            "Install the Community edition, or set BARWRIGHT_ENGINE=postgres.",
        )
    if server.edition != "timescale":
        raise BarwrightError(
            f"This server runs TimescaleDB's Apache edition (timescaledb.license = '{server.edition}'), "
            "which has no continuous aggregates.",
            "Install the Community edition and set timescaledb.license = 'timescale', or set BARWRIGHT_ENGINE=postgres "
            "to use the portable engine on this server.",
        )
    if _version(server.timescaledb) < _version(minimum):
        raise BarwrightError(
            f"TimescaleDB {server.timescaledb} can lose data in continuous aggregates (fixed by {minimum}).",
            "Upgrade it (alter extension timescaledb update), or set BARWRIGHT_ENGINE=postgres.",
        )
    return "timescaledb"


def _version(text: str) -> tuple[int, ...]:
    """`2.29.2-dev` as (2, 29, 2)."""
    return tuple(int(part) for part in text.split("-")[0].split("."))
