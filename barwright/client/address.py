"""Where the server is."""

import os
from ipaddress import ip_address
from urllib.parse import urlsplit

from barwright.client.errors import ClientError


def address(url: str | None) -> str:
    """The URL of the server: the one given, else BARWRIGHT_URL, else the instance that `make run` started here,
    else http://127.0.0.1:8000."""
    found = url or os.environ.get("BARWRIGHT_URL") or _running()
    parts = urlsplit(found)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ClientError(f"{found!r:.100} is no URL of a server.", "For instance http://127.0.0.1:8000")
    return found.rstrip("/")


def stream_address(url: str) -> str:
    """The URL of its stream."""
    return "ws" + url.removeprefix("http") + "/v1/stream"


def is_local(url: str) -> bool:
    """Whether a server is on this machine; proxies of the environment are not for it."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _running() -> str:
    from barwright import instance
    from barwright.settings import Settings

    running = instance.read(Settings().home)
    return f"http://127.0.0.1:{running.port if running else 8000}"
