"""Requests with `wait`: ask for what is missing, and answer when it has landed or the time is up."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from psycopg.types.range import TimestamptzRange

from barwright.api.bars import Answer, Bars
from barwright.api.body import together
from barwright.api.coverage import SECOND, Summary
from barwright.api.coverages import Coverages
from barwright.api.errors import ApiError, bad
from barwright.api.intervals import moment
from barwright.api.params import BarsQuery
from barwright.api.span import Window
from barwright.api.writer import Q, Writer
from barwright.machines.datastore import Datastore

PERIOD: Final = 0.1  # seconds between two looks at a symbol somebody waits for
MOST: Final = 1000  # requests that wait at the same time in one process
AWAY: Final = Summary("", "", 0, None, None, 0, False, False, {}, [], [])


@dataclass(slots=True)
class Watch:
    """Those who wait for one symbol, and the one task that looks for all of them."""

    waiters: dict[asyncio.Future[bool], Callable[[Summary], bool]] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None


class Waiting:
    """Everybody who waits in this process."""

    def __init__(self, bars: Bars, coverages: Coverages, writer: Writer) -> None:
        self.bars = bars
        self.coverages = coverages
        self.writer = writer
        self.watches: dict[str, Watch] = {}
        self.asks: dict[tuple[str, Window], asyncio.Task[None]] = {}
        self.count = 0
        self.stopping = False  # everybody is answered with what there is

    async def read(self, query: BarsQuery, gone: Callable[[], Awaitable[None]]) -> Answer | None:
        """The answer, once nothing of it is missing or the time is up; None when `gone` returns before, for then nobody
        is left to take it. ApiError 400, 404, 503."""
        if self.count >= MOST:
            raise ApiError(503, "too_many_waiting", f"{MOST} requests wait already.", "Ask without wait.",
                           headers={"Retry-After": "5"})  # fmt: skip
        for each in query.each():
            await self._demand_registered(each)
        self.count += 1
        leaving = asyncio.ensure_future(gone())
        reading = asyncio.create_task(self._read_all(query))
        try:
            await asyncio.wait({leaving, reading}, return_when=asyncio.FIRST_COMPLETED)
            return reading.result() if reading.done() else None
        finally:
            self.count -= 1
            for task in (leaving, reading):
                if not task.done():
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task

    async def close(self) -> None:
        """Look for nobody any more."""
        for watch in self.watches.values():
            if watch.task:
                watch.task.cancel()

    async def _demand_registered(self, query: BarsQuery) -> None:
        known = await self.coverages.of(query.symbol)
        if not known.registered and not (await self.coverages.fetch(query.symbol)).registered:
            raise bad("wait", str(query.wait), f"Nobody registered {query.symbol}, so there is nothing to wait for.",
                      hint=f"PUT /v1/symbols/{query.symbol} registers it, or ask without wait.")  # fmt: skip

    async def _read_all(self, query: BarsQuery) -> Answer:
        """The answer for every symbol, each as soon as nothing of it is missing."""
        parts = await asyncio.gather(*(self._read(each) for each in query.each()))
        return together(query, parts) if query.several else parts[0]

    async def _read(self, query: BarsQuery) -> Answer:
        """Read, ask, wait and read again, until nothing is missing or the time is up."""
        deadline = time.monotonic() + query.wait
        with Datastore(f"{query.symbol} {query.interval.name} {id(query):x}") as machine:
            machine.request()
            machine.query()
            while (answer := await self.bars.read(query)).complete is False:
                machine.missing()
                if time.monotonic() >= deadline:
                    break
                machine.ask()
                await self._ask(query.symbol, answer.span)
                machine.asked()
                if not await self._landed(query.symbol, answer.span, deadline):
                    machine.time_up()
                    answer = await self.bars.read(query)
                    break
                machine.fetched()
            else:
                machine.found()
            if machine.state != "returning_data":
                machine.give()
            machine.returned()
        return answer

    async def _ask(self, symbol: str, span: Window) -> None:
        """File tasks for what is missing of a span and nobody has asked for; once for all who ask at the same time."""
        flight = self.asks.get((symbol, span))
        if flight is None:
            flight = self.asks[symbol, span] = asyncio.create_task(self._file(symbol, span))
            flight.add_done_callback(lambda done: (self.asks.pop((symbol, span)), done.cancelled() or done.exception()))
        await asyncio.shield(flight)

    async def _file(self, symbol: str, span: Window) -> None:
        async with self.writer.transaction(told=False) as connection:
            within = TimestamptzRange(moment(span[0]), moment(span[1]))
            await connection.execute(Q["ask"], {"symbol": symbol, "span": within})

    async def _landed(self, symbol: str, span: Window, deadline: float) -> bool:
        """Whether what a source can give of a span now is there, and repaired into the bars, before the deadline."""
        lo, hi, now = span[0] * SECOND, span[1] * SECOND, int(self.bars.follower.clock() * SECOND)
        landed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        watch = self.watches.setdefault(symbol, Watch())
        watch.waiters[landed] = lambda known: not known.gaps(lo, hi, now) and not known.awaiting(lo, hi)
        if watch.task is None:
            watch.task = asyncio.create_task(self._watch(symbol, watch), name=f"watch {symbol}")
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await landed
        except TimeoutError:
            return False
        finally:
            watch.waiters.pop(landed)

    async def _watch(self, symbol: str, watch: Watch) -> None:
        """Look every PERIOD for all who wait for a symbol, until nobody does."""
        while watch.waiters:
            known = await self._look(symbol)
            for landed, check in list(watch.waiters.items()):
                if not landed.done() and (self.stopping or known is None or (known is not AWAY and check(known))):
                    landed.set_result(not self.stopping)
            await asyncio.sleep(PERIOD)
        watch.task = None
        if self.watches.get(symbol) is watch:
            del self.watches[symbol]

    async def _look(self, symbol: str) -> Summary | None:
        """A new summary; None where the symbol is gone, AWAY while the database is."""
        try:
            return await self.coverages.fetch(symbol)
        except ApiError as error:
            return None if error.status == 404 else AWAY
