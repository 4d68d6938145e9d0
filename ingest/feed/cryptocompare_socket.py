"""One socket of CryptoCompare's streamer: its subscriptions, its clock, and what its frames mean."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import msgspec
import structlog
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import WebSocketException

from barwright.ingest import cryptocompare
from barwright.ingest.cryptocompare import Frame, trade_of
from barwright.ingest.feed.outbox import Outbox
from barwright.ingest.feed.roster import Roster
from barwright.ingest.feed.sequence import Sequence, Tail
from barwright.ingest.feed.source import (
    Market,
    Missed,
    RateLimitedError,
    SourceError,
    Subscribed,
    UnavailableError,
    Unsubscribed,
)
from barwright.ingest.ticks import RefusedError

log = structlog.get_logger()
BEATS: Final = (0.2, 120.0)  # seconds between heartbeats that are believed
DAY: Final = 86_400_000_000  # microseconds
BACKOFF: Final = 12  # reconnect times this: a vendor's ban of a minute where 5 s are right otherwise
_JSON_ERRORS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)


class Socket:
    """A socket. `roster`: what it follows; `newest`: the event time (microseconds) it has reached."""

    def __init__(
        self,
        name: str,
        connection: ClientConnection,
        heartbeat: float,
        reconnect: float,
        outbox: Outbox,
        tails: dict[str, Tail],
    ) -> None:
        self.tails = tails
        self.name, self.reconnect, self.outbox = name, reconnect, outbox
        self.roster = Roster()
        self.newest = 0
        self._ws = connection
        # Symbols whose first certain event time is not known yet, with the server's time when they were loaded.
        self._new: list[tuple[set[str], int | None]] = []
        self._sequences: dict[str, Sequence] = {}
        self._holed: dict[str, Sequence] = {}
        self._said: set[str] = set()
        self._interval, self._beat_ms = heartbeat, 0
        self._clock: float | None = None  # the server's microseconds since 1970 less our monotonic ones
        self._frame_at = time.monotonic()
        self._reader = asyncio.ensure_future(self._read())

    def add(self, market: Market) -> None:
        """Follow a market as well; `ask` asks for it. Raises FullError."""
        if self.roster.add(market):
            self._new.append(({market.symbol}, self._now()))

    async def keep(self, markets: set[Market]) -> set[str]:
        """Follow only these of what is followed; returns the symbols that go."""
        kept: dict[str, set[str]] = {}
        for market in markets:
            kept.setdefault(market.name, set()).add(market.symbol)
            if market.symbol not in self.roster.names[market.name]:
                self.add(market)
        gone, unheard = self.roster.keep(kept)
        for name in unheard:
            self._sequences.pop(name, None)
            self._holed.pop(name, None)
        self._new = [(symbols - gone, at) for symbols, at in self._new if symbols - gone]
        await self._send("SubRemove", unheard)
        return gone

    async def ask(self) -> None:
        """Subscribe to what is new, once the last question is answered."""
        await self._send("SubAdd", self.roster.question(time.monotonic()))

    def look(self, now: float, again: float) -> None:
        """What no frame brings: silence, answers that do not come, holes, refused markets to be tried again."""
        if now - self._frame_at > 2 * self._interval:
            silence = now - self._frame_at
            self.outbox.fail(UnavailableError(f"{self.name}'s streamer is silent for {silence:.1f} s."))
        done, refused = self.roster.overdue(now)
        self._loaded(done)
        if refused:
            log.warning("no answer to subscriptions", source=self.name, markets=sorted(refused)[:10])
        self.roster.retry(now, again)
        for name, sequence in list(self._holed.items()):
            for start, end in sequence.given_up(now):
                self._miss(name, start, end)
            if not sequence.has_holes:
                del self._holed[name]

    @property
    def reached(self) -> int:
        """The event time up to which every trade has come, or is known to be missed: a hole may still be filled."""
        return min([self.newest, *(sequence.safe for sequence in self._holed.values() if sequence.has_holes)])

    async def close(self) -> None:
        """Give it up; the next connection learns where this one ended."""
        for name, sequence in self._sequences.items():
            if tail := sequence.tail(self.newest):
                self.tails[name] = tail
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._ws.close()

    async def _send(self, action: str, names: set[str]) -> None:
        if names:
            subs = [f"0~{name}" for name in sorted(names)]
            try:
                await self._ws.send(msgspec.json.encode({"action": action, "subs": subs}).decode())
            except (WebSocketException, OSError):
                log.debug("nobody listens", source=self.name)  # the reader says why

    async def _read(self) -> None:
        try:
            async for message in self._ws:
                self._frame_at = time.monotonic()
                self._take(_decoded(message, self.name))
                await self.outbox.room()
            self.outbox.fail(UnavailableError(f"{self.name}'s streamer closed the connection."))
        except (WebSocketException, OSError) as error:
            self.outbox.fail(UnavailableError(f"{self.name}'s streamer is gone: {error}."))
        except Exception as error:
            self.outbox.fail(error)

    def _take(self, frame: Frame) -> None:
        match str(frame.type):
            case "0":
                self._trade(frame)
            case "999" if frame.time_ms is not None:
                self._heartbeat(frame.time_ms)
            case "16":
                self._loaded(self.roster.acknowledged(frame.sub.removeprefix("0~")))
            case "3":
                self._loaded(self.roster.loaded())
            case "20" if frame.server_ms is not None:
                self._set_clock(frame.server_ms)
            case "401" | "429" | "500":
                self._error(frame)

    def _trade(self, frame: Frame) -> None:
        name, at = frame.name, 0
        try:
            for symbol in self.roster.names.get(name, ()):
                trade, at = trade_of(frame, symbol)
                self._settle(at)
                self.outbox.trade(trade)
        except RefusedError as refused:
            self._bad(frame, name, refused)
            return
        # A trade of an exchange whose clock is ahead must not vouch for the others' next seconds.
        self.newest = max(self.newest, min(at, self._now() or time.time_ns() // 1_000))
        if at and frame.ccseq is not None:
            sequence = self._sequences.get(name) or self._begin(name)
            sequence.came(frame.ccseq, at, self._frame_at)
            if sequence.has_holes:
                self._holed[name] = sequence

    def _begin(self, name: str) -> Sequence:
        sequence = self._sequences[name] = Sequence(name, self.tails.pop(name, None))
        return sequence

    def _bad(self, frame: Frame, name: str, refused: RefusedError) -> None:
        """A trade that cannot be read did not come. With a number it becomes a hole by itself."""
        if name not in self._said:
            self._said.add(name)
            log.warning("a trade cannot be read", source=self.name, market=name, reason=refused.message)
        if frame.ccseq is None:
            at = (frame.ts or 0) * 1_000_000
            at = at if abs(at - self.newest) < DAY else self.newest
            self._miss(name, at, at)

    def _miss(self, name: str, start: int, end: int) -> None:
        for symbol in sorted(self.roster.names.get(name, ())):
            self.outbox.put(Missed(symbol, start, end))

    def _heartbeat(self, ms: int) -> None:
        # By the server's times: two beats that were held up on the way arrive together.
        gap = (ms - self._beat_ms) / 1_000
        if self._beat_ms and gap > 0:
            self._interval = min(max(gap, BEATS[0]), BEATS[1])
        self._beat_ms = max(self._beat_ms, ms)
        self._set_clock(ms)
        for symbols, loaded in self._new:
            self.outbox.put(Subscribed(frozenset(symbols), max(ms * 1_000, loaded or 0)))
        self._new.clear()
        self.newest = max(self.newest, ms * 1_000)
        self.outbox.nudge()

    def _settle(self, at: int) -> None:
        """The first trade from after the loading tells from when on every trade comes; the replayed ones are older."""
        for entry in [entry for entry in self._new if entry[1] is not None and at >= entry[1]] if self._new else ():
            self.outbox.put(Subscribed(frozenset(entry[0]), at))
            self._new.remove(entry)

    def _loaded(self, names: set[str]) -> None:
        if symbols := self.roster.symbols(names):
            self._new.append((symbols, self._now()))
        if self.roster.has_news:
            self.outbox.nudge()

    def _error(self, frame: Frame) -> None:
        """Raises SourceError where the connection is meant, not one subscription."""
        text = f"{frame.message} {frame.parameter} {frame.info}".strip()
        names = self.roster.meant(frame.parameter, frame.sub)
        if self.roster.full(frame.message, names):
            log.info("socket is full", source=self.name, reason=text)
        elif frame.message.startswith("SUBSCRIPTION_ALREADY_ACTIVE"):
            for name in names:
                self._loaded(self.roster.acknowledged(name))
        elif frame.message.startswith(("INVALID_", "SUBSCRIPTION_")):
            self._refuse(names, text)
        else:
            raise self._failure(str(frame.type), text)

    def _refuse(self, names: set[str], text: str) -> None:
        """A market that is not there: said, tried again rarely; the others go on."""
        log.warning("subscription refused", source=self.name, markets=sorted(names), reason=text)
        if heard := self.roster.symbols(names & self.roster.active):
            self.outbox.put(Unsubscribed(frozenset(heard)))
        self.roster.refuse(names, time.monotonic())
        self.outbox.nudge()

    def _failure(self, kind: str, text: str) -> SourceError:
        message = f"{self.name}'s streamer: {kind} {text:.200}"
        if kind == "429":
            return RateLimitedError(message, retry_after=BACKOFF * self.reconnect)
        return UnavailableError(message, retry_after=300.0 if kind == "401" else None)

    def _set_clock(self, ms: int) -> None:
        self._clock = ms * 1_000 - time.monotonic() * 1e6

    def _now(self) -> int | None:
        """The server's time in microseconds, where it is known."""
        return None if self._clock is None else int(self._clock + time.monotonic() * 1e6)


def _decoded(message: str | bytes, name: str) -> Frame:
    """A frame. What cannot be read may have been a trade, so the connection ends. Raises UnavailableError."""
    try:
        return cryptocompare.decode(message)
    except _JSON_ERRORS as error:
        raise UnavailableError(f"{name}'s streamer sends what is no frame: {message[:80]!r}.") from error
