"""CryptoCompare's streamer: one live connection of all markets, and its events in their order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import quote

import structlog
import websockets
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, InvalidStatus

from barwright.ingest.feed.cryptocompare_socket import BACKOFF, Socket
from barwright.ingest.feed.limits import retry_after
from barwright.ingest.feed.outbox import Outbox
from barwright.ingest.feed.roster import FullError
from barwright.ingest.feed.sequence import Tail
from barwright.ingest.feed.source import (
    Alive,
    Event,
    Market,
    RateLimitedError,
    SourceError,
    Subscriptions,
    UnavailableError,
    Unsubscribed,
)

log = structlog.get_logger()
# The library writes addresses, and so the key, to its log of details.
_QUIET: Final = logging.getLogger("barwright.websockets")
_QUIET.setLevel(logging.WARNING)
FRAME: Final = 4 * 1024 * 1024  # bytes of one frame at most
OPENING: Final = 10.0  # seconds to connect
# Seconds: least time between two Alive; how often is looked for silence and holes; how long a refused market or a
# refused second socket is left alone.
BEAT: Final = 0.1
LOOK: Final = 0.05
AGAIN: Final = 60.0


class Streamer:
    """Opens live connections to one address."""

    def __init__(self, name: str, url: str, key: str, heartbeat: float, reconnect: float) -> None:
        self.name, self.url, self.key, self.heartbeat, self.reconnect = name, url, key, heartbeat, reconnect
        # Where the numbers of each market ended with the connection before.
        self.tails: dict[str, Tail] = {}

    async def live(self, subscriptions: Subscriptions) -> AsyncIterator[Event]:
        """See Source.live."""
        live = _Live(self, subscriptions)
        try:
            async for event in live.events():
                yield event
        finally:
            await live.close()


class _Live:
    """One life: its sockets share an outbox. More than one only where the server allows no more on the first."""

    def __init__(self, streamer: Streamer, subscriptions: Subscriptions) -> None:
        self.streamer, self.subscriptions = streamer, subscriptions
        self.outbox = Outbox()
        self.sockets: list[Socket] = []
        self._beat_at, self._told = 0.0, 0
        self._open_at = 0.0
        self._opening: asyncio.Task[Socket] | None = None

    async def events(self) -> AsyncIterator[Event]:
        """Events as they come. Raises SourceError at the end."""
        loop = asyncio.get_running_loop()
        self.sockets.append(await self._open())
        wanted: frozenset[Market] | None = None
        while True:
            if wanted != self.subscriptions.wanted or any(socket.roster.has_news for socket in self.sockets):
                wanted = self.subscriptions.wanted
                await self._arrange(wanted)
            self._look(loop.time())
            for event in self.outbox.taken():
                yield event
            if alive := self._alive(loop.time()):
                yield alive
            if self.outbox.failure and not self.outbox.events:
                raise self.outbox.failure
            await self._news()

    async def close(self) -> None:
        """Leave nothing open."""
        if self._opening:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        for socket in self.sockets:
            await socket.close()

    async def _news(self) -> None:
        """Wait for frames, a change of what is wanted, or the time to look."""
        waits = [asyncio.ensure_future(self.outbox.news()), asyncio.ensure_future(self.subscriptions.changed())]
        try:
            await asyncio.wait(waits, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _open(self) -> Socket:
        return await connected(self.streamer, self.outbox)

    async def _arrange(self, wanted: frozenset[Market]) -> None:
        """Spread what is wanted over the sockets: what one has stays there, the rest goes where there is room."""
        left = set(wanted)
        for socket in self.sockets:
            kept = {market for market in left if market.name in socket.roster.names}
            left -= kept
            gone = await socket.keep(kept)
            if gone:
                self.outbox.put(Unsubscribed(frozenset(gone)))
        for market in sorted(left, key=lambda market: market.name):
            for socket in self.sockets:
                try:
                    socket.add(market)
                except FullError:
                    continue
                left.discard(market)
                break
        for socket in self.sockets:
            await socket.ask()
        if left:
            self._open_another(len(left))

    def _open_another(self, count: int) -> None:
        """Open one socket more, in the background: the markets of the others go on meanwhile, whatever comes of it."""
        now = asyncio.get_running_loop().time()
        if self._opening is None and now >= self._open_at:
            log.info("opens another socket", source=self.streamer.name, markets=count)
            self._open_at = now + AGAIN
            self._opening = asyncio.ensure_future(self._open())

    def _look(self, now: float) -> None:
        """Silence, refused markets to be tried again, holes, and the other socket."""
        for socket in self.sockets:
            socket.look(now, AGAIN)
        if self._opening is not None and self._opening.done():
            task, self._opening = self._opening, None
            if isinstance(error := task.exception(), SourceError):
                log.warning("no other socket", source=self.streamer.name, error=str(error))
            elif error:
                raise error
            else:
                self.sockets.append(task.result())
                self.sockets[-1].roster.has_news = True

    def _alive(self, now: float) -> Alive | None:
        """What all sockets have reached; not for the ones that follow nothing yet."""
        reached = [socket.reached for socket in self.sockets if socket.roster.names or socket is self.sockets[0]]
        at = min(reached)
        if at <= self._told or now < self._beat_at:
            return None
        self._beat_at, self._told = now + BEAT, at
        return Alive(at)


async def connected(streamer: Streamer, outbox: Outbox) -> Socket:
    """An open socket, that reads. Raises SourceError."""
    name, url, key, reconnect = streamer.name, streamer.url, streamer.key, streamer.reconnect
    address = f"{url}{'&' if '?' in url else '?'}api_key={quote(key)}" if key else url
    try:
        connection = await connect(
            address,
            open_timeout=OPENING,
            close_timeout=1,
            max_size=FRAME,
            compression=None,
            # Silence is found by the heartbeats; the server's own pings are answered by the library.
            ping_interval=None,
            logger=_QUIET,
        )
    except InvalidStatus as error:
        raise _refused(name, error.response, reconnect) from None
    except (OSError, TimeoutError, InvalidHandshake, websockets.InvalidURI, EOFError) as error:
        # Without what the library says of an address: it may hold the key.
        why = str(error) if isinstance(error, OSError) else type(error).__name__
        raise UnavailableError(f"{name}'s streamer cannot be reached: {why}.") from None
    return Socket(name, connection, streamer.heartbeat, reconnect, outbox, streamer.tails)


def _refused(name: str, response: websockets.Response, reconnect: float) -> UnavailableError:
    again = retry_after(response.headers.get("retry-after"), time.time())
    message = f"{name}'s streamer answers {response.status_code}."
    if response.status_code == 429:
        return RateLimitedError(message, retry_after=again or BACKOFF * reconnect)
    if response.status_code in (401, 403):
        return UnavailableError(message, retry_after=again or 300.0)
    return UnavailableError(message, retry_after=again)
