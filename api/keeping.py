"""Which answers may be kept for ever: the URL names the revision, and nothing has touched their span since."""

from psycopg.types.numeric import Int8
from psycopg.types.range import TimestamptzRange

from barwright.api.answers import FOR_EVER, NO_CACHE
from barwright.api.body import Answer
from barwright.api.database import Database, Q
from barwright.api.intervals import FIRST, moment
from barwright.api.params import BarsQuery

FAR = 10_000  # revisions back to which the log is searched


class Keeping:
    """Decides it. `keys`: answers are for those who have one, so caches between us and them must not keep any."""

    def __init__(self, database: Database, keys: bool) -> None:
        self.database = database
        self.scope = "private" if keys else "public"

    async def caching(self, query: BarsQuery, answer: Answer) -> str:
        """The Cache-Control of an answer. ApiError 503."""
        if query.rev is None or not query.bounded or not answer.closed or answer.complete is not True:
            return NO_CACHE
        return f"{self.scope}, {FOR_EVER}" if await self._stands(query, answer) else NO_CACHE

    async def _stands(self, query: BarsQuery, answer: Answer) -> bool:
        """Whether it is still the answer of that revision."""
        epoch, rev = str(query.rev).split("-")
        now_epoch, now = answer.since
        if epoch != now_epoch[:8] or not 0 <= now - int(rev) <= FAR:
            return False
        if now == int(rev):
            return True
        symbols = list(query.symbols or (query.symbol,))
        # What is filled may be the close of any bar before.
        lo = FIRST if query.fill == "previous" else answer.span[0]
        span = TimestamptzRange(moment(lo), moment(answer.span[1]))
        [(whole, touched)] = await self.database.fetch(
            Q["touched"], {"rev": Int8(int(rev)), "symbols": symbols, "span": span}
        )
        return bool(whole and not touched)
