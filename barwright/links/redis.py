"""Redis and Valkey by URL: one server, one found by sentinels, or a cluster; in the clear or by TLS.

redis://user:password@host:6379/0                 rediss:// the same by TLS
redis+sentinel://host:26379,host2/master/0        rediss+sentinel://
redis+cluster://host:6379,host2                   rediss+cluster://
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from redis import Redis
from redis import asyncio as aio
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

from barwright.errors import BarwrightError
from barwright.links import tls
from barwright.settings import Settings

PORTS: Final = {"redis": 6379, "redis+sentinel": 26379, "redis+cluster": 6379}
FORMS: Final = "redis://host:6379/0, redis+sentinel://host:26379,host2/master/0, redis+cluster://host:6379,host2"
AWAY: Final = (RedisError, RedisClusterException, OSError, TimeoutError)  # what calls raise that come to nothing
_EXTRA: Final = ("sentinel_username", "sentinel_password")


@dataclass(frozen=True)
class Address:
    """What a URL says: how it is reached, the servers, user and password, sentinel's name of the master, database."""

    kind: str
    secure: bool
    servers: tuple[tuple[str, int], ...]
    username: str | None
    password: str | None
    master: str
    database: int
    extra: dict[str, str]


def address(url: str) -> Address:
    """A URL taken apart. Raises BarwrightError, which never shows the password."""
    scheme, found, rest = url.strip().partition("://")
    kind = scheme.replace("rediss", "redis", 1)
    if not found or kind not in PORTS:
        raise _wrong(url, f"{scheme or url.strip()!r:.40} is no way to reach Redis")
    place, _, query = rest.partition("?")
    authority, _, path = place.partition("/")
    if "@" in rest and "@" not in authority and "sentinel_password=" not in query:
        raise _wrong(
            url, "its password has a character that a URL does not take",
            "Write / as %2F, ? as %3F and % as %25, or give it as REDIS_PASSWORD.",
        )  # fmt: skip
    login, _, hosts = authority.rpartition("@")
    username, _, password = login.partition(":")
    servers = tuple(_server(url, each, PORTS[kind]) for each in hosts.split(","))
    if kind == "redis" and len(servers) > 1:
        raise _wrong(url, "it names several servers", "Say redis+cluster:// or redis+sentinel://.")
    master, database = _path(url, kind, path)
    return Address(
        kind, scheme.startswith("rediss"), servers, unquote(username) or None, unquote(password) or None, master,
        database, _extra(url, kind, query),
    )  # fmt: skip


def client(settings: Settings, timeout: float, **options: Any) -> Redis | RedisCluster:
    """A client for threads that tries once; `timeout` in seconds. Raises BarwrightError; redis.RedisError where a
    cluster is away, which is looked for at once."""
    at = address(settings.redis_url)
    given = {**_options(settings, at, timeout), "retry": Retry(NoBackoff(), 0), **options}
    if at.kind == "redis+cluster":
        nodes = [ClusterNode(host, port) for host, port in at.servers]  # type: ignore[no-untyped-call]
        return RedisCluster(startup_nodes=nodes, **_once(given))
    if at.kind == "redis+sentinel":
        sentinel: Any = Sentinel(list(at.servers), sentinel_kwargs=_sentinel(given, at), **given, db=at.database)  # type: ignore[no-untyped-call]
        return sentinel.master_for(at.master)  # type: ignore[no-any-return]
    host, port = at.servers[0]
    return Redis(host=host, port=port, db=at.database, **given)


def async_client(settings: Settings, timeout: float, **options: Any) -> "aio.Redis | aio.RedisCluster":
    """The same for an event loop; connects when it is used. Raises BarwrightError."""
    at = address(settings.redis_url)
    given = {**_options(settings, at, timeout), "retry": AsyncRetry(NoBackoff(), 0), **options}
    if at.kind == "redis+cluster":
        nodes = [aio.cluster.ClusterNode(host, port) for host, port in at.servers]
        return aio.RedisCluster(startup_nodes=nodes, **_once(given))
    if at.kind == "redis+sentinel":
        sentinel: Any = AsyncSentinel(list(at.servers), sentinel_kwargs=_sentinel(given, at), **given, db=at.database)  # type: ignore[no-untyped-call]
        return sentinel.master_for(at.master)  # type: ignore[no-any-return]
    host, port = at.servers[0]
    return aio.Redis(host=host, port=port, db=at.database, **given)


@asynccontextmanager
async def listening(settings: Settings, timeout: float, **options: Any) -> AsyncIterator[PubSub]:
    """A channel on which to hear what is published. Its connection is closed when this ends: the client's own way does
    not wait for that, and one by TLS then outlives the event loop. Raises as async_client does, and AWAY."""
    made = async_client(settings, timeout, **options)
    try:
        await made.initialize()
        channel = made.pubsub(ignore_subscribe_messages=True)
        try:
            yield channel
        finally:
            connection: Any = channel.connection
            with suppress(*AWAY):
                if connection is not None:
                    await connection.disconnect()
                await channel.aclose()  # type: ignore[no-untyped-call]
    finally:
        await close(made)


async def close(made: "aio.Redis | aio.RedisCluster") -> None:
    """End an async client's connections, those to sentinels too. A server that does not take its leave in time is
    left: whoever closes has ended all the same."""
    manager = getattr(getattr(made, "connection_pool", None), "sentinel_manager", None)
    for one in (made, *(manager.sentinels if manager else ())):
        with suppress(*AWAY):
            await one.aclose()


def _options(settings: Settings, at: Address, timeout: float) -> dict[str, Any]:
    password = at.password or settings.redis_password.get_secret_value() or None
    made: dict[str, Any] = {
        "username": at.username if password else None,
        "password": password,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
    }
    files = (settings.redis_ssl_ca, settings.redis_ssl_certificate, settings.redis_ssl_key)
    if not at.secure:
        if any(files):
            hint = f"Say {at.kind.replace('redis', 'rediss', 1)}://."
            raise BarwrightError("REDIS_SSL_… is set, but REDIS_URL makes no use of it.", hint)
        return made
    tls.check("REDIS_SSL", *files)
    names = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
    return {**made, "ssl": True, **{name: file for name, file in zip(names, files, strict=True) if file}}


def _sentinel(given: dict[str, Any], at: Address) -> dict[str, Any]:
    """Sentinels have users of their own, or none."""
    kept = {name: value for name, value in given.items() if name.startswith(("socket", "ssl", "retry"))}
    user, password = (at.extra.get(name) for name in _EXTRA)
    return {**kept, "username": user, "password": password}


def _once(given: dict[str, Any]) -> dict[str, Any]:
    """Of a cluster: no retries beyond following where a slot has moved to, and some slots are better than none."""
    return {**given, "require_full_coverage": False}


def _server(url: str, text: str, default: int) -> tuple[str, int]:
    host, colon, port = text.strip().rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text.strip(), str(default)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise _wrong(url, f"{text!r:.80} is no host:port" if text else "it names no host")
    return host, int(port)


def _path(url: str, kind: str, path: str) -> tuple[str, int]:
    """Sentinel's name of the master, and the number of the database."""
    master, _, database = path.partition("/") if kind == "redis+sentinel" else ("", "", path)
    if kind == "redis+sentinel" and not master:
        raise _wrong(url, "it does not name the master", "It is what sentinels call it: redis+sentinel://host/NAME/0.")
    if database and not database.isdecimal():
        raise _wrong(url, f"{database!r:.40} is no number of a database")
    if kind == "redis+cluster" and int(database or 0):
        raise _wrong(url, f"a cluster has no database {database}", "Leave it out.")
    return unquote(master), int(database or 0)


def _extra(url: str, kind: str, query: str) -> dict[str, str]:
    found = dict(parse_qsl(query))
    unknown = set(found) - set(_EXTRA if kind == "redis+sentinel" else ())
    if unknown:
        raise _wrong(url, f"{min(unknown)!r:.40} is no option of it")
    return found


def _wrong(url: str, why: str, hint: str = "") -> BarwrightError:
    scheme, _, rest = url.partition("://")
    shown = f"{scheme}://***@{rest.rpartition('@')[2]}" if "@" in rest else url
    return BarwrightError(f"REDIS_URL={shown:.200}: {why}.", hint or f"It takes {FORMS}; rediss… is TLS.")
