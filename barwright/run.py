"""`barwright run`: everything on one machine, in the foreground, until it is told to stop."""

import http.client
import os
import shutil
import signal
import ssl
import sys
import threading
import time
from types import FrameType

from rich.console import Console
from rich.live import Live

from barwright import dashboard, instance
from barwright.api.access.policy import required
from barwright.dashboard import Sampler
from barwright.errors import BarwrightError
from barwright.instance import Instance
from barwright.settings import Settings
from barwright.stack import Stack

_TICK = 0.2
_LINE_EVERY = 5.0
_PAUSE = 5.0  # before a server that would not start is tried again


class Stop:
    """SIGINT, SIGTERM and SIGHUP: while things start, interrupt; afterwards ask the loop to end."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.interrupts = True
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, self._handle)

    def _handle(self, _signum: int, _frame: FrameType | None) -> None:
        self.event.set()
        if self.interrupts:
            self.interrupts = False
            raise KeyboardInterrupt


def run(settings: Settings) -> None:
    """Run until a signal; raises BarwrightError when another instance runs in this home, something is missing, or the
    API would be open to others."""
    required(settings)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    with instance.hold(settings.home.resolve()):
        stop = Stop()
        stack = Stack(settings, console.print)
        try:
            running = stack.up()
            stop.interrupts = False
            _watch(stack, running, stop.event, console)
        except KeyboardInterrupt:
            pass
        finally:
            stop.interrupts = False
            stack.down()


def _watch(stack: Stack, running: Instance, stop: threading.Event, console: Console) -> None:
    """Tend what runs and show it. Every child is started by this thread: the kernel ends a child with the thread that
    started it."""
    sampler = Sampler(stack.settings)
    sampler.start()
    try:
        if console.is_terminal:
            _live(stack, running, sampler, stop, console)
        else:
            _plain(stack, running, sampler, stop, console)
    finally:
        sampler.close()


def _live(stack: Stack, running: Instance, sampler: Sampler, stop: threading.Event, console: Console) -> None:
    ready = Ready(running)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while not stop.wait(_TICK):
            _tend(stack, stop)
            if ready.just_now(stack.settings):
                console.print(announcement(running, required(stack.settings), bool(stack.settings.tls_certificate)))
            live.update(dashboard.render(stack.roles, sampler.latest, stack.engine), refresh=True)


def _plain(stack: Stack, running: Instance, sampler: Sampler, stop: threading.Event, console: Console) -> None:
    ready, due = Ready(running), time.monotonic() + _LINE_EVERY
    while not stop.wait(_TICK):
        _tend(stack, stop)
        if ready.just_now(stack.settings):
            console.print(announcement(running, required(stack.settings), bool(stack.settings.tls_certificate)))
        if time.monotonic() >= due:
            due += _LINE_EVERY
            console.print(dashboard.line(stack.roles, sampler.latest, stack.engine))


def _tend(stack: Stack, stop: threading.Event) -> None:
    try:
        stack.tend()
    except BarwrightError as error:
        stack.say(str(error))
        stop.wait(_PAUSE)


class Ready:
    """Whether the API has said once that everything works."""

    def __init__(self, running: Instance) -> None:
        self.port = running.port
        self.seen = False

    def just_now(self, settings: Settings) -> bool:
        """True the first time /health/ready answers 200."""
        if self.seen:
            return False
        host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
        self.seen = self._ask(host, bool(settings.tls_certificate)) == 200
        return self.seen

    def _ask(self, host: str, secure: bool) -> int | None:
        connection = http.client.HTTPConnection(host, self.port, timeout=2)
        if secure:  # ours, by an address that need not be in its certificate
            unchecked = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection(host, self.port, timeout=2, context=unchecked)
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


def announcement(running: Instance, keys: bool, secure: bool = False) -> str:
    """The lines that tell a user where everything is, and how to get in where the API asks for keys."""
    api = f"{'https' if secure else 'http'}://127.0.0.1:{running.port}"
    login = [f"  log in    {_command()} key link   (programs: {_command()} key create NAME)"] if keys else []
    return "\n".join(
        [
            "ready",
            f"  chart     {api}/   symbols {api}/symbols",
            f"  API       {api}/v1/bars   docs {api}/schema",
            *login,
            f"  engine    {running.engine}",
            f"  database  {running.database_url or 'as the PG* variables say'}",
            f"  Kafka     {running.kafka_bootstrap_servers}",
            f"  Redis     {running.redis_url}",
            f"  exchange  {running.simulator_url} (simulated)",
            f'  another terminal attaches with: eval "$({_command()} env)"',
        ]
    )


def _command() -> str:
    """How the user can call us from another terminal in this folder: a virtual environment may not be active there."""
    return "barwright" if shutil.which("barwright") else os.path.relpath(sys.argv[0])
