"""A TCP proxy that cuts, slows and stalls what goes through it; it stands before a server of the tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from barwright.embedded.ports import LOOPBACK, free_port

PIECE = 65_536
Result = TypeVar("Result")


class Proxy:
    """Listens on `port` and passes on to whatever port `target` names when a client connects; a thread of its own."""

    def __init__(self, target: Callable[[], int]) -> None:
        self.target, self.port = target, free_port()
        self.delay = 0.0
        self.swallows = False
        self._links: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._flows.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, LOOPBACK, self.port))

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
        self._loop.call_soon_threadsafe(self._server.close)
        self.cut()
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

    async def _cut(self) -> int:
        links, self._links = self._links, set()
        for writer in links:
            writer.transport.abort()
        return len(links) // 2

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self.target())
        except OSError:
            writer.transport.abort()
            return
        both = {writer, far_writer}
        self._links |= both
        with suppress(OSError, asyncio.CancelledError):
            pumps = [asyncio.ensure_future(self._pump(reader, far_writer, False)),
                     asyncio.ensure_future(self._pump(far_reader, writer, True))]  # fmt: skip
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        self._links -= both
        for one in both:
            one.close()

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
