"""Valkey in the forms it takes in production: a cluster, a pair watched by a sentinel, one behind TLS."""

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from barwright.embedded.ports import LOOPBACK, free_port
from barwright.embedded.valkey import Valkey
from tests import services
from tests.proxy import Proxy

SLOTS = 16384


class Node(Valkey):
    """A Valkey with options of its own."""

    def __init__(self, home: Path, *options: str) -> None:
        super().__init__(home, free_port())
        self.options = options
        services.demand(self)

    def command(self) -> list[str | Path]:
        """See Service."""
        return [*super().command(), "--repl-diskless-sync-delay", "0", *self.options]

    def client(self) -> redis.Redis:
        """A client of this node alone."""
        return redis.Redis(port=self.port, decode_responses=True)


class Sentinel(Node):
    """One sentinel; it finds a master dead after half a second, and alone decides."""

    def __init__(self, home: Path, master: Node) -> None:
        super().__init__(home)
        self.master = master

    def prepare(self) -> None:
        """See Service. A sentinel writes into its configuration."""
        (self.directory / "sentinel.conf").write_text(
            f"bind {LOOPBACK}\nport {self.port}\nsentinel monitor main {LOOPBACK} {self.master.port} 1\n"
            "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n"
        )

    def command(self) -> list[str | Path]:
        """See Service."""
        return [Valkey.command(self)[0], "sentinel.conf", "--sentinel"]


@contextmanager
def cluster(home: Path) -> Iterator[list[Node]]:
    """Three masters, and a replica of the first as the fourth."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "700", "--cluster-replica-validity-factor", "0")
    nodes = [Node(home / str(n), *options, "--cluster-port", str(free_port())) for n in range(4)]
    with _running(nodes):
        first = nodes[0].client()
        for n, node in enumerate(nodes):
            bus = node.options[-1]
            first.execute_command("CLUSTER", "MEET", LOOPBACK, node.port, bus)
            if n < 3:
                node.client().execute_command("CLUSTER", "ADDSLOTSRANGE", SLOTS * n // 3, SLOTS * (n + 1) // 3 - 1)
        master = first.execute_command("CLUSTER", "MYID")
        until(lambda: nodes[3].client().execute_command("CLUSTER", "REPLICATE", master), redis.ResponseError)
        for node in nodes:
            until(lambda node=node: _whole(node.client()))
        yield nodes


def clustered(announced: int) -> tuple[str, ...]:
    """Options of a node that sends its clients to another port."""
    return ("--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--cluster-announce-port", str(announced))


def alone(node: Node) -> None:
    """Make a node a cluster of its own."""
    with node.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        until(lambda: "cluster_state:ok" in str(client.execute_command("CLUSTER", "INFO")))


@contextmanager
def watched(home: Path) -> Iterator[tuple[Node, Node, Sentinel]]:
    """A master, its replica and a sentinel that knows both."""
    master = Node(home / "master")
    replica = Node(home / "replica", "--replicaof", LOOPBACK, str(master.port))
    sentinel = Sentinel(home / "sentinel", master)
    with _running([master, replica, sentinel]):
        until(lambda: sentinel.client().execute_command("SENTINEL", "REPLICAS", "main"))
        until(lambda: replica.client().info("replication")["master_link_status"] == "up")
        yield master, replica, sentinel


@contextmanager
def behind_tls(port: int, certificate: Path, key: Path) -> Iterator[int]:
    """A port that takes TLS and passes what it holds on to a plain one: the wheel's Valkey has none of its own."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    proxy = Proxy(lambda: port, context)
    try:
        yield proxy.port
    finally:
        proxy.close()


@contextmanager
def _running(nodes: list[Node]) -> Iterator[None]:
    try:
        for node in nodes:
            node.launch()
        for node in nodes:
            node.wait()
        yield
    finally:
        for node in nodes:
            node.kill()


def _whole(client: redis.Redis) -> bool:
    """Whether a node takes the cluster for complete, its replica included."""
    state, nodes = (str(client.execute_command("CLUSTER", part)) for part in ("INFO", "NODES"))
    return "cluster_state:ok" in state and nodes.count("connected") == 4 and "slave" in nodes


def until(check, *errors: type[Exception], seconds: float = 20) -> None:  # type: ignore[no-untyped-def]
    """Wait until it is true."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if check():
                return
        except (redis.ConnectionError, *errors):
            pass
        assert time.monotonic() < deadline, check
        time.sleep(0.05)
