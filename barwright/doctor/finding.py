"""What a check says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple


class Finding(NamedTuple):
    """One fact about `what`: well, worth a look (warning), or wrong (problem). `todo` is the next step, with its
    command."""

    what: str
    state: Literal["well", "warning", "problem"]
    said: str
    todo: str = ""


Findings = Iterator[Finding]


def well(what: str, said: str) -> Finding:
    """Nothing to do."""
    return Finding(what, "well", said)


def warning(what: str, said: str, todo: str) -> Finding:
    """Something that will become a problem, or costs."""
    return Finding(what, "warning", said, todo)


def problem(what: str, said: str, todo: str) -> Finding:
    """Something that keeps bars from being right, complete or in time."""
    return Finding(what, "problem", said, todo)
