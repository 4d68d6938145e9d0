"""One client's subscription: what it has been sent, and what is still to be sent to it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from barwright.api.blocks import series as series_of
from barwright.api.coverage import merged
from barwright.api.encode import PLAIN, Style
from barwright.api.errors import bad
from barwright.api.intervals import FIRST, Interval, moment
from barwright.api.metrics import SENT
from barwright.api.span import Window
from barwright.api.stream.closed import Line, Part, changed, closed
from barwright.api.stream.hub import Hub
from barwright.api.stream.lane import Series
from barwright.api.stream.position import Position, position, tag
from barwright.api.stream.state import Bar, State

PAGE = 1000  # bars in one message
QUIET = 60.0  # seconds after which a position moves on though there was nothing to say
LAG = 0.05  # seconds until a page that is older than what was already sent is asked for again
Send = Callable[[bytes, str], Awaitable[None]]


class TurnedError(Exception):
    """The database went back, or its log no longer tells what changed: the client has to start over."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client subscribes to. `start` None: from the bucket that closed last. `rate`: most changes of open bars
    in a second. `ordered`: nothing of a bucket before all earlier ones have closed. `since`: the last event it has."""

    id: str
    symbol: str
    interval: Interval
    start: int | None = None
    rate: float = 10.0
    ordered: bool = False
    since: str | None = None
    style: Style = PLAIN


class Subscription:
    """Sends messages by `send(body, event)` for as long as `run` runs. `spend(bars)` is told what history costs."""

    def __init__(self, hub: Hub, wish: Wish, send: Send, spend: Callable[[int], None]) -> None:
        self.hub = hub
        self.wish = wish
        self.since = position(wish.since) if wish.since else None
        self.send = send
        self.spend = spend
        self.kind = series_of(wish.symbol, wish.interval, wish.style)
        self.id = msgspec.json.encode(wish.id)
        self.position = Position(FIRST)
        self.newest = FIRST  # of the buckets sent
        self.tag = ""
        self.turn = 0
        self.due = 0.0

    async def run(self, series: Series) -> None:
        """Send for ever. ApiError 400, 404, 503."""
        while True:
            state = await series.since(time.monotonic())
            self._begin(state)
            try:
                if self.since is not None:
                    state = await self._caught_up(series, self.since[1], state)
                    self._resume(self.since, state)
                    await self._repair(series, state)
                await self._history(series)
                await self._live(series)
            except TurnedError:
                self.since = None
                await self._say("reset", b"")

    def _begin(self, state: State) -> None:
        """Nothing has been sent yet."""
        interval, start = self.wish.interval, self.wish.start
        self.turn = state.turn
        self.tag = tag(state.epoch, self.wish.symbol, interval.key)
        self.position = Position(interval.floor(state.edge - 1) if start is None else interval.ceil(start))
        self.newest = FIRST

    def _resume(self, since: tuple[str, Position], state: State) -> None:
        """Go on from an event; TurnedError where that is not possible."""
        told, found = since
        if told[8:] != self.tag[8:]:
            raise bad("since", self.wish.since, "since belongs to another subscription.",
                      hint="Repeat symbol, interval, tz and session.")  # fmt: skip
        start = found.start if self.wish.start is None else self.position.start
        if told != self.tag or start < found.start or _ahead(found, state):
            raise TurnedError
        self.position = found

    async def _caught_up(self, series: Series, found: Position, state: State) -> State:
        """A state as new as what the client has, which may come from a process whose standby is further."""
        until = time.monotonic() + self.hub.patience
        while _ahead(found, state) and time.monotonic() < until:
            await asyncio.sleep(LAG)
            state = await series.since(time.monotonic())
        return state

    async def _history(self, series: Series) -> None:
        """What has closed, in pages; then what one state has beyond; then `live`."""
        said = self.since is not None
        while True:
            state, at = self._state(series), self.position.edge
            if at > self._edge(state) or any(rev > state.rev for _, rev in self.position.known):
                await series.since(time.monotonic())  # pages may have been read after the state
                continue
            if at >= min(state.lo, self._edge(state)):
                await self._last_pages(state, said, self._lines(state.between(at, self._edge(state)), True))
                break
            part = await self._closed(series, (at, state.edge), state.epoch, 0)
            state = self._state(series)
            if part.hi == state.edge and part.rev >= state.rev:
                await self._last_pages(state, said, part.lines)
                break
            await self._vanished(at, part.hi, part.lines, part.rev)
            self.position.close(part.hi, part.rev)
            if part.lines:
                await self._page(part.lines, part.rev)
                said = True
        await self._say("live", self._end(state.rev))

    async def _last_pages(self, state: State, said: bool, lines: list[Line]) -> None:
        """What a state has beyond the position: closed bars, and its open ones."""
        at, edge, tail = self.position.edge, self._edge(state), self._open(state)
        await self._vanished(at, None, [*lines, *self._lines(tail, False)], state.rev)
        tail = [bar for bar in tail if self.position.tail.get(bar.bucket) != bar.digest]
        digests = {bar.bucket: bar.digest for bar in tail}
        lines += self._lines(tail, False)
        for n in range(0, len(lines), PAGE):
            page = lines[n : n + PAGE]
            self.position.close(min(page[-1][0] + 1, edge), state.rev)
            self.position.tail |= {bucket: digests[bucket] for bucket, _ in page if bucket >= edge}
            await self._page(page, state.rev)
        self.position.close(edge, state.rev)
        if not lines and not said:
            await self._page([], state.rev)
        self.newest = max([self.newest, *self.position.tail])

    async def _live(self, series: Series) -> None:
        """Each change."""
        seen = None
        while True:
            state, patience = self._state(series), QUIET
            if state.newer is not seen:
                await self._repair(series, state)
                await self._close(series, state)
                patience = self.due - time.monotonic()
                if patience <= 0:
                    await self._tail(state)
                    seen = state.newer
                    continue
            try:
                async with asyncio.timeout(patience):
                    await state.newer.wait()
            except TimeoutError:
                seen = None

    async def _repair(self, series: Series, state: State) -> None:
        """What revisions changed of the closed bars that the client has."""
        for lo, hi in await self._repaired(state):
            at = lo
            while at < hi:
                part = await self._closed(series, (at, hi), state.epoch, state.rev)
                for bucket, line in part.lines:
                    await self._removed(at, bucket, state.rev)
                    at = bucket + 1
                    self.position.renew(at, state.rev)
                    await self._bar("revision", bucket, line, state.rev)
                await self._removed(at, part.hi, state.rev)
                at = part.hi
        self.position.renew(self.position.edge, state.rev)

    async def _repaired(self, state: State) -> list[Window]:
        """The spans of closed bars that are newer in a state than in the position, whole buckets."""
        known, symbol, interval = self.position.known, self.wish.symbol, self.wish.interval
        oldest = min((rev for _, rev in known), default=state.rev)
        if oldest >= state.rev:
            return []
        changes = self.hub.log.between(symbol, oldest, state.rev)
        if changes is None:
            changes = await changed(self.hub.database, symbol, oldest, state.rev)
        if changes is None:
            raise TurnedError
        edges = [self.position.start, *(hi for hi, _ in known)]
        whole = [(rev, *_buckets(interval, lo, hi)) for rev, lo, hi in changes]
        return merged(
            (max(a, lo), min(b, hi))
            for rev, lo, hi in whole
            for (a, b), (_, old) in zip(pairwise(edges), known, strict=True)
            if rev > old and lo < b and hi > a
        )

    async def _close(self, series: Series, state: State) -> None:
        """The bars that have closed since."""
        at, edge = self.position.edge, self._edge(state)
        while at < edge:
            if at >= state.lo:
                lines, hi = self._lines(state.between(at, edge), True), edge
            else:
                part = await self._closed(series, (at, state.edge), state.epoch, state.rev)
                lines, hi = part.lines, part.hi
            await self._vanished(at, hi, lines, state.rev)
            for bucket, line in lines:
                self.position.close(bucket + 1, state.rev)
                await self._bar("bar", bucket, line, state.rev)
            self.position.close(hi, state.rev)
            at = hi

    async def _tail(self, state: State) -> None:
        """The open bars that have changed since. What changes behind the newest bucket is a revision."""
        tail, now = self._open(state), time.monotonic()
        await self._vanished(self._edge(state), None, self._lines(tail, False), state.rev)
        for bar in tail:
            if self.position.tail.get(bar.bucket) != bar.digest:
                self.due = now + 1 / self.wish.rate
                self.position.tail[bar.bucket] = bar.digest
                kind = "bar" if bar.bucket >= self.newest else "revision"
                await self._bar(kind, bar.bucket, bar.line(self.wish.style, False), state.rev)

    def _state(self, series: Series) -> State:
        """The newest state of a series. ApiError 404 when its symbol has gone; TurnedError when it went back."""
        if series.error is not None:
            raise series.error
        assert series.state is not None
        if series.state.turn != self.turn:
            raise TurnedError
        return series.state

    def _edge(self, state: State) -> int:
        """Up to where bars are closed that the client is to have."""
        return max(state.edge, self.position.start)

    def _open(self, state: State) -> list[Bar]:
        """The open bars that the client is to have."""
        bars = state.between(self._edge(state))
        if self.wish.ordered:
            first = self.wish.interval.ceil(state.edge)
            bars = [bar for bar in bars if bar.bucket == first]
        return bars

    async def _closed(self, series: Series, span: Window, epoch: str, rev: int) -> Part:
        """The next closed bars of a span, at least as new as a revision."""
        while True:
            part = await closed(self.hub.bars, self.kind, span, PAGE)
            if part.epoch != epoch:
                raise TurnedError
            if part.rev >= rev and part.hi > span[0]:
                await asyncio.sleep(0)  # pages out of memory must not keep others waiting
                return part
            self._state(series)
            await asyncio.sleep(LAG)

    async def _vanished(self, lo: int, hi: int | None, lines: Sequence[Line], rev: int) -> None:
        """Bars that were sent while they were open, and that are not there any more."""
        there = {bucket for bucket, _ in lines}
        for bucket in sorted(self.position.tail.keys() - there):
            if lo <= bucket and (hi is None or bucket < hi):
                del self.position.tail[bucket]
                await self._gone(bucket, self.wish.interval.after(bucket), rev)

    async def _removed(self, lo: int, hi: int, rev: int) -> None:
        """Buckets of a repaired span that have no bar (any more)."""
        first, end = self.wish.interval.ceil(lo), self.wish.interval.ceil(hi)
        if first < end:
            self.position.renew(hi, rev)
            await self._gone(first, end, rev)

    def _lines(self, bars: Iterable[Bar], closed: bool) -> list[Line]:
        return [(bar.bucket, bar.line(self.wish.style, closed)) for bar in bars]

    async def _page(self, lines: Sequence[Line], rev: int) -> None:
        self.spend(len(lines))
        self.newest = lines[-1][0] if lines else self.newest
        await self._say("bars", b',"bars":[%s]' % b",".join(line for _, line in lines) + self._end(rev))

    async def _bar(self, kind: str, bucket: int, line: bytes, rev: int) -> None:
        self.newest = max(self.newest, bucket)
        await self._say(kind, b',"bar":' + line + self._end(rev))

    async def _gone(self, lo: int, hi: int, rev: int) -> None:
        span = b',"bucket":%s,"end":%s' % (self._time(lo), self._time(hi))
        await self._say("removed", span + self._end(rev))

    def _time(self, t: int) -> bytes:
        """The start of a bucket in the client's style."""
        if self.wish.style.time == "iso":
            return b'"%sZ"' % moment(t).isoformat()[:19].encode()
        return b"%d" % (t * 1000 if self.wish.style.time == "ms" else t)

    def _end(self, rev: int) -> bytes:
        return b',"rev":%d' % rev

    async def _say(self, kind: str, rest: bytes) -> None:
        """One message; its event tells the position that the client has with it."""
        event = "" if kind == "reset" else self.position.event(self.tag)
        told = b',"event":"%s"}' % event.encode() if event else b"}"
        SENT[kind].inc()
        await self.send(b'{"type":"%s","id":%s' % (kind.encode(), self.id) + rest + told, event)


def _ahead(found: Position, state: State) -> bool:
    """Whether a client has seen what a state does not know of."""
    return found.edge > max(state.edge, found.start) or any(rev > state.rev for _, rev in found.known)


def _buckets(interval: Interval, lo: int, hi: int) -> Window:
    """The whole buckets that a span touches; between sessions there are none."""
    first = interval.floor(lo)
    return interval.after(first) if interval.end(first) <= lo else first, interval.ceil(hi)
