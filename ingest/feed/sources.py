"""From a source's name to the source."""

from __future__ import annotations

from barwright import sources
from barwright.errors import BarwrightError
from barwright.ingest.feed.cryptocompare import CryptoCompare
from barwright.ingest.feed.source import Source
from barwright.settings import Settings


def source_of(name: str, settings: Settings) -> Source:
    """The source of a name, not yet connected to anything. Raises BarwrightError where there is none."""
    kind = sources.kind_of(sources.check(name))
    if kind == "simulator":
        return _simulator(settings)
    if kind == "cryptocompare":
        return CryptoCompare(
            name,
            settings.cryptocompare_rest_url,
            settings.cryptocompare_ws_url,
            settings.cryptocompare_api_key.get_secret_value(),
            grace=sources.grace_of(name),
            heartbeat=settings.heartbeat,
        )
    if kind == "ccxt":
        # ccxt is an extra, and slow to import.
        from barwright.ingest.feed.ccxt_source import Ccxt

        return Ccxt.of(name, sources.grace_of(name))
    raise BarwrightError(f"{name} gives no trades and no history.", "Other programs produce the ticks of its symbols.")


def _simulator(settings: Settings) -> CryptoCompare:
    """The same vendor at the simulated exchange; it bans nobody who comes back soon."""
    rest = settings.simulator_url.rstrip("/")
    return CryptoCompare(
        "simulator",
        rest,
        "ws" + rest.removeprefix("http") + "/v2",
        settings.simulator_key.get_secret_value(),
        grace=sources.grace_of("simulator"),
        reconnect=0.2,
        heartbeat=settings.heartbeat,
        pause=0.1,
    )
