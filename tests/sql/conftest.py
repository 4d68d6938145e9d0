"""Markets on both engines, for the one suite that runs on each."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from barwright import sql
from barwright.migrations import downgrade, upgrade
from barwright.settings import Settings
from tests.sql.market import Market


@pytest.fixture(scope="module", params=["postgres", "timescaledb"])
def engine_dsn(request: Any) -> str:
    return {
        "postgres": "postgresql://postgres@127.0.0.1:54330/a",
        "timescaledb": "postgresql://postgres@127.0.0.1:54329/a",
    }[request.param]


@pytest.fixture(scope="module")
def connection(engine_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """One connection to a migrated database of each engine (the WASM build has only one)."""
    downgrade(Settings(database_url=engine_dsn))
    upgrade(Settings(database_url=engine_dsn))
    with sql.connect(engine_dsn, "test", autocommit=True, prepare_threshold=None) as connection:
        yield connection


@pytest.fixture(scope="module")
def new(connection: psycopg.Connection[Any]) -> Callable[..., Market]:
    """Makes markets, each in a year of its own."""
    return lambda **options: Market(connection, **options)
