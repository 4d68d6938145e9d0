"""The API of tests/api, for its clients."""

from tests.api.conftest import api, connection, dsn, eras, new

__all__ = ["api", "connection", "dsn", "eras", "new"]
