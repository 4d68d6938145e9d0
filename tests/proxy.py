"""A TCP proxy that cuts, slows and stalls what goes through it; it stands before a server of the tests."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from barwright.embedded.ports import LOOPBACK, free_port

PIECE = 65_536
HELLO = 2.0  # seconds in which a client by TLS must have said hello
TURN = 0.01  # seconds in which the loop does what is due
Result = TypeVar("Result")


class Proxy:
    """Listens on `port`, by TLS where it is given, and passes on to whatever port `target` names when a client
    connects; a thread of its own."""

    def __init__(self, target: Callable[[], int], tls: ssl.SSLContext | None = None) -> None:
        self.target, self.port = target, free_port()
        self.delay = 0.0
        self.swallows = False
        self._links: dict[asyncio.StreamWriter, asyncio.StreamWriter | None] = {}  # those to clients and to the server
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._flows.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        hello = HELLO if tls else None
        listening = asyncio.start_server(self._serve, LOOPBACK, self.port, ssl=tls, ssl_handshake_timeout=hello)
        self._server = self._do(listening)

    def cut(self) -> int:
        """Reset every connection; returns how many there were."""
        return self._do(self._cut())

    def stall(self) -> None:
        """Nothing gets through, either way, until `heal`; then everything does."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def half_open(self) -> None:
        """What the server says is lost from now on, while its clients still reach it; `heal` resets what is open."""
        self.swallows = True

    def heal(self) -> None:
        """All is well again. A connection of which bytes were lost is of no use: it is reset."""
        self._do(self._heal())

    def close(self) -> None:
        """Cut all, listen no more."""
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _heal(self) -> None:
        # In one piece: no byte passes between the cut and the end of the loss.
        if self.swallows:
            await self._cut()
        self.swallows, self.delay = False, 0.0
        self._flows.set()

    async def _end(self) -> None:
        """Nothing is cancelled: a task that never took its first step would forget its socket, which then fails
        whatever test runs when it is collected. For the same reason those that were accepted are heard first."""
        await asyncio.sleep(TURN)
        self._server.close()
        self._flows.set()
        while self._links or len(asyncio.all_tasks()) > 1:
            await self._cut()
            await asyncio.sleep(TURN)

    async def _cut(self) -> int:
        links, self._links = self._links, {}
        for near, far in links.items():
            near.transport.abort()
            if far is not None:
                far.transport.abort()
        return len(links)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._links[writer] = None
        try:
            far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self.target())
        except OSError:
            self._links.pop(writer, None)
            writer.transport.abort()
            return
        if writer not in self._links:  # cut meanwhile
            far_writer.transport.abort()
            return
        self._links[writer] = far_writer
        pumps = [asyncio.ensure_future(self._pump(reader, far_writer, False)),
                 asyncio.ensure_future(self._pump(far_reader, writer, True))]  # fmt: skip
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        self._links.pop(writer, None)
        writer.close()
        far_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(PIECE):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._flows.wait()
                if self.swallows and back:
                    continue
                writer.write(data)
                await writer.drain()
