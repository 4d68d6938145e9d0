"""The last pages of live symbols, read before anybody asks, so that the first chart after a start waits for none."""

import asyncio

import structlog
from psycopg.types.numeric import Int8

from barwright.api.bars import Bars
from barwright.api.blocks import series
from barwright.api.database import Q
from barwright.api.encode import EXACT, PLAIN
from barwright.api.errors import ApiError
from barwright.api.intervals import FIRST, LEVELS

MOST = 100  # symbols, the first that were registered
INTERVALS = ("1m", "1h", "1d")
BARS = 1000  # of each, what a chart begins with
SHARE = 0.5  # of the memory for pages that this may fill
PATIENCE = 30.0  # seconds in which the database must be there
log = structlog.get_logger()


async def warm(bars: Bars) -> None:
    """Read them one after the other, each in the styles most ask for."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not bars.follower.fresh:
                await asyncio.sleep(0.05)
        rows = await bars.database.fetch(Q["live"], {"limit": Int8(MOST)})
        for (symbol,) in rows:
            for name in INTERVALS:
                for style in (PLAIN, EXACT):
                    if bars.cover.store.size > SHARE * bars.cover.store.capacity:
                        return
                    hi = LEVELS[name].ceil(int(bars.follower.clock()) + 1)
                    await bars.pick(series(symbol, LEVELS[name], style), FIRST, hi, BARS, True)
    except (ApiError, TimeoutError) as error:
        log.info("not warmed up", reason=str(error))
    else:
        log.debug("warmed up", symbols=len(rows))
