"""Redis as a cluster, by sentinels, and by TLS: what the API keeps and hears works on each, also after a fail-over."""

import asyncio
import gc
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from redis.asyncio.connection import RedisSSLContext

from barwright.api.access.limits import Limiter
from barwright.api.shared import CONNECT, TIMEOUT, Shared
from barwright.api.stream.news import News
from barwright.ingest.announce import PAUSE, Announcer
from barwright.settings import Settings
from tests.links.certificates import Authority
from tests.links.valkeys import Node, alone, behind_tls, cluster, clustered, watched
from tests.proxy import Proxy

KEYS = [f"ohlcv:epoch:BTCUSD:1m:{n}:7" for n in range(50)]


class Clients:
    """All that Barwright does with Redis."""

    def __init__(self, settings: Settings) -> None:
        self.shared = Shared(settings)
        self.heard: set[str] = set()
        self.news = News(settings, lambda symbols: self.heard.update(symbols or ()))
        self.announcer = Announcer(settings)
        self.limiters = [Limiter(6000, True, self.shared, lambda: "epoch") for _ in range(2)]

    async def use(self, name: str, seconds: float = 0) -> None:
        """Keep pages, read them, tell and hear of ticks, share a count. What fails is tried again for some seconds."""
        await _again(seconds, lambda: self._pages(name))
        await _again(seconds, lambda: self._news(name))
        await _again(seconds, lambda: self._counts(name))

    async def _pages(self, name: str) -> None:
        self.shared.breaker.failures = 0
        wanted = {f"{key}:{name}": key.encode() for key in KEYS}
        self.shared.keep(wanted)
        await asyncio.gather(*self.shared.background)
        assert await self.shared.get(list(wanted)) == list(wanted.values())

    async def _news(self, name: str) -> None:
        self.announcer.tell({name: 1})
        for _ in range(40):
            await asyncio.sleep(0.025)
            if name in self.heard:
                return
        raise AssertionError(f"{name} was not heard of")

    async def _counts(self, name: str) -> None:
        first, second = (limiter.of(None, (name, 1)) for limiter in self.limiters)
        assert first is not None
        assert second is not None
        first.spend(5)
        await self.limiters[0]._share("epoch", [first])
        second.spend(1)
        await self.limiters[1]._share("epoch", [second])
        assert second.others >= 6


async def _again(seconds: float, check: Callable[[], Awaitable[None]]) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await check()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


def used(settings: Settings, fail: Callable[[], None] | None = None) -> float:
    """Use all of it, fail, and use all again; returns the seconds until everything worked again."""

    async def run() -> float:
        clients = Clients(settings)
        clients.announcer.start()
        listening = asyncio.create_task(clients.news.run())
        try:
            await clients.use("BEFORE", 5)
            if fail is None:
                return 0.0
            fail()
            began = time.monotonic()
            await clients.use("AFTER", 20)
            return time.monotonic() - began
        finally:
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening
            clients.announcer.close()
            await clients.shared.close()

    return asyncio.run(run())


def addresses(nodes: Iterable[Node]) -> str:
    """host:port,…"""
    return ",".join(node.address for node in nodes)


def test_a_cluster_works_also_when_a_master_dies(tmp_path: Path) -> None:
    with cluster(tmp_path) as nodes:
        settings = Settings(redis_url=f"redis+cluster://{addresses(nodes)}")
        assert used(settings, nodes[0].kill) < 10 + PAUSE


@pytest.mark.slow
def test_a_master_named_by_a_sentinel_works_also_when_it_dies(tmp_path: Path) -> None:
    with watched(tmp_path) as (master, _, sentinel):
        # The first sentinel is not there: the next is asked.
        settings = Settings(redis_url=f"redis+sentinel://127.0.0.1:1,{sentinel.address}/main/0")
        assert used(settings, master.kill) < 10 + PAUSE


@pytest.fixture
def secured(tmp_path: Path, authority: Authority) -> Iterator[tuple[Node, int]]:
    """A server, and the port at which it is reached by TLS."""
    node = Node(tmp_path)
    node.start()
    try:
        with behind_tls(node.port, *authority.issue("valkey")) as port:
            yield node, port
    finally:
        node.stop()


def trusting(authority: Authority, port: int) -> Settings:
    """Settings for a server of the authority's."""
    return Settings(redis_url=f"rediss://127.0.0.1:{port}/0", redis_ssl_ca=str(authority.ca))


def test_tls_with_a_user(secured: tuple[Node, int], authority: Authority, stranger: Authority) -> None:
    node, port = secured
    rights = "on >secret ~ohlcv:* ~barwright:* &barwright:* +@all -@admin"
    with node.client() as client:
        client.execute_command("ACL", "SETUSER", "barwright", *rights.split())
        client.execute_command("ACL", "SETUSER", "default", "off")
    given = {"redis_url": f"rediss://barwright:secret@127.0.0.1:{port}/0", "redis_ssl_ca": str(authority.ca)}
    used(Settings(**given))
    used(Settings(**{**given, "redis_url": f"rediss://barwright@127.0.0.1:{port}", "redis_password": "secret"}))
    for wrong in (
        {"redis_ssl_ca": str(stranger.ca)},
        {"redis_url": f"rediss://barwright:wrong@127.0.0.1:{port}"},
        {"redis_url": f"redis://barwright:secret@127.0.0.1:{port}", "redis_ssl_ca": ""},
    ):
        assert not asyncio.run(_answers(Settings(**{**given, **wrong})))


def test_a_handshake_that_takes_longer_than_an_operation_is_waited_for(
    secured: tuple[Node, int], authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = RedisSSLContext.get

    def slowly(self: RedisSSLContext) -> ssl.SSLContext:
        time.sleep(2 * TIMEOUT)  # as on a busy machine, which reads the system's authorities first
        return read(self)

    monkeypatch.setattr(RedisSSLContext, "get", slowly)
    used(trusting(authority, secured[1]))


def test_who_listens_by_tls_leaves_no_connection_open(secured: tuple[Node, int], authority: Authority) -> None:
    async def listen() -> None:
        news = News(trusting(authority, secured[1]), lambda _: listening.cancel())
        listening = asyncio.create_task(news.run())
        with suppress(asyncio.CancelledError):
            await listening

    asyncio.run(listen())
    gc.collect()  # one that is open warns, and a warning fails a test


# What is left is open still when the loop ends.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("kind", ["rediss", "rediss+cluster"])
def test_a_server_by_tls_that_stands_still_is_a_miss_and_is_left(
    kind: str, tmp_path: Path, authority: Authority
) -> None:
    stalling = Proxy(lambda: port)
    node = Node(tmp_path, *(clustered(stalling.port) if "cluster" in kind else ()))
    node.start()

    async def run() -> None:
        given = trusting(authority, stalling.port)
        clients = Clients(given.model_copy(update={"redis_url": given.redis_url.replace("rediss", kind)}))
        await _again(5, lambda: clients._pages("BEFORE"))
        stalling.stall()
        for _ in range(3):
            async with asyncio.timeout(CONNECT):  # nobody waits for its goodbye
                assert await clients.shared.get(["ohlcv:one", "ohlcv:two"]) == [None, None]
        await clients.shared.close()

    try:
        if "cluster" in kind:
            alone(node)
        with behind_tls(node.port, *authority.issue("valkey")) as port:
            asyncio.run(run())
    finally:
        stalling.close()
        node.stop()


async def _answers(settings: Settings) -> bool:
    """Whether a server answers. What is refused a password by TLS takes its leave while the loop runs."""
    this = psutil.Process()
    files = this.num_fds()
    shared = Shared(settings)
    try:
        return await shared.ping()
    finally:
        await shared.close()
        async with asyncio.timeout(10):
            while this.num_fds() > files:
                await asyncio.sleep(0.01)
