"""How a revision runs a file of sql/."""

from alembic import op

from barwright import sql


def run(*paths: str) -> None:
    """Run whole files through the driver itself: without parameters psycopg takes many statements and any `%`."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    for path in paths:
        connection.execute(sql.read(path))
