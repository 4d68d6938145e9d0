"""`barwright health`: asks a role whether it lives and can work. Containers call it every few seconds, so it imports
next to nothing."""

import http.client
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from barwright.errors import BarwrightError

PATIENCE = 10.0  # seconds


@click.command()
@click.option("--live", is_flag=True, help="Only whether its loops turn, not whether what it needs answers.")
def command(live: bool) -> None:
    """Ask the role that listens on BARWRIGHT_METRICS whether it can work; else every role of the running instance.

    Ends with status 1 where one cannot.
    """
    answers = [_ask(role, address, "/health/live" if live else "/health/ready") for role, address in _addresses()]
    click.echo("; ".join(text for _, text in answers))
    sys.exit(not all(is_well for is_well, _ in answers))


def _addresses() -> Iterator[tuple[str, str]]:
    """Names and addresses of the listeners. BarwrightError where there is none."""
    if address := os.environ.get("BARWRIGHT_METRICS"):
        yield "", address
        return
    from barwright import instance

    running = instance.read(Path(os.environ.get("BARWRIGHT_HOME") or ".barwright"))
    if running is None or not running.metrics:
        raise BarwrightError("There is nobody to ask.", "BARWRIGHT_METRICS names the listener of a role.")
    yield from running.metrics.items()


def _ask(role: str, address: str, path: str) -> tuple[bool, str]:
    """Whether all is well, and that in words."""
    host, _, port = address.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))
    prefix = f"{role}: " if role else ""
    try:
        connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
        connection.request("GET", path)
        answer = connection.getresponse()
        told = json.loads(answer.read())
        connection.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        return False, f"{prefix}no answer from {address}: {error}"
    down = [name for name, state in told.get("checks", {}).items() if state != "up"]
    words = told.get("message") or told["status"] + (f" ({', '.join(down)} down)" if down else "")
    return answer.status == 200, f"{prefix}{words}"
