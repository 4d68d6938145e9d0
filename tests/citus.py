"""Databases for tests on a Citus server: one of the same name on every node, which the coordinator's knows."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

# (host, port) of a node.
Node = tuple[str, int]


def nodes(server_url: str) -> list[Node]:
    """The nodes of the Citus cluster whose coordinator this is, itself first; empty where it is none."""
    with psycopg.connect(server_url) as connection:
        if not connection.execute("select 1 from pg_extension where extname = 'citus'").fetchone():
            return []
        rows = connection.execute(
            "select nodename, nodeport from pg_dist_node where noderole = 'primary' and isactive order by groupid"
        ).fetchall()
    return [(str(name), int(port)) for name, port in rows]


def version(server_url: str) -> str:
    """Its version, as `14.0`."""
    with psycopg.connect(server_url) as connection:
        row = connection.execute("select extversion from pg_extension where extname = 'citus'").fetchone()
    return str(row and row[0]).partition("-")[0]


@contextmanager
def admins(server_url: str, cluster: list[Node]) -> Iterator[list[psycopg.Connection[Any]]]:
    """A connection to each node, outside of transactions."""
    made = [psycopg.connect(make_conninfo(server_url, host=host, port=port), autocommit=True) for host, port in cluster]
    try:
        yield made
    finally:
        for connection in made:
            connection.close()


@contextmanager
def new_database(server_url: str, cluster: list[Node], name: str, template: str | None = None) -> Iterator[str]:
    """The DSN of a new database of the cluster, a copy of a template where one is given; dropped on every node
    afterwards."""
    with admins(server_url, cluster) as connections:
        for connection in connections:
            _copy(connection, name, template or "template0")
        try:
            if not template:
                join(server_url, cluster, name)
            yield make_conninfo(server_url, dbname=name)
        finally:
            for connection in connections:
                connection.execute(SQL("drop database {} with (force)").format(Identifier(name)))


def _copy(connection: psycopg.Connection[Any], name: str, template: str) -> None:
    """Make a database on one node. Citus' own background process is in every database that has been used."""
    for attempt in range(20):
        try:
            connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (template,))
            connection.execute(SQL("create database {} template {}").format(Identifier(name), Identifier(template)))
        except psycopg.errors.ObjectInUse:
            if attempt == 19:
                raise
            time.sleep(0.05)
        else:
            return


def join(server_url: str, cluster: list[Node], name: str) -> None:
    """Make the nodes' databases one cluster."""
    with admins(make_conninfo(server_url, dbname=name), cluster) as connections:
        for connection in connections:
            connection.execute("create extension citus")
        first, *workers = cluster
        connections[0].execute("select citus_set_coordinator_host(%s, %s)", first)
        for worker in workers:
            connections[0].execute("select citus_add_node(%s, %s)", worker)
