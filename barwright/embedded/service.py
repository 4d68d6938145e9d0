"""What the three servers have in common."""

import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from barwright.embedded.ports import LOOPBACK, free_port, is_free, listens
from barwright.embedded.process import Child
from barwright.errors import BarwrightError


class Service(ABC):
    """A server on the loopback interface, its data in a directory: start it again and it has the same port and data."""

    name: ClassVar[str]
    child: Child

    def __init__(self, home: Path, port: int = 0) -> None:
        self.directory = home.resolve() / self.name
        self.log = home.resolve() / "logs" / f"{self.name}.log"
        self.port = port

    @abstractmethod
    def missing(self) -> list[str]:
        """Programs it needs that this machine lacks."""

    @property
    @abstractmethod
    def url(self) -> str:
        """What its clients connect to."""

    @abstractmethod
    def prepare(self) -> None:
        """Make its data directory ready; nothing of an earlier run is alive when this is called."""

    @abstractmethod
    def command(self) -> list[str | Path]:
        """The server's command line."""

    def is_ready(self) -> bool:
        """Whether it listens on its port; that something answers there would not tell that it is ours."""
        return self.pid is not None and listens(self.pid, self.port)

    def ports(self) -> list[int]:
        """The ports it listens on."""
        return [self.port]

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The server's process id while it lives."""
        return self.child.pid

    def start(self, timeout: float = 60) -> None:
        """Start the server and wait until it answers.

        Raises BarwrightError when it does not come up within `timeout` seconds.
        """
        self.launch()
        self.wait(timeout)

    def launch(self) -> None:
        """Start the server without waiting. A taken port is replaced by a free one: read `port` afterwards."""
        self.child.stop_orphans()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port(self.port)
        self.prepare()
        self.child.start(self.command())

    def wait(self, timeout: float = 60) -> None:
        """Wait until the server answers; see start."""
        deadline = time.monotonic() + timeout
        while not self.is_ready():
            if self.pid is None and not all(map(is_free, self.ports())):
                self.launch()  # someone took a port between our look and the server's
            elif self.pid is None or time.monotonic() > deadline:
                self.child.kill()
                raise BarwrightError(
                    f"{self.name} did not start:\n{self.child.tail()}", f"Its log is {self.child.log}."
                )
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server in order."""
        self.child.stop()

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        self.child.kill()
