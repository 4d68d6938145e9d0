"""Databases for tests on a Citus server: one of the same name on every node, which the coordinator's knows."""

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Composed, Identifier

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


def coordinates(connection: psycopg.Connection[Any]) -> bool:
    """Whether this database is the coordinator's part of a cluster."""
    row = connection.execute("select to_regclass('pg_dist_node') is not null").fetchone()
    return bool(row and row[0])


def address(server_url: str) -> Node:
    """The server itself, as a cluster of one."""
    with psycopg.connect(server_url) as connection:
        return connection.info.host, connection.info.port


def version(server_url: str) -> str:
    """Its version, as `14.0`."""
    with psycopg.connect(server_url) as connection:
        row = connection.execute("select extversion from pg_extension where extname = 'citus'").fetchone()
    return str(row and row[0]).partition("-")[0]


def analyze(connection: psycopg.Connection[Any]) -> None:
    """`vacuum analyze` of all tables. Citus passes it on for those that are named; to the coordinator no worker can log
    in."""
    connection.execute("vacuum analyze")
    if coordinates(connection):
        rows = connection.execute("select table_name::text from citus_tables where citus_table_type = 'distributed'")
        for (name,) in rows.fetchall():
            connection.execute(SQL("vacuum analyze {}").format(Identifier(name)))


def everywhere(database: str) -> list[str]:
    """The DSNs of a database on every node of its cluster; its own where it has none."""
    return [make_conninfo(database, host=host, port=port) for host, port in nodes(database)] or [database]


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
        # Others: a test may have killed a node.
        with admins(server_url, cluster) as connections:
            for connection in connections:
                _patiently(connection, SQL("drop database {} with (force)").format(Identifier(name)))


def _copy(connection: psycopg.Connection[Any], name: str, template: str) -> None:
    """Make a database on one node."""
    ended = SQL("select pg_terminate_backend(pid) from pg_stat_activity where datname = {}").format(template)
    _patiently(connection, SQL("create database {} template {}").format(Identifier(name), Identifier(template)), ended)


def _patiently(connection: psycopg.Connection[Any], statement: Composed, before: Composed | None = None) -> None:
    """Run what nobody may be connected for. Citus' own background process is in every database that has been used, and
    comes back."""
    for attempt in range(20):
        try:
            if before:
                connection.execute(before)
            connection.execute(statement)
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


class Postmaster:
    """A node's server process on this machine, found by what it tells of itself.

    Raises LookupError, with the reason, where it is on another machine or somebody else's; psycopg's OperationalError
    while it does not answer.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.find()

    def find(self) -> None:
        """Ask it."""
        with psycopg.connect(self.url) as connection:
            rows = connection.execute(
                "select current_setting('data_directory'), pg_read_file('postmaster.pid'), "
                "pg_read_file('postmaster.opts')"
            ).fetchall()
        [(directory, pid, command)] = rows
        self.directory, self.pid, self.command = Path(directory), int(pid.split()[0]), shlex.split(command)
        try:
            os.kill(self.pid, 0)
            ours = Path(f"/proc/{self.pid}/cwd").samefile(self.directory)
        except OSError as error:
            raise LookupError(f"cannot reach the server process of {directory}: {error}") from error
        if not ours:
            raise LookupError(f"process {self.pid} of this machine is not the server of {directory}")

    def kill(self) -> None:
        """`kill -9`: its own processes see that it is gone, and go."""
        os.kill(self.pid, signal.SIGKILL)

    def start(self) -> None:
        """The same command again, as who owns the data; once the last process of the killed one has let go of it."""
        owner = self.directory.stat()
        deadline = time.monotonic() + 60
        while True:
            subprocess.run(
                ["setsid", "--fork", *self.command, "-D", self.directory], user=owner.st_uid, group=owner.st_gid,
                extra_groups=[], cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True,
            )  # fmt: skip
            try:
                self.find()
            except (psycopg.OperationalError, LookupError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return
