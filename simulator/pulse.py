"""The heart of the stream: every 20 ms what has happened goes to the sockets, with the faults that are on."""

from __future__ import annotations

import asyncio
import time
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Final

import structlog

from barwright.simulator.faults import Fault, Faults

if TYPE_CHECKING:
    from barwright.simulator.channel import Channel, Listener
    from barwright.simulator.exchange import Exchange

log = structlog.get_logger()
STEP: Final = 0.02  # seconds
_FAULTS: Final = ("lose", "repeat", "delay", "reorder")


class Pulse:
    """The channels that someone listens to. All times are ms since 1970."""

    def __init__(self, exchange: Exchange, faults: Faults) -> None:
        self.exchange, self.faults = exchange, faults
        self._channels: dict[str, Channel] = {}
        self._since = int(time.time() * 1000)
        self._late: list[tuple[int, int, str, str]] = []  # due, order of entry, market, message
        self._entry = count()

    async def run(self) -> None:
        """Beat for ever."""
        while True:
            try:
                self.beat(int(time.time() * 1000))
            except Exception:
                log.exception("a beat failed")  # the next one must come nevertheless
            await asyncio.sleep(STEP)

    def beat(self, now: int) -> None:
        """Deliver what happened before `now`."""
        self._since = max(now, self._since)
        for channel in list(self._channels.values()):
            faults = self.faults.on(*_FAULTS, market=channel.market.name)
            for trade in channel.take(self._since):
                text = channel.text(trade)
                if not faults or self._passes(faults, channel.market.name, trade.number, text):
                    _tell(channel, text)
        while self._late and self._late[0][0] <= self._since:
            self._deliver_late()

    def listen(self, market: str, listener: Listener) -> list[str]:
        """Begin to tell someone of a market, without a hole after the messages returned: its last trades."""
        from barwright.simulator.channel import Channel

        channel = self._channels.get(market)
        if channel is None:
            channel = self._channels[market] = Channel(self.exchange.market(market), self._since)
        recent = [channel.text(trade) for trade in channel.recent(self._since)]
        channel.listeners.add(listener)
        return recent

    def leave(self, market: str, listener: Listener) -> None:
        """Tell someone no more."""
        channel = self._channels[market]
        channel.listeners.discard(listener)
        if not channel.listeners:
            del self._channels[market]

    def release(self) -> None:
        """Deliver at once all that is held back."""
        while self._late:
            self._deliver_late()

    def _deliver_late(self) -> None:
        _, _, market, text = heappop(self._late)
        if channel := self._channels.get(market):
            _tell(channel, text)

    def _passes(self, faults: list[Fault], market: str, number: int, text: str) -> bool:
        """Whether a message goes out now; one that is held back or repeated is kept for later."""
        for fault in faults:
            if not fault.hits(market, number):
                continue
            if fault.kind != "lose":
                due = self._since + int(fault.held(market, number) * 1000)
                heappush(self._late, (due, next(self._entry), market, text))
            if fault.kind != "repeat":
                return False
        return True


def _tell(channel: Channel, text: str) -> None:
    for listener in channel.listeners:
        listener.push(text)
