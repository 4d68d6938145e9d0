"""What ingest says on Redis has landed. A hint: whoever listens looks at the database by itself now and then."""

import asyncio
from collections.abc import Callable, Iterable

import msgspec
import structlog

from barwright.channels import TICKS
from barwright.links.redis import AWAY, listening
from barwright.settings import Settings

TIMEOUT = 1.0  # seconds to connect, and between two checks of a connection on which nothing is said
PAUSE = 0.25  # seconds before the next try
log = structlog.get_logger()


class News:
    """Calls `tell(symbols)` for each message, and `tell(None)` when some may have been missed."""

    def __init__(self, settings: Settings, tell: Callable[[Iterable[str] | None], None]) -> None:
        self.settings = settings
        self.tell = tell
        self.connected = False

    async def run(self) -> None:
        """Listen for ever, through outages."""
        told = False
        while True:
            try:
                await self._listen()
            except AWAY as error:
                if self.connected or not told:
                    log.warning("redis is away, streams ask the database", reason=str(error))
                    told = True
            except Exception:
                log.exception("listening failed")
            self.connected = False
            await asyncio.sleep(PAUSE)

    async def _listen(self) -> None:
        async with listening(self.settings, TIMEOUT, health_check_interval=5) as channel:
            await channel.subscribe(TICKS)
            self.connected = True
            self.tell(None)
            while True:
                message = await channel.get_message(timeout=TIMEOUT)
                if message is not None:
                    self._heard(message["data"])

    def _heard(self, data: bytes) -> None:
        try:
            symbols = msgspec.json.decode(data, type=dict[str, int])
        except msgspec.DecodeError:
            log.warning("not understood", channel=TICKS, message=data[:100])
        else:
            self.tell(symbols)
