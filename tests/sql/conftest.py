"""Markets on both engines, for the one suite that runs on each."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import psycopg
import pytest

from barwright import sql
from tests.sql.market import Market


@pytest.fixture(scope="module")
def connection(engine_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """One connection to a migrated database of each engine (the WASM build has only one)."""
    with sql.connect(engine_dsn, "test", autocommit=True, prepare_threshold=None) as connection:
        yield connection


@pytest.fixture(scope="module")
def new(connection: psycopg.Connection[Any]) -> Callable[..., Market]:
    """Makes markets, each in two years of its own; the first of a module lie in the past."""
    era = count(1972, 2)
    return lambda **options: Market(connection, era=era, **options)
