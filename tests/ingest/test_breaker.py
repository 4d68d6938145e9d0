"""The circuit breaker and the rate limits of a source."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import pytest

from barwright.ingest.feed.breaker import Breaker
from barwright.ingest.feed.limits import Limiter, retry_after, wait_of
from barwright.ingest.feed.source import MarketError, RateLimitedError, UnavailableError

NOW = 1_750_000_000.5  # 15:06:40 UTC


class Clocked:
    """A breaker whose clock a test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.breaker = Breaker("x", limit=3, pause=10, longest=30, clock=lambda: self.now)

    def fail(self, error: BaseException) -> None:
        with suppress(type(error)), self.breaker.call():
            raise error

    def open(self) -> None:
        for _ in range(3):
            self.fail(UnavailableError("no"))

    def left(self) -> float | None:
        """How long it refuses; None where it lets a call through."""
        try:
            with self.breaker.call():
                return None
        except UnavailableError as error:
            return error.retry_after


def test_it_opens_after_failures_in_a_row_and_one_probe_closes_it() -> None:
    it = Clocked()
    it.fail(UnavailableError("no"))
    it.fail(UnavailableError("no"))
    assert it.left() is None
    it.open()
    assert it.left() == 10
    it.now = 4
    assert it.left() == 6
    it.now = 10
    with it.breaker.call():
        # Half open: while one probes, the others are refused.
        assert it.left() == 1
    assert it.left() is None
    assert not it.breaker.is_open


def test_a_probe_that_fails_opens_it_for_longer() -> None:
    it = Clocked()
    it.open()
    for pause in (20, 30, 30):
        it.now += it.left() or 0
        it.fail(UnavailableError("no"))
        assert it.left() == pause


def test_a_probe_that_is_cancelled_says_nothing() -> None:
    it = Clocked()
    it.open()
    it.now = 10
    it.fail(asyncio.CancelledError())
    assert it.breaker.is_open
    assert it.left() is None


def test_what_was_answered_is_no_outage() -> None:
    it = Clocked()
    for error in (
        UnavailableError("no"),
        UnavailableError("no"),
        MarketError("unknown"),
        RateLimitedError("slowly"),
    ) * 3:
        it.fail(error)
    assert not it.breaker.is_open


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ({}, 0),
        ({"calls_made": {"second": 49}, "max_calls": {"second": 50}}, 0),
        ({"calls_made": {"second": 50}, "max_calls": {"second": 50}}, 0.5),
        ({"calls_made": {"second": "50", "minute": "300"}, "max_calls": {"second": "50", "minute": "300"}}, 19.5),
        ({"calls_left": {"second": 3, "minute": 1, "hour": 0, "day": 9}}, 3_600 - 6 * 60 - 40.5),
        ({"calls_left": {"month": -1}}, 16 * 86_400 - 15 * 3_600 - 6 * 60 - 40.5),
        ({"calls_left": "none", "max_calls": [], "calls_made": {"second": "x"}}, 0),
    ],
)
def test_the_longest_window_that_is_used_up_counts(said: dict[str, Any], seconds: float) -> None:
    assert wait_of(said, NOW) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7),
        ("Sun, 15 Jun 2025 15:06:50 GMT", 9.5),
        ("Sun, 15 Jun 2025 15:06:30 GMT", 0),
        ("soon", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds


def test_all_wait_for_the_gate_and_keep_the_pace() -> None:
    async def pass_through() -> float:
        limiter = Limiter(longest=5)
        limiter.learn({"max_calls": {"second": 20}}, NOW)
        limiter.hold(0.3)
        begin = time.monotonic()
        await asyncio.gather(*(limiter.passage() for _ in range(6)))
        taken = time.monotonic() - begin
        limiter.hold(60)
        with pytest.raises(RateLimitedError) as caught:
            await limiter.passage()
        assert caught.value.retry_after == pytest.approx(60, abs=1)
        return taken

    assert 0.3 + 5 * 0.05 <= asyncio.run(pass_through()) < 2
