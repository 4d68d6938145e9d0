"""What stands beside a dump: where it comes from, where Kafka is to be read on, and how to tell that it is whole."""

import hashlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec

from barwright.errors import BarwrightError

FORMAT = 1


class Position(msgspec.Struct, frozen=True):
    """Where ingest reads on in a partition."""

    topic: str
    partition: int
    topic_id: str
    next_offset: int


class File(msgspec.Struct, frozen=True):
    """A file of the dump."""

    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """A backup: made when (by the database's clock), by which Barwright, of what. `postgres` and `pg_dump` are major
    versions; `closed_until` is up to where minutes were closed; `owners` are the database roles that TimescaleDB's
    jobs belong to."""

    made_at: datetime
    barwright: str
    revision: str
    engine: str
    epoch: str
    rev: int
    postgres: int
    pg_dump: int
    timescaledb: str | None
    timescaledb_schema: str | None
    closed_until: datetime
    positions: list[Position]
    owners: list[str] = []
    files: dict[str, File] = {}
    format: int = FORMAT

    @property
    def size(self) -> int:
        """Bytes of the dump."""
        return sum(file.bytes for file in self.files.values())


def dump_of(folder: Path) -> Path:
    """Where a backup keeps its dump."""
    return folder / "database"


def write(folder: Path, manifest: Manifest) -> Manifest:
    """Write it down with the sums of the dump's files: last of all, since a backup without it is not whole."""
    files = {path.name: _file(path) for path in sorted(dump_of(folder).iterdir())}
    whole = msgspec.structs.replace(manifest, files=files)
    draft = folder / "manifest.json.new"
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n")
    draft.replace(folder / "manifest.json")
    return whole


def read(folder: Path) -> Manifest:
    """A backup's manifest. Raises BarwrightError where there is none, or it is another format's."""
    path = folder / "manifest.json"
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise BarwrightError(f"{folder} holds no whole backup: there is no {path.name}.") from None
    except msgspec.DecodeError as error:
        raise BarwrightError(f"{path} is not a manifest of this Barwright: {error}.") from error
    if manifest.format != FORMAT:
        raise BarwrightError(f"{folder} is a backup of format {manifest.format}.", "Use the Barwright that made it.")
    return manifest


def verify(folder: Path, manifest: Manifest, told: Callable[[int], None]) -> None:
    """Compare every file of the dump with its sum; `told` gets the bytes looked at. Raises BarwrightError."""
    there = {path.name for path in dump_of(folder).glob("*")}
    if missing := manifest.files.keys() - there:
        raise BarwrightError(f"{folder} is not whole: {', '.join(sorted(missing))} missing.", "Use another backup.")
    for name, wanted in manifest.files.items():
        if _file(dump_of(folder) / name) != wanted:
            raise BarwrightError(f"{dump_of(folder) / name} is not what was backed up.", "Use another backup.")
        told(wanted.bytes)


def _file(path: Path) -> File:
    with path.open("rb") as file:
        return File(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
