"""Ready answers by query string: the poll of a chart costs one lookup."""

import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from litestar.response.base import ASGIResponse

from barwright.api.bars import Answer
from barwright.api.blocks import Block
from barwright.api.coverage import Summary

MOST_BYTES = 64 * 2**20  # of ready answers
JSON = "application/json"


@dataclass(slots=True)
class Ready:
    """An answer with its response, good while what it rests on is alive and tracked and until a monotonic time."""

    response: ASGIResponse
    etag: str
    rests: tuple[Block | Summary, ...]
    until: float
    size: int

    def good(self) -> bool:
        """Whether it may still be sent."""
        return time.monotonic() < self.until and all(part.alive and part.tracked for part in self.rests)


class Answers:
    """The ready answers of one route, the most recently used last."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self.most = most
        self.size = 0
        self.ready: OrderedDict[bytes, Ready] = OrderedDict()

    def get(self, query_string: bytes) -> Ready | None:
        """A ready answer that is still good."""
        found = self.ready.get(query_string)
        if found is None:
            return None
        if found.good():
            self.ready.move_to_end(query_string)
            return found
        self._drop(query_string)
        return None

    def put(self, query_string: bytes, answer: Answer) -> Ready:
        """Make an answer ready, and keep it where that is worth it."""
        rests, until = answer.rests or (), time.monotonic() + answer.lasts
        ready = Ready(respond(answer), answer.etag, rests, until, len(answer.body) + 500)
        if answer.rests is not None and ready.good():
            if query_string in self.ready:
                self._drop(query_string)
            self.ready[query_string] = ready
            self.size += ready.size
            while self.size > self.most:
                self._drop(next(iter(self.ready)))
        return ready

    def _drop(self, query_string: bytes) -> None:
        self.size -= self.ready.pop(query_string).size


def respond(answer: Answer) -> ASGIResponse:
    """The response with a whole answer; it may be sent many times."""
    headers = {"etag": answer.etag, "cache-control": "no-cache"}
    return ASGIResponse(body=answer.body, media_type=JSON, headers=headers)


def unchanged(headers: Iterable[tuple[bytes, bytes]], etag: str) -> bool:
    """Whether If-None-Match names this ETag, or that of the same answer compressed."""
    for name, value in headers:
        if name == b"if-none-match":
            tags = [tag.strip().removeprefix("W/") for tag in value.decode("latin-1").replace('-gzip"', '"').split(",")]
            return etag in tags or "*" in tags
    return False


def not_modified(etag: str) -> ASGIResponse:
    """304."""
    return ASGIResponse(status_code=304, headers={"etag": etag, "cache-control": "no-cache"})
