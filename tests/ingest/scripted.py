"""A source that does what a test says, and what a feed published of it, read from Kafka."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from barwright.ingest.feed import broker
from barwright.ingest.feed.source import Alive, Event, History, Market, Subscribed, Subscriptions, Trades
from barwright.ingest.kafka import KafkaConsumer, TopicPartition
from barwright.ingest.ticks import Bar, Trade, stamp
from barwright.settings import Settings

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
STEP = {"1m": timedelta(minutes=1), "1h": HOUR, "1d": DAY}


def trade(symbol: str, at: int, n: int) -> Trade:
    """The n-th trade of a symbol, at a time in microseconds."""
    return Trade(symbol, stamp(at), f"{100 + n % 7}", "0.5", seq=n)


def bars(market: Market, interval: str, start: datetime, end: datetime) -> list[Bar]:
    """A bar in every bucket."""
    found = []
    while start < end:
        found.append(Bar(market.symbol, f"{start:%Y-%m-%dT%H:%M:%SZ}", interval, "10", "20", "5", "15", "7.5", "99.25"))
        start += STEP[interval]
    return found


class Scripted:
    """A source. Live: the events put into `events` by any thread, and errors, which end the connection. History: what
    `past` answers."""

    grace = timedelta(seconds=0.2)

    def __init__(self, name: str = "simulator", reconnect: float = 0.05) -> None:
        self.name, self.reconnect = name, reconnect
        self.events: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self.subscriptions = Subscriptions()
        self.connections = self.closed = 0
        self.asked: list[tuple[str, str, datetime, datetime]] = []
        self.past: Callable[[Market, str, datetime, datetime], History | Exception] = whole
        self.slow = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    def market_of(self, symbol: str) -> str:
        return f"market of {symbol}"

    def say(self, *events: Event | Exception) -> None:
        """Events, in this order, from any thread; to nobody where the feed has ended."""
        assert self._loop
        for event in events:
            broker.tell(self._loop, self.events.put_nowait, event)

    async def history(self, market: Market, interval: str, start: datetime, end: datetime) -> History:
        self.asked.append((market.symbol, interval, start, end))
        await asyncio.sleep(self.slow)
        answer = self.past(market, interval, start, end)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def live(self, subscriptions: Subscriptions) -> AsyncIterator[Event]:
        self._loop, self.subscriptions, self.events = asyncio.get_running_loop(), subscriptions, asyncio.Queue()
        self.connections += 1
        try:
            while True:
                event = await self.events.get()
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.closed += 1

    async def close(self) -> None:
        pass


def whole(market: Market, interval: str, start: datetime, end: datetime) -> History:
    """Everything that was asked for."""
    return History(bars(market, interval, start, end), start, end)


class Exchange(threading.Thread):
    """Says trades of some symbols to a source, steadily: `rate` a second each, in frames of a few milliseconds."""

    def __init__(self, source: Scripted, symbols: list[str], rate: float) -> None:
        super().__init__(daemon=True)
        self.source, self.symbols, self.rate = source, symbols, rate
        self.ending = threading.Event()
        self.sent: Counter[str] = Counter()
        self.all: list[tuple[str, str]] = []

    def run(self) -> None:
        began = time.monotonic()
        self.source.say(Subscribed(frozenset(self.symbols), now()))
        while not self.ending.wait(0.01):
            want = int((time.monotonic() - began) * self.rate)
            at = now()
            trades = []
            for symbol in self.symbols:
                for n in range(self.sent[symbol], want):
                    trades.append(trade(symbol, at, n))
                    self.all.append((symbol, stamp(at)))
                self.sent[symbol] = want
            self.source.say(Trades(trades), Alive(at))

    def stop(self) -> None:
        self.ending.set()
        self.join()


def now() -> int:
    """This moment in microseconds."""
    return time.time_ns() // 1000


class Log:
    """A topic's records, read to their end again and again; each partition in its order."""

    def __init__(self, settings: Settings, topic: str, partitions: int) -> None:
        self._client = KafkaConsumer(
            bootstrap_servers=settings.kafka_bootstrap_servers.split(","), auto_offset_reset="earliest",
            enable_auto_commit=False, allow_auto_create_topics=False, metrics_enabled=False,
        )  # fmt: skip
        self.partitions = [TopicPartition(topic, number) for number in range(partitions)]
        self._client.assign(self.partitions)
        self._client.seek_to_beginning(*self.partitions)
        self.messages: dict[int, list[dict[str, Any]]] = defaultdict(list)
        self.values: dict[int, list[bytes]] = defaultdict(list)
        self.keys: dict[int, list[bytes]] = defaultdict(list)

    def read(self) -> dict[int, list[dict[str, Any]]]:
        """All messages until now, by partition."""
        ends = self._client.end_offsets(self.partitions)
        while any(self._client.position(p) < ends[p] for p in self.partitions):
            for p, found in self._client.poll(timeout_ms=200).items():
                for record in found:
                    value = msgspec.json.decode(record.value)
                    self.values[p.partition].append(record.value)
                    self.keys[p.partition].append(record.key)
                    self.messages[p.partition] += value if isinstance(value, list) else [value]
        return self.messages

    def all(self, event: str = "") -> list[dict[str, Any]]:
        """All messages until now, or the marks of one kind."""
        found = [message for messages in self.read().values() for message in messages]
        return [message for message in found if message.get("event", "") == event] if event else found

    def close(self) -> None:
        self._client.close()


def landed(messages: list[dict[str, Any]]) -> dict[str, list[tuple[str, str]]]:
    """The spans that ingest takes for covered, by session, of one partition's messages in their order: number, count
    and continuity agree."""
    seen: Counter[str] = Counter()
    last: dict[str, tuple[int, str]] = {}
    spans: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for message in messages:
        if message["type"] == "trade":
            seen[message.get("session")] += 1
        elif message["event"] == "live":
            name = message["session"]
            n, until = last.get(name, (0, message["from"]))
            if (n + 1, until, seen[name]) == (message["n"], message["from"], message["count"]):
                spans[name].append((message["from"], message["to"]))
            last[name] = message["n"], message["to"]
            seen[name] = 0
    return spans


def utc(text: str) -> datetime:
    """A time of day of the first of March 2023, or a date."""
    return datetime.fromisoformat(text if "-" in text else f"2023-03-01T{text}").replace(tzinfo=UTC)
