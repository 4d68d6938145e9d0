"""gzip for clients that ask, of answers that nobody has compressed yet."""

import asyncio
import re
import zlib
from typing import Any

from litestar.types import Message, Send

LEAST = 860  # bytes: below a packet's worth nothing is saved
INLINE = 64 * 1024  # bytes: level 1 takes 0.5 ms for as many; more go to a thread
LEVEL = 1  # of JSON bars it leaves 23 %, level 6 18 % at four times the time
GZIP = 31  # zlib's word for a gzip header around 15 bits of window
# Parquet is compressed already; an event stream must leave at once, whatever is in it.
_TYPES = re.compile(rb"text/(?!event-stream)|application/([\w.+-]*json|vnd\.apache\.arrow\.stream)|image/svg", re.I)
_REFUSED = re.compile(rb"gzip\s*;\s*q=0(\.0*)?\s*(,|$)", re.I)


def asked(accept_encoding: bytes) -> bool:
    """Whether a client takes gzip."""
    return b"gzip" in accept_encoding and not _REFUSED.search(accept_encoding)


def gzipping(send: Send) -> Send:
    """Compress what is sent, where that is worth it."""
    return _Gzip(send)


class _Gzip:
    """The messages of one answer."""

    __slots__ = ("compressor", "send", "start")

    def __init__(self, send: Send) -> None:
        self.send = send
        self.start: Any = None  # held back until the first body tells whether there is more
        self.compressor: Any = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if not _compressible(message):
                await self.send(message)
                return
            self.start = message
            return
        if message["type"] != "http.response.body" or (self.start is None and self.compressor is None):
            await self.send(message)
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self.start is not None and not await self._begin(len(body), more):
            await self.send(message)
            return
        await self.send({"type": "http.response.body", "body": await self._packed(body, more), "more_body": more})

    async def _begin(self, size: int, more: bool) -> bool:
        """Send the start; whether bodies are compressed. The length of a whole answer is left to chunks."""
        start, self.start = self.start, None
        if more or size >= LEAST:
            start["headers"] = [_changed(name, value) for name, value in start["headers"] if name != b"content-length"]
            start["headers"] += [(b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding")]
            self.compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
        await self.send(start)
        return self.compressor is not None

    async def _packed(self, body: bytes, more: bool) -> bytes:
        def pack() -> bytes:
            packed = self.compressor.compress(body)
            return bytes(packed + self.compressor.flush(zlib.Z_SYNC_FLUSH if more else zlib.Z_FINISH))

        return pack() if len(body) <= INLINE else await asyncio.to_thread(pack)


def _compressible(start: Any) -> bool:
    kind = b""
    for name, value in start["headers"]:
        if name == b"content-encoding":
            return False
        if name == b"content-type":
            kind = value
    return start["status"] not in (204, 304) and _TYPES.match(kind) is not None


def _changed(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Other bytes have another strong ETag."""
    if name == b"etag" and value.endswith(b'"') and not value.startswith(b"W/"):
        return name, value[:-1] + b'-gzip"'
    return name, value
