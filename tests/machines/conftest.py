"""Machines with a board of their own, and quiet: a debug line for each transition would be most of a failure's text."""

import logging
from collections.abc import Iterator

import pytest
import structlog

from barwright.machines.board import Board


@pytest.fixture
def board() -> Board:
    """An empty board."""
    return Board()


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO), cache_logger_on_first_use=False
    )
    yield
    structlog.configure(**before)
