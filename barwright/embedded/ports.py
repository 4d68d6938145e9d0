"""Ports on the loopback interface."""

import random
import socket

import psutil

LOOPBACK = "127.0.0.1"
# Below the range the kernel gives to clients: there, a client that keeps trying a stopped server can take the server's
# port, or connect to itself.
_RANGE = range(20_000, 32_000)
# Not the module's own, which hypothesis seeds: tests side by side would draw the same ports.
_RANDOM = random.SystemRandom()


def is_free(port: int) -> bool:
    """Whether a server could listen on the port; connections still closing down do not count as taking it."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(preferred: int = 0) -> int:
    """`preferred` where it is free, else any port that is (0: any)."""
    if preferred and is_free(preferred):
        return preferred
    return next(port for port in _RANDOM.sample(_RANGE, len(_RANGE)) if is_free(port))


def listens(pid: int, port: int) -> bool:
    """Whether a process listens on the port."""
    try:
        sockets = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return False
    return any(sock.status == psutil.CONN_LISTEN and sock.laddr.port == port for sock in sockets)
