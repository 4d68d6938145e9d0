"""Child processes that leave no trouble behind: started, recognised after a crash, stopped in order.

A run may be killed at any moment together with its children, or without them. So a child works in a directory of its
own and is known by that directory and a word of its command line, both read from the system: a list of process ids in a
file could be stale, or miss a child that was started just before the kill.
"""

import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from barwright.errors import BarwrightError

_NO_LONGER_THERE = (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess)


class Child:
    """A process in a directory of its own, its output in a log file.

    `marker` is the word of its command line that tells it from a shell someone opened in the directory; `patience` the
    seconds it gets to stop after `stop_signal`, before it is killed.
    """

    def __init__(
        self,
        directory: Path,
        log: Path,
        marker: str,
        stop_signal: signal.Signals = signal.SIGTERM,
        patience: float = 30,
    ) -> None:
        self.directory = directory.resolve()
        self.log = log.resolve()
        self.marker = marker
        self.stop_signal = stop_signal
        self.patience = patience
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it lives."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def status(self) -> int | None:
        """How it ended, None while it lives or before it was started; negative: the signal that killed it."""
        return self._process.poll() if self._process else None

    def start(self, command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        """Start it, in a session of its own: Ctrl-C in a terminal must not reach it before its turn."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_dies_with_us(self.stop_signal), *command],
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def terminate(self) -> None:
        """Ask it to stop, without waiting."""
        if self._process and self.pid:
            self._process.send_signal(self.stop_signal)

    def stop(self) -> None:
        """Ask it to stop and wait; kill it when its patience is over."""
        self.terminate()
        if self._process:
            try:
                self._process.wait(self.patience)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def tail(self, lines: int = 5) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def stop_orphans(self) -> int:
        """Stop what a killed run left in this child's directory; returns how many processes that were."""
        found = orphans(self.directory, self.marker)
        # Their children are theirs to stop: PostgreSQL's would take the signal for something else.
        ours = {process.pid for process in found}
        for process in found:
            if _parent(process) not in ours:
                _send(process, self.stop_signal)
        _, alive = psutil.wait_procs(found, timeout=self.patience)
        for process in alive:
            _send(process, signal.SIGKILL)
        if psutil.wait_procs(alive, timeout=5)[1]:
            raise BarwrightError(f"A process left in {self.directory} by an earlier run cannot be stopped.")
        return len(found)


def orphans(directory: Path, marker: str) -> list[psutil.Process]:
    """The processes that work in a directory and have `marker` in their command line."""
    return [process for process in psutil.process_iter() if _works_in(process, directory, marker)]


def _works_in(process: psutil.Process, directory: Path, marker: str) -> bool:
    try:
        return process.cwd() == str(directory) and any(marker in word for word in process.cmdline())
    except _NO_LONGER_THERE:
        return False


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except _NO_LONGER_THERE:
        return None


def _send(process: psutil.Process, signum: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(signum)


def _dies_with_us(stop_signal: signal.Signals) -> list[str]:
    """A prefix that has the kernel send `stop_signal` when the thread that starts the child ends (Linux)."""
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    return [setpriv, "--pdeathsig", stop_signal.name.removeprefix("SIG")] if setpriv else []
