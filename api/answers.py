"""Ready answers by query string: the poll of a chart costs one lookup."""

import asyncio
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from litestar.response.base import ASGIResponse

from barwright.api.access.compress import GZIP, INLINE, LEAST, LEVEL
from barwright.api.blocks import Block
from barwright.api.body import Answer
from barwright.api.coverage import Summary

MOST_BYTES = 64 * 2**20  # of ready answers
JSON = "application/json"
NO_CACHE = "no-cache"
FOR_EVER = "max-age=31536000, immutable"


@dataclass(slots=True)
class Ready:
    """An answer with its response, good while what it rests on is alive and tracked and until a monotonic time. `cost`:
    the bars it was asked for."""

    response: ASGIResponse
    body: bytes
    etag: str
    caching: str
    rests: tuple[Block | Summary, ...]
    until: float
    cost: int = 0
    zipped: ASGIResponse | None = field(default=None)

    @property
    def size(self) -> int:
        """The bytes it takes, about, the compressed ones included."""
        return len(self.body) * 5 // 4 + 1000

    @property
    def packs(self) -> bool:
        """Whether it is worth compressing."""
        return len(self.body) >= LEAST

    def good(self) -> bool:
        """Whether it may still be sent."""
        return time.monotonic() < self.until and all(part.alive and part.tracked for part in self.rests)

    async def packed(self) -> ASGIResponse:
        """The response compressed, once for all who ask; small ones are not worth it."""
        if self.zipped is None:
            if not self.packs:
                return self.response
            body = _pack(self.body) if len(self.body) <= INLINE else await asyncio.to_thread(_pack, self.body)
            headers = _headers(packed(self.etag), self.caching) | {"content-encoding": "gzip"}
            self.zipped = ASGIResponse(body=body, media_type=JSON, headers=headers)
        return self.zipped


class Answers:
    """The ready answers of one route, the most recently used last."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self.most = most
        self.size = 0
        self.ready: OrderedDict[bytes, Ready] = OrderedDict()

    def get(self, name: bytes) -> Ready | None:
        """A ready answer that is still good."""
        found = self.ready.get(name)
        if found is None:
            return None
        if found.good():
            self.ready.move_to_end(name)
            return found
        self._drop(name)
        return None

    def put(self, name: bytes, answer: Answer, cost: int = 0, caching: str = NO_CACHE) -> Ready:
        """Make an answer ready, and keep it where that is worth it."""
        ready = prepare(answer, cost, caching)
        if answer.rests is not None and ready.good():
            if name in self.ready:
                self._drop(name)
            self.ready[name] = ready
            self.size += ready.size
            while self.size > self.most:
                self._drop(next(iter(self.ready)))
        return ready

    def _drop(self, name: bytes) -> None:
        self.size -= self.ready.pop(name).size


def prepare(answer: Answer, cost: int = 0, caching: str = NO_CACHE) -> Ready:
    """An answer with its response, which may be sent many times."""
    response = ASGIResponse(body=answer.body, media_type=JSON, headers=_headers(answer.etag, caching))
    until = time.monotonic() + answer.lasts
    return Ready(response, answer.body, answer.etag, caching, answer.rests or (), until, cost)


def unchanged(headers: Iterable[tuple[bytes, bytes]], etag: str) -> bool:
    """Whether If-None-Match names this ETag, or that of the same answer compressed."""
    for name, value in headers:
        if name == b"if-none-match":
            tags = [tag.strip().removeprefix("W/") for tag in value.decode("latin-1").replace('-gzip"', '"').split(",")]
            return etag in tags or "*" in tags
    return False


def not_modified(etag: str, caching: str = NO_CACHE) -> ASGIResponse:
    """304."""
    return ASGIResponse(status_code=304, headers=_headers(etag, caching))


def packed(etag: str) -> str:
    """The ETag of the same answer compressed: other bytes have another one."""
    return f'{etag[:-1]}-gzip"'


def _headers(etag: str, caching: str) -> dict[str, str]:
    return {"etag": etag, "cache-control": caching, "vary": "Accept, Accept-Encoding, Origin"}


def _pack(body: bytes) -> bytes:
    """As the shell compresses what is sent once: one answer has one form under one ETag."""
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
    return compressor.compress(body) + compressor.flush()
