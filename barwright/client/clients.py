"""The two clients: one that waits, one for asyncio."""

import asyncio
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec

from barwright.client.address import address, is_local, stream_address
from barwright.client.asking import ARROW, Frame, Numbers, Symbols, Time, framed, query, several, table
from barwright.client.errors import ConnectionFailedError, UnavailableError, refusal
from barwright.client.following import SILENCE, Bar, Following, following

Bars = Generator[Bar, None, None]
AsyncBars = AsyncGenerator[Bar, None]
TIMEOUT = httpx.Timeout(30, connect=5)


class _Base:
    """Where the server is, and with which key."""

    def __init__(self, url: str | None = None, key: str | None = None) -> None:
        self.url = address(url)
        self.headers = {"authorization": f"Bearer {key}"} if key else {}
        self.options: dict[str, Any] = {
            "base_url": self.url, "headers": self.headers, "timeout": TIMEOUT, "trust_env": not is_local(self.url),
        }  # fmt: skip

    def _socket(self) -> dict[str, Any]:
        """How the stream is connected to."""
        proxy: bool | None = None if is_local(self.url) else True
        return {"uri": stream_address(self.url), "additional_headers": self.headers, "compression": None,
                "proxy": proxy, "max_size": 2**24, "open_timeout": 5, "close_timeout": 1}  # fmt: skip


class Client(_Base):
    """A client that waits for its answers.

    `url`: the server; without it BARWRIGHT_URL, the instance that `make run` started in this folder, or
    http://127.0.0.1:8000. `key`: an API key, where the server wants one. Every method raises ClientError.
    """

    def __init__(self, url: str | None = None, key: str | None = None) -> None:
        super().__init__(url, key)
        self.http = httpx.Client(**self.options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self.http.close()

    def bars(
        self, symbols: Symbols, interval: str, start: Time | None = None, end: Time | None = None, *,
        limit: int | None = None, order: str | None = None, fill: str | None = None, tz: str | None = None,
        session: str | None = None, frame: Frame = "arrow", numbers: Numbers | None = None,
    ) -> Any:  # fmt: skip
        """Bars of any length: buckets in [start, end); up to this second without `end`, from the first one without
        `start`.

        A pyarrow.Table with columns bucket (UTC), open, high, low, close, volume, quote_volume, vwap, trades,
        buy_volume, imported, closed, and symbol where several were asked for; or `frame="pandas"` (bucket is the index)
        or `"polars"`. Numbers are exact (decimal128) in a table, float64 in a frame, unless `numbers` says otherwise.
        """
        asked = query(symbols, interval, frame, numbers, start=start, end=end, limit=limit, order=order, fill=fill,
                      tz=tz, session=session)  # fmt: skip
        answer = self._get("/v1/bars", asked, ARROW)
        return framed(table(answer.content, answer.headers), frame)

    def latest(self, symbols: Symbols, interval: str = "1m") -> list[Bar]:
        """The newest bar of each symbol, open or closed; symbols without any are left out."""
        asked = {"symbol": ",".join(several(symbols)), "interval": interval}
        return _latest(self._get("/v1/bars/latest", asked).content)

    def symbols(self) -> list[dict[str, Any]]:
        """Every symbol, with what is known of it."""
        return _symbols(self._get("/v1/symbols").content)

    def stream(self, symbols: Symbols, interval: str, start: Time | None = None, **options: Any) -> Bars:
        """Bars from `start` on, then every change as it comes, for ever: see Bar. Without `start`, from the open bar
        on.

        After a cut it connects again and goes on where it was: nothing is missed. `options`: rate (most changes a
        second), ordered, tz, session. Ends only by an error that trying again does not mend.
        """
        return self._follow(following(symbols, interval, start, **options))

    def _follow(self, state: Following) -> Bars:
        while True:
            with closing(self._once(state)) as bars:
                yield from bars
            time.sleep(state.pause())

    def _once(self, state: Following) -> Bars:
        """The bars of one connection, until it breaks. AnswerError where the server refuses for good."""
        from websockets.exceptions import InvalidStatus, WebSocketException
        from websockets.sync.client import connect

        try:
            with connect(**self._socket()) as socket:
                for wish in state.subscriptions():
                    socket.send(wish)
                while True:
                    yield from state.take(socket.recv(SILENCE))
        except InvalidStatus as error:
            _refused(error)
        except (OSError, WebSocketException, UnavailableError):
            return

    def _get(
        self, path: str, params: dict[str, str] | None = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        try:
            answer = self.http.get(path, params=params, headers=headers)
        except httpx.HTTPError as error:
            raise _broken(self.url, error) from error
        return _checked(answer)


class AsyncClient(_Base):
    """The same for asyncio: `await client.bars(…)`, `async for bar in client.stream(…)`."""

    def __init__(self, url: str | None = None, key: str | None = None) -> None:
        super().__init__(url, key)
        self.http = httpx.AsyncClient(**self.options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connections."""
        await self.http.aclose()

    async def bars(
        self, symbols: Symbols, interval: str, start: Time | None = None, end: Time | None = None, *,
        limit: int | None = None, order: str | None = None, fill: str | None = None, tz: str | None = None,
        session: str | None = None, frame: Frame = "arrow", numbers: Numbers | None = None,
    ) -> Any:  # fmt: skip
        """As Client.bars."""
        asked = query(symbols, interval, frame, numbers, start=start, end=end, limit=limit, order=order, fill=fill,
                      tz=tz, session=session)  # fmt: skip
        answer = await self._get("/v1/bars", asked, ARROW)
        return framed(table(answer.content, answer.headers), frame)

    async def latest(self, symbols: Symbols, interval: str = "1m") -> list[Bar]:
        """As Client.latest."""
        asked = {"symbol": ",".join(several(symbols)), "interval": interval}
        return _latest((await self._get("/v1/bars/latest", asked)).content)

    async def symbols(self) -> list[dict[str, Any]]:
        """As Client.symbols."""
        return _symbols((await self._get("/v1/symbols")).content)

    def stream(self, symbols: Symbols, interval: str, start: Time | None = None, **options: Any) -> AsyncBars:
        """As Client.stream."""
        return self._follow(following(symbols, interval, start, **options))

    async def _follow(self, state: Following) -> AsyncBars:
        while True:
            async with aclosing(self._once(state)) as bars:
                async for bar in bars:
                    yield bar
            await asyncio.sleep(state.pause())

    async def _once(self, state: Following) -> AsyncBars:
        from websockets.asyncio.client import connect
        from websockets.exceptions import InvalidStatus, WebSocketException

        try:
            # Not `async for socket in connect()`: what it retries and how long is ours to say.
            async with connect(**self._socket()) as socket:
                for wish in state.subscriptions():
                    await socket.send(wish)
                while True:
                    async with asyncio.timeout(SILENCE):
                        text = await socket.recv()
                    for bar in state.take(text):
                        yield bar
        except InvalidStatus as error:
            _refused(error)
        except (OSError, WebSocketException, UnavailableError):
            return

    async def _get(
        self, path: str, params: dict[str, str] | None = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        try:
            answer = await self.http.get(path, params=params, headers=headers)
        except httpx.HTTPError as error:
            raise _broken(self.url, error) from error
        return _checked(answer)


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    raise refusal(answer.status_code, answer.content, answer.headers.get("retry-after"))


def _broken(url: str, error: httpx.HTTPError) -> ConnectionFailedError:
    return ConnectionFailedError(f"{url} cannot be reached: {error or type(error).__name__}.", "Is it running?")


def _refused(error: Any) -> None:
    """Raise what a handshake was refused with, where trying again does not help."""
    status = error.response.status_code
    if status < 500 and status not in (408, 429):
        raise refusal(status, error.response.body or b"") from error


class _Latest(msgspec.Struct):
    interval: str
    bars: list[Bar]


def _latest(body: bytes) -> list[Bar]:
    found = msgspec.json.decode(body, type=_Latest)
    return [msgspec.structs.replace(bar, interval=found.interval) for bar in found.bars]


def _symbols(body: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = msgspec.json.decode(body)["symbols"]
    return found
