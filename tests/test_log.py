"""Logs: every line says which role it is from, whichever thread or library wrote it."""

import json
import subprocess
import sys

import pytest

# In a process of its own: logging is configured once for all.
PROGRAM = """
import logging, sys, threading
import structlog
from barwright import log
from barwright.settings import Settings

early = structlog.get_logger()
log.configure(Settings(log_format=sys.argv[1], log_level="INFO"), "ingest")

def work():
    dsn = "pass" + "word"
    early.info("from a thread", rows=3)
    try:
        raise ValueError("why")
    except ValueError:
        early.exception("failed")
    logging.getLogger("library").warning("%s is away", "it")
    try:
        raise KeyError("how")
    except KeyError:
        logging.getLogger("library").exception("broke")

early.info("from the main thread")
early.debug("not wanted")
logging.getLogger("library").info("not wanted")
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def lines(log_format: str) -> list[str]:
    """What a process logs."""
    command = [sys.executable, "-c", PROGRAM, log_format]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == ""
    return done.stderr.splitlines()


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_shows_no_local_variables(log_format: str) -> None:
    assert "password" not in "".join(lines(log_format))


def test_each_line_is_a_json_object_that_names_its_role() -> None:
    found = [json.loads(line) for line in lines("auto")]
    assert [(line["event"], line["level"], line["role"]) for line in found] == [
        ("from the main thread", "info", "ingest"),
        ("from a thread", "info", "ingest"),
        ("failed", "error", "ingest"),
        ("it is away", "warning", "ingest"),
        ("broke", "error", "ingest"),
    ]
    assert found[1]["rows"] == 3
    assert [line["logger"] for line in found[3:]] == ["library", "library"]
    assert all(line["timestamp"].endswith("Z") for line in found)
    assert [found[n]["exception"][0]["exc_type"] for n in (2, 4)] == ["ValueError", "KeyError"]


def test_the_console_shows_the_same_to_people() -> None:
    text = "\n".join(lines("console"))
    assert "not wanted" not in text
    for event in ("from the main thread", "from a thread", "failed", "it is away", "broke"):
        (line,) = [line for line in text.splitlines() if event in line]
        assert "ingest" in line
    assert "ValueError: why" in text
