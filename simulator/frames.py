"""The streamer's messages, as text. TYPE is a string."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from barwright.markets import Pair
from barwright.simulator.digits import plain
from barwright.simulator.keys import key
from barwright.simulator.limits import Limits

if TYPE_CHECKING:
    from barwright.simulator.trades import Trade

EMPTY = "{}"  # seen now and then by clients of the vendor


def frame(kind: str, message: str, **more: Any) -> str:
    """A message of some type."""
    return json.dumps({"TYPE": kind, "MESSAGE": message, **more}, separators=(",", ":"))


def welcome(started: float, now: float, socket: str, client: str, active: int, limits: Limits) -> str:
    """The first message on a socket."""
    return frame(
        "20", "STREAMERWELCOME", SERVER_UPTIME_SECONDS=int(now - started), SERVER_NAME="simulator",
        SERVER_TIME_MS=int(now * 1000), CLIENT_ID=client, DATA_FORMAT="JSON", SOCKET_ID=socket, SOCKETS_ACTIVE=active,
        SOCKETS_REMAINING=limits.sockets - active, RATELIMIT_MAX_SECOND=limits.opens,
        RATELIMIT_REMAINING_SECOND=limits.opens - 1, SUBSCRIPTIONS_MAX=limits.subs,
    )  # fmt: skip


def wrong(message: str, parameter: object) -> str:
    """TYPE 500: something the client asked for is wrong."""
    return frame("500", message, PARAMETER=parameter, INFO="We could not do what you asked for.")


def heartbeat(now: float) -> str:
    """TYPE 999."""
    return frame("999", "HEARTBEAT", TIMEMS=int(now * 1000))


def trade(head: str, one: Trade, places: tuple[int, int], odd: bool) -> str:
    """TYPE 0; `head` is the market's part, `odd` gives ids that are no numbers."""
    price, size = places
    received = one.ms + 3
    identity = f"t{key(head, one.number):016x}" if odd else str(one.number)
    return (
        f'{head},"F":"{2 if one.bought else 1}","ID":"{identity}","TS":{one.second},"TSNS":{one.fraction},'
        f'"RTS":{received // 1000},"RTSNS":{received % 1000 * 1_000_000},"CCSEQ":{one.number},'
        f'"P":{plain(one.price, price)},"Q":{plain(one.size, size)},'
        f'"TOTAL":{plain(one.price * one.size, price + size)}}}'
    )


def head_of(pair: Pair) -> str:
    """The part of a trade's message that all trades of a market have in common."""
    fixed = {"TYPE": "0", "M": pair.exchange, "FSYM": pair.base, "TSYM": pair.quote}
    return json.dumps(fixed, separators=(",", ":"))[:-1]
