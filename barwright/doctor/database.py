"""Whether the database server is one that Barwright can trust, and its roles may do what they must and no more."""

from __future__ import annotations

import time
from typing import Final

from barwright import schema
from barwright.doctor.finding import Findings, problem, warning, well
from barwright.doctor.look import Connection, Look, Q, Server
from barwright.settings import Settings

SKEW: Final = 0.5  # seconds: beyond, what is live for one is late, or refused as the future, for the other
FULL: Final = 0.8  # of the connections that the server takes
BY_BYTES: Final = ("C", "POSIX", "C.UTF8")  # collations that compare the bytes of text, on any operating system


def checks(connection: Connection, look: Look, settings: Settings) -> Findings:
    """All of them."""
    yield from fitness(look.server, settings)
    yield from revision(look.server)
    yield from collation(look.server)
    yield from clock(connection)
    yield from privileges(connection, look, settings)
    used, most = look.server.connections, look.server.most_connections
    if used > FULL * most:
        yield warning(
            "connections", f"{used} of {most} are open.", "Raise max_connections, or put a pooler before the server."
        )


def fitness(server: Server, settings: Settings) -> Findings:
    """The version and the edition are those that the engine in use needs."""
    name = f"engine {server.engine}: PostgreSQL {server.postgres}"
    if server.number < 160_000:
        yield problem("database", f"PostgreSQL {server.postgres} is too old.", "Upgrade it to 16 or newer.")
    if server.is_standby:
        yield problem("database", "It is a standby, which takes no writes.", "Let DATABASE_URL name the primary.")
    if server.engine != "timescaledb":
        yield well("database", name)
    elif server.timescaledb is None:
        yield problem(
            "edition", "This database was built on TimescaleDB, and the server has none.",
            "Restore it on a server with TimescaleDB Community, or change its engine: docs/upgrades.md",
        )  # fmt: skip
    elif server.edition != "timescale":
        yield problem(
            "edition", f"The server runs TimescaleDB's Apache edition (timescaledb.license = {server.edition!r}): "
            "continuous aggregates are not refreshed.",
            "Install the Community edition and set timescaledb.license = 'timescale' in postgresql.conf.",
        )  # fmt: skip
    elif _parts(server.timescaledb) < _parts(settings.timescaledb_minimum):
        yield problem(
            "version", f"TimescaleDB {server.timescaledb} can lose data in continuous aggregates.",
            f"Upgrade it to {settings.timescaledb_minimum} or newer: alter extension timescaledb update;",
        )  # fmt: skip
    else:
        yield well("database", f"{name}, TimescaleDB {server.timescaledb} Community")


def revision(server: Server) -> Findings:
    """The schema is the one this code knows."""
    newest = schema.NEWEST
    if server.revision == newest:
        yield well("schema", f"revision {newest}")
    elif server.revision in schema.REVISIONS:
        yield problem(
            "schema", f"Its revision is {server.revision}, this Barwright's is {newest}.", "Run: barwright migrate"
        )
    else:
        yield problem(
            "schema", f"Its revision {server.revision} is newer than this Barwright, which knows {newest}.",
            "Upgrade Barwright here.",
        )  # fmt: skip


def collation(server: Server) -> Findings:
    """The index that makes a tick land once sorts symbols by their bytes, not as the operating system sorts names."""
    if server.collation_has_changed:
        yield problem(
            "collation", f"The operating system sorts {server.collation} otherwise than when the indexes were made: "
            "a row may not be found in them, and a tick may land twice.",
            "Run reindex database, then alter database … refresh collation version: docs/operations.md",
        )  # fmt: skip
    elif server.collation.upper().replace("UTF-8", "UTF8") in BY_BYTES:
        yield well("collation", server.collation)
    else:
        yield warning(
            "collation", f"Text is sorted by {server.collation}: that slows down landing, and an upgrade of the "
            "database's operating system may spoil its indexes.",
            "Move to a database made with --locale=C: docs/operations.md",
        )  # fmt: skip


def clock(connection: Connection) -> Findings:
    """This machine and the database agree on the time; measured by the quickest of five round trips."""
    trips = []
    for _ in range(5):
        before = time.time()
        ((there,),) = connection.execute(Q["clock"])
        after = time.time()
        trips.append((after - before, there - (before + after) / 2))
    trip, skew = min(trips)
    if abs(skew) > SKEW + trip / 2:
        way = "ahead of" if skew > 0 else "behind"
        yield problem(
            "clock", f"The database's clock is {abs(skew):.1f} s {way} this machine's.",
            "Synchronise both (chrony, systemd-timesyncd): feed and ingest judge lateness by them.",
        )  # fmt: skip
    else:
        yield well("clock", f"within {max(abs(skew), trip / 2) * 1000:.0f} ms of the database's")


def privileges(connection: Connection, look: Look, settings: Settings) -> Findings:
    """Each process works as its own role of the database, and that may do what it needs and no more."""
    prefix = settings.role_prefix
    names = {kind: f"{prefix}_{kind}" for kind in ("feed", "ingest", "maintain", "api", "read")}
    there = {name for (name,) in connection.execute(Q["roles"], {"names": [*names.values()]})}
    for role, thing, privilege, is_surplus in connection.execute(Q["privileges"], {"prefix": prefix}):
        said = "may, and must not," if is_surplus else "may not"
        yield problem(
            "privileges", f"{role} {said} {privilege} {thing}.",
            "Run: barwright migrate (it grants what each role needs, and takes the rest away)",
        )  # fmt: skip
    if missing := sorted({*names.values()} - there):
        yield warning(
            "roles", f"The database has no role {', '.join(missing)}.",
            "Run barwright migrate as a user with CREATEROLE: then each process has only the rights it needs.",
        )  # fmt: skip
    else:
        yield well("roles", ", ".join(sorted(there)))
    for process in look.processes:
        if process.is_superuser and process.program in names | {"serve": ""}:
            yield warning(
                "roles", f"{process.program} works as the superuser {process.user}.",
                "Give it a DATABASE_URL with its own role: docs/security.md",
            )  # fmt: skip


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("-")[0].split("."))
