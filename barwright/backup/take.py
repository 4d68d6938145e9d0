"""A backup of a running instance: one snapshot of the database, and Kafka's positions in it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from barwright import __version__, sql
from barwright.backup import manifest, programs
from barwright.backup.manifest import Manifest, Position
from barwright.errors import BarwrightError
from barwright.settings import Settings

Q = sql.queries("backup")


def take(settings: Settings, folder: Path, jobs: int, told: Callable[[str], None]) -> Manifest:
    """Back the database up into a new or empty folder; whatever runs goes on. `told` gets the name of each step.

    Raises BarwrightError where the folder holds something, or the database cannot be dumped by what is installed.
    """
    if folder.exists() and any(folder.iterdir()):
        raise BarwrightError(f"{folder} is not empty.", "Name a new folder for each backup.")
    with sql.connect(settings.database_url, "backup", autocommit=True) as connection:
        connection.execute(Q["no_hurry"])
        connection.execute(Q["begin"])
        facts = _facts(connection)
        program = programs.find("pg_dump", facts["postgres"])
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = manifest.dump_of(folder)
        try:
            programs.run(program, _words(connection, facts["engine"], target, jobs), connection, programs.tables(told))
            return manifest.write(folder, msgspec.convert({**facts, "pg_dump": program.major}, Manifest))
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise


def _facts(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    cursor = connection.execute(Q["facts"])
    row = cursor.fetchone()
    assert row is not None
    assert cursor.description is not None
    names = [column.name for column in cursor.description]
    positions = [Position(*position) for position in connection.execute(Q["positions"])]
    facts = {**dict(zip(names, row, strict=True)), "barwright": __version__, "positions": positions}
    owners = [name for (name,) in connection.execute(Q["owners"])] if facts["timescaledb"] else []
    return {**facts, "owners": owners}


def _words(connection: psycopg.Connection[Any], engine: str, target: Path, jobs: int) -> list[str | Path]:
    """TimescaleDB keeps its own tables in other schemas, so its database is dumped whole. Who owns what and who may
    read what is said by `barwright migrate` again: database roles are the server's and in no dump."""
    snapshot = connection.execute(Q["snapshot"]).fetchone()
    assert snapshot is not None
    return [
        *("--format=directory", f"--jobs={jobs}", "--no-owner", "--no-privileges", "--no-tablespaces"),
        *(f"--snapshot={snapshot[0]}", f"--file={target}"),
        *([] if engine == "timescaledb" else [f"--schema={sql.SCHEMA}"]),
    ]
