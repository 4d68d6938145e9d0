"""CryptoCompare's REST calls: one page of rows, or the reason why there is none. Numbers keep their digits."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx
import msgspec
import structlog
import tenacity

from barwright import markets
from barwright.errors import BarwrightError
from barwright.ingest.feed.breaker import Breaker
from barwright.ingest.feed.limits import Limiter, retry_after
from barwright.ingest.feed.rows import Row, check_order, row_of
from barwright.ingest.feed.source import MarketError, RateLimitedError, UnavailableError

log = structlog.get_logger()
PATHS: Final = {"1m": "histominute", "1h": "histohour", "1d": "histoday"}
MOST: Final = 2_000  # rows of one answer, not counting the one that is open
ANSWER: Final = 8 * 1024 * 1024  # bytes; 2,001 rows are about 0.4 MB
TIMEOUT: Final = httpx.Timeout(20.0, connect=5.0)
DEADLINE: Final = 40.0  # seconds for a whole answer, however slowly it drips
LIMITED: Final = 20  # attempts of a call that is told to wait each time
RATE_LIMITED: Final = "99"


class RefusalError(BarwrightError):
    """The vendor answers, and says that it has nothing of what was asked."""


@dataclass(frozen=True)
class Page:
    """Rows as they came, oldest first, and the vendor's clock (seconds since 1970) when it answered."""

    rows: list[Row]
    now: float


class _Envelope(msgspec.Struct):
    response: str = msgspec.field(name="Response", default="")
    message: str = msgspec.field(name="Message", default="")
    type: Any = msgspec.field(name="Type", default=None)
    limits: Any = msgspec.field(name="RateLimit", default=None)
    error: Any = msgspec.field(name="Err", default=None)
    data: msgspec.Raw = msgspec.field(name="Data", default_factory=msgspec.Raw)


class _Row(msgspec.Struct):
    time: int
    open: msgspec.Raw
    high: msgspec.Raw
    low: msgspec.Raw
    close: msgspec.Raw
    volumefrom: msgspec.Raw
    # Not `Raw | None`: msgspec takes nothing but null for that.
    volumeto: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))


class _Nested(msgspec.Struct):
    rows: list[_Row] = msgspec.field(name="Data", default_factory=list)


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
# v2 nests the rows, v1 does not.
_ROWS: Final = msgspec.json.Decoder(list[_Row] | _Nested, strict=False)
_ERRORS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)


class Rest:
    """The client. `pause`: seconds before the first of its retries, which grow from there."""

    def __init__(self, name: str, url: str, key: str, breaker: Breaker, pause: float = 0.5, attempts: int = 4) -> None:
        self.name, self.url, self.pause, self.attempts = name, url.rstrip("/"), pause, attempts
        self.limiter, self.breaker = Limiter(), breaker
        # A header, not a parameter: addresses stand in logs.
        self._headers = {"authorization": f"Apikey {key}"} if key else {}
        self._client: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def page(self, market: str, interval: str, limit: int, to: int | None = None) -> Page:
        """Up to limit + 1 rows, the last of them of the bucket that holds `to` (seconds), or of the open one.

        Raises RefusalError where the vendor has none, UnavailableError, MarketError.
        """
        try:
            pair = markets.parse(market)
        except BarwrightError as error:
            raise MarketError(error.message, error.hint) from error
        names = {"fsym": pair.base, "tsym": pair.quote, "e": pair.exchange, "limit": str(min(limit, MOST))}
        if to is not None:
            names["toTs"] = str(to)
        patience = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_is_transient),
            wait=tenacity.wait_random_exponential(multiplier=self.pause, max=8),
            stop=self._is_enough,
            before_sleep=self._say,
            reraise=True,
        )
        return await patience(self._ask, interval, names)

    async def close(self) -> None:
        """Give up its connections."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    async def _ask(self, interval: str, names: dict[str, str]) -> Page:
        """One call. Waiting for one's turn is no part of it, and a refusal no failure."""
        with self.breaker.call():
            await self.limiter.passage()
            sent = time.time()
            response, body = await self._get(f"{self.url}/data/v2/{PATHS[interval]}", names)
            now = _clock(response, sent)
            return Page(self._rows(response, body, now, interval), now)

    async def _get(self, url: str, names: dict[str, str]) -> tuple[httpx.Response, bytes]:
        """The answer and its body, whatever its status. Raises UnavailableError."""
        body = bytearray()
        try:
            async with asyncio.timeout(DEADLINE), self._http().stream("GET", url, params=names) as response:
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) > ANSWER:
                        raise UnavailableError(f"{self.name} answers with more than {ANSWER:,} bytes.")
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            why = str(error) or type(error).__name__
            raise UnavailableError(f"{self.name} cannot be reached: {why}.") from error
        return response, bytes(body)

    def _http(self) -> httpx.AsyncClient:
        """The client of the running loop."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._client, self._loop = httpx.AsyncClient(timeout=TIMEOUT, headers=self._headers), loop
        return self._client

    def _rows(self, response: httpx.Response, body: bytes, now: float, interval: str) -> list[Row]:
        status = response.status_code
        again = retry_after(response.headers.get("retry-after"), now)
        if status >= 500:
            raise UnavailableError(f"{self.name} answers {status}.", retry_after=again)
        try:
            said = _ENVELOPE.decode(body)
        except _ERRORS as error:
            if status == 429:
                raise self._limited({}, now, again) from error
            raise UnavailableError(f"{self.name} answers {status} with what is no answer: {_start(body)}.") from error
        limits = said.limits if isinstance(said.limits, dict) else {}
        if status == 429 or str(said.type) == RATE_LIMITED:
            raise self._limited(limits, now, again)
        self.limiter.learn(limits, now)
        self._demand_success(status, said)
        return _parsed(bytes(said.data), self.name, interval)

    def _demand_success(self, status: int, said: _Envelope) -> None:
        message = said.message or (said.error.get("message", "") if isinstance(said.error, dict) else "")
        if status in (401, 403):
            raise ForbiddenError(f"{self.name} answers {status}: {message:.200}", retry_after=300.0)
        if said.response == "Error" or status >= 400 or (said.error and not said.data):
            raise RefusalError(f"{self.name}: {message or f'status {status}':.200}")

    def _limited(self, limits: dict[str, Any], now: float, again: float | None) -> RateLimitedError:
        """Close the gate until the window turns, for a second where nothing is said."""
        before = self.limiter.left
        self.limiter.learn(limits, now)
        self.limiter.hold(max(again or 0.0, 0.0 if self.limiter.left > before else 1.0))
        wait = self.limiter.left
        log.warning("rate limited", source=self.name, seconds=round(wait, 1))
        return RateLimitedError(f"{self.name} is asked too often.", retry_after=wait)

    def _is_enough(self, state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        return state.attempt_number >= (LIMITED if isinstance(error, RateLimitedError) else self.attempts)

    def _say(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.info("asks again", source=self.name, attempt=state.attempt_number, error=str(error))


class ForbiddenError(UnavailableError):
    """The key is missing or not enough: another try will not help, but another day may."""


def _is_transient(error: BaseException) -> bool:
    """Whether to ask again soon. An open circuit and a far-off window (both say when) are the caller's to wait for."""
    if isinstance(error, RateLimitedError):
        return (error.retry_after or 0.0) <= 70
    return isinstance(error, UnavailableError) and not isinstance(error, ForbiddenError) and error.retry_after is None


def _parsed(data: bytes, name: str, interval: str) -> list[Row]:
    """The rows of `Data`. Raises UnavailableError where they are none."""
    try:
        found = _ROWS.decode(data)
    except _ERRORS as error:
        raise UnavailableError(f"{name}: no rows: {error}.") from error
    rows = found if isinstance(found, list) else found.rows
    return check_order([_row(row) for row in rows], interval)


def _row(row: _Row) -> Row:
    open_, high, low, close, volume = map(_text, (row.open, row.high, row.low, row.close, row.volumefrom))
    quote = None if bytes(row.volumeto) == b"null" else _text(row.volumeto)
    return row_of(row.time, open_, high, low, close, volume, quote)


def _text(raw: msgspec.Raw) -> str:
    """The digits of a number, or of a number written as a string."""
    return bytes(raw).decode("ascii", "replace").strip('"')


def _clock(response: httpx.Response, sent: float) -> float:
    """The vendor's clock: its Date, else ours from before it was asked."""
    try:
        return parsedate_to_datetime(response.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return sent


def _start(body: bytes) -> str:
    return repr(body[:80].decode(errors="backslashreplace"))
