"""Streams: history, the live bar, closings, repairs, and what clients do wrong."""

import json
from collections.abc import Callable
from typing import Any

from tests.api.conftest import Api
from tests.api.streams import Store, receive, socket
from tests.sql.market import Market

New = Callable[..., Market]


def subscribe(opened: Any, id: str = "a", **params: Any) -> None:
    opened.send(json.dumps({"op": "subscribe", "id": id, **params}))


def is_type(kind: str) -> Callable[[dict[str, Any]], bool]:
    return lambda message: message["type"] == kind


def test_history_then_the_live_bar_its_closing_and_a_repair(api: Api, new: New) -> None:
    market = new()
    market.insert(*(market.trade(f"01-01 00:0{n}:10", str(100 + n)) for n in range(5)))
    market.seal("01-01 00:03")
    store = Store()
    with socket(api) as opened:
        subscribe(opened, symbol=market.symbol, interval="1m", start="0001-01-01")
        for message in receive(opened, is_type("live")):
            assert message["id"] == "a"
            store.take(message)
        assert store.list() == api.bars(market.symbol)
        assert [bar["closed"] for bar in store.list()] == [True, True, True, False, False]
        market.insert(market.trade("01-01 00:04:20", "200"))
        [message] = receive(opened, is_type("bar"))
        store.take(message)
        assert (message["bar"]["high"], message["bar"]["closed"]) == (200, False)
        market.seal("01-01 00:05")
        for message in [*receive(opened, is_type("bar")), *receive(opened, is_type("bar"))]:
            assert message["bar"]["closed"]
            store.take(message)
        market.insert(market.trade("01-01 00:01:30", "1"))
        market.repair()
        [message] = receive(opened, is_type("revision"))
        store.take(message)
        assert (message["bar"]["low"], message["rev"] > 0) == (1, True)
        assert store.list() == api.bars(market.symbol)
