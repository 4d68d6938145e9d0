"""The stream of bars as a client follows it: what to subscribe to, what has come, where to go on after a cut."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec

from barwright.client.asking import Symbols, Time, several, when
from barwright.client.errors import refusal

SILENCE = 40.0  # seconds without a message (the server says something every 15) until a connection is given up
RETRIES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # seconds before the next attempt; the last one for ever


class Bar(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A bar, or what happened to one; prices and volumes are exact.

    `kind`: "history", before the stream was live; "bar", a change of the open bar or its closing; "revision", a closed
    bar was repaired; "removed": no bucket in [`bucket`, `end`) has a bar (any more), every value is None.
    `first`: nothing that came before counts any more: the first of a subscription, or of one that had to start over.
    """

    symbol: str = ""
    interval: str = ""
    kind: Literal["history", "bar", "revision", "removed"] = "bar"
    bucket: datetime
    end: datetime | None = None
    open: Decimal | None = None
    high: Decimal | None = None
    low: Decimal | None = None
    close: Decimal | None = None
    volume: Decimal | None = None
    quote_volume: Decimal | None = None
    vwap: Decimal | None = None
    trades: int | None = None
    buy_volume: Decimal | None = None
    imported: bool = False
    closed: bool = False
    rev: int | None = None
    first: bool = False


class _Message(msgspec.Struct):
    type: str
    id: str = ""
    event: str | None = None
    rev: int | None = None
    bar: Bar | None = None
    bars: list[Bar] = []
    bucket: datetime | None = None
    end: datetime | None = None
    code: str = ""
    message: str = ""
    details: dict[str, Any] = {}
    hint: str = ""
    status: int = 400


_decode = msgspec.json.Decoder(_Message, strict=False).decode


@dataclass
class Following:
    """The subscriptions of one stream: one for each symbol, its place in the list being its id."""

    symbols: list[str]
    interval: str
    options: dict[str, Any]
    events: dict[str, str] = field(default_factory=dict)
    anew: set[str] = field(default_factory=set)
    failures: int = 0

    def subscriptions(self) -> Iterator[str]:
        """The messages to begin with: from the start, or from what came last."""
        for number, symbol in enumerate(self.symbols):
            id = str(number)
            wish = {"op": "subscribe", "id": id, "symbol": symbol, "interval": self.interval, "numbers": "string",
                    **self.options}  # fmt: skip
            if id in self.events:
                wish["since"] = self.events[id]
            else:
                self.anew.add(id)
            yield msgspec.json.encode(wish).decode()

    def take(self, text: str | bytes) -> Iterator[Bar]:
        """The bars of a message. AnswerError where the server refuses a subscription."""
        told = _decode(text)
        match told.type:
            case "bars":
                yield from (self._told(told, bar, "history") for bar in told.bars)
            case "bar" | "revision":
                assert told.bar is not None
                yield self._told(told, told.bar, told.type)
            case "removed":
                assert told.bucket is not None
                yield self._told(told, Bar(bucket=told.bucket, end=told.end), "removed")
            case "reset":
                self.anew.add(told.id)
                self.events.pop(told.id, None)
            case "error":
                body = {"code": told.code, "message": told.message, "details": told.details, "hint": told.hint}
                raise refusal(_status(told), msgspec.json.encode(body))
        if told.event is not None:
            # After the bars: whoever stops between them has not seen the rest.
            self.events[told.id] = told.event
        self.failures = 0

    def pause(self) -> float:
        """Seconds to wait before the next attempt to connect."""
        self.failures += 1
        return RETRIES[min(self.failures, len(RETRIES)) - 1]

    def _told(self, told: _Message, bar: Bar, kind: Any) -> Bar:
        first = told.id in self.anew
        self.anew.discard(told.id)
        symbol = self.symbols[int(told.id)]
        return msgspec.structs.replace(bar, symbol=symbol, interval=self.interval, kind=kind, rev=told.rev, first=first)


_STATUS = {"unknown_symbol": 404, "unauthorized": 401, "forbidden": 403, "rate_limited": 429}


def _status(told: _Message) -> int:
    """The status that the same refusal has on `/v1/bars`."""
    return _STATUS.get(told.code, 503 if told.code.startswith("database") else told.status)


def following(symbols: Symbols, interval: str, start: Time | None, **options: Any) -> Following:
    """What to follow; what is None is left out."""
    given = {"start": when(start), **options}
    return Following(several(symbols), interval, {name: value for name, value in given.items() if value is not None})
