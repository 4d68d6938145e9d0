"""Run by cryptofeed's own Python: publish trades by cryptofeed's Kafka backend, as its feed handler does.

Arguments: brokers, the prefix of the topics, how numbers are written (float or str).
"""

import asyncio
import sys
from decimal import Decimal

from cryptofeed.backends.kafka import TradeKafka
from cryptofeed.types import Trade


async def main(brokers: str, key: str, numbers: str) -> None:
    backend = TradeKafka(key=key, bootstrap_servers=brokers, numeric_type={"float": float, "str": str}[numbers])
    backend.start(asyncio.get_running_loop())
    for n in range(5):
        price = Decimal("27180.120000000000001") + n
        for exchange, name in (("COINBASE", str(100 + n)), ("BYBIT", f"a-{n}"), ("KRAKEN", None)):
            # A feed's receipt time is later than the trade's.
            trade = Trade(exchange, "BTC-USD", "sell" if n % 2 else "buy", Decimal("0.00001"), price,
                          1_700_000_000.100003 + n, id=name)  # fmt: skip
            await backend(trade, 1_700_000_009.5)
    await backend.stop()
    await backend.worker


asyncio.run(main(*sys.argv[1:]))
