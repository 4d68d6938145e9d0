"""A backup becomes an empty database again; ingest then reads on in Kafka from the positions in it."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier, Literal

from barwright import migrations, sql
from barwright.backup import manifest, programs
from barwright.backup.manifest import Manifest
from barwright.errors import BarwrightError
from barwright.settings import Settings

Q = sql.queries("backup")
_EMPTY = "Restore into a new database: createdb NAME, then DATABASE_URL=…/NAME barwright restore …"


def restore(settings: Settings, folder: Path, jobs: int, told: Callable[[str], None]) -> Manifest:
    """Fill an empty database, renew its epoch, bring its schema to this Barwright's. `told` gets the name of each step.

    Raises BarwrightError, before anything is changed, for a backup that is not whole or a server that does not fit.
    """
    backup = manifest.read(folder)
    told("comparing the files with their sums")
    manifest.verify(folder, backup, lambda _: None)
    with sql.connect(settings.database_url, "restore", autocommit=True) as connection:
        if not migrations.knows(settings, backup.revision):
            raise BarwrightError(
                f"The backup's schema is revision {backup.revision}, which this Barwright does not know.",
                f"Restore with Barwright {backup.barwright} or a newer one.",
            )
        _fits(connection, backup)
        program = programs.find("pg_restore", max(backup.postgres, backup.pg_dump))
        timescaledb = backup.timescaledb is not None
        if timescaledb:
            _prepare(connection, backup, settings.role_prefix)
    with sql.connect(settings.database_url, "restore", autocommit=True) as connection:
        if timescaledb:
            _pre_restore(connection)
        _load(connection, program, folder, 1 if timescaledb else jobs, told)
        if timescaledb:
            connection.execute(Q["post_restore"])
        connection.execute(Q["renew_epoch"])
        connection.execute(sql.read("common/search_path.sql"))
        told("bringing the schema to this Barwright's")
        migrations.upgrade(settings)
        told("collecting the planner's statistics")
        connection.execute(Q["analyze"])
    return backup


def _fits(connection: psycopg.Connection[Any], backup: Manifest) -> None:
    """Raise BarwrightError where the backup cannot come back on this server, in this database."""
    row = connection.execute(Q["target"]).fetchone()
    assert row is not None
    major, installed, available, used, ours = row
    if ours:
        raise BarwrightError(f"{', '.join(ours)} is connected to this database.", "Stop every role before a restore.")
    if used:
        raise BarwrightError("This database holds a Barwright already.", _EMPTY)
    if major < backup.postgres:
        raise BarwrightError(f"PostgreSQL {major} cannot take a backup of PostgreSQL {backup.postgres}.")
    if backup.timescaledb is None:
        return
    if (installed or backup.timescaledb) != backup.timescaledb or backup.timescaledb not in available:
        raise BarwrightError(
            f"The backup is of TimescaleDB {backup.timescaledb}; this database has {installed or 'none'}, and this "
            f"server could install {', '.join(sorted(available)) or 'none'}.",
            "Install that version, restore, and upgrade it afterwards (alter extension timescaledb update).",
        )
    hypertables = connection.execute(Q["hypertables"]).fetchone() if installed else None
    if hypertables and hypertables[0]:
        raise BarwrightError("This database has hypertables already.", _EMPTY)


def _prepare(connection: psycopg.Connection[Any], backup: Manifest, prefix: str) -> None:
    """What the dump takes for granted: the database roles that its jobs belong to, and the extension, in the version
    and schema of the backup; the next session loads that version."""
    connection.execute(Q["role_prefix"], {"prefix": prefix})
    if connection.execute(Q["absent"], {"names": backup.owners}).fetchall():
        connection.execute(sql.read("common/roles.sql"))
    if absent := [name for (name,) in connection.execute(Q["absent"], {"names": backup.owners})]:
        raise BarwrightError(
            f"Jobs of the backup belong to database roles that this server has not: {', '.join(absent)}.",
            "Set BARWRIGHT_ROLE_PREFIX as it was, or create them: "
            + "; ".join(f'create role "{name}" login' for name in absent),
        )
    schema = backup.timescaledb_schema or "public"
    connection.execute(SQL("create schema if not exists {}").format(Identifier(schema)))
    connection.execute(
        SQL("create extension if not exists timescaledb schema {} version {}").format(
            Identifier(schema), Literal(backup.timescaledb)
        )
    )


def _pre_restore(connection: psycopg.Connection[Any]) -> None:
    try:
        connection.execute(Q["pre_restore"])
    except psycopg.errors.InsufficientPrivilege as error:
        raise BarwrightError(
            f"TimescaleDB lets not everyone restore: {error.diag.message_primary}.",
            "Restore as a superuser, or as whom the provider lets restore (timescaledb_pre_restore).",
        ) from error


def _load(
    connection: psycopg.Connection[Any], program: programs.Program, folder: Path, jobs: int, told: Callable[[str], None]
) -> None:
    """Everything in the dump, but for the extension and a schema that it was put in: they are there."""
    dump = manifest.dump_of(folder)
    there = {" EXTENSION - timescaledb ", " COMMENT - EXTENSION timescaledb "}
    there |= {f" SCHEMA - {name} " for (name,) in connection.execute(Q["schemas"])}
    with tempfile.NamedTemporaryFile("w", suffix=".list") as chosen:
        chosen.writelines(line for line in programs.contents(program, dump) if not any(one in line for one in there))
        chosen.flush()
        words = ["--exit-on-error", "--no-owner", "--no-privileges", f"--jobs={jobs}", f"--use-list={chosen.name}"]
        programs.run(program, [*words, dump], connection, programs.tables(told))
