"""Limits on how much is asked for, in points a minute. A request costs one, and one more for each 1000 bars asked for.

Each process counts by itself and never waits: twice a second it adds what it has counted to Redis and hears what the
others have. Without Redis each process allows the whole limit. The count slides: of the minute before, that part
counts which lies within the last 60 seconds.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_address
from math import ceil
from typing import Any

from barwright.api.access import Access
from barwright.api.errors import ApiError
from barwright.api.metrics import LIMITED
from barwright.api.shared import Shared
from barwright.links.redis import AWAY

ACCOUNT_KEY = "barwright.account"
DEFAULT = 6000  # points a minute where keys are on: 100 requests a second, or 6 M bars a minute
POINT = 1000  # bars; what is counted are bars, a request being as dear as so many
WINDOW = 60  # seconds
SHARING = 0.5  # seconds between two exchanges with Redis
MOST = 10_000  # accounts kept
PATIENCE = 0.5  # seconds for one exchange


def charge(scope: Any, bars: int) -> None:
    """Charge whoever asks for a number of bars, before they are read; the request itself was charged already.

    ApiError 429 with Retry-After when there is nothing left. Give the bars asked for (limit x symbols), as soon as the
    request is understood; a request that may begin may also end, so what is only known while it is answered (the pages
    of an export, a stream's history) is for `spend`.
    """
    account: Account | None = scope.get(ACCOUNT_KEY)
    if account is not None:
        account.charge(bars)


def spend(scope: Any, bars: int) -> None:
    """Charge without refusing: for pages sent after the answer has begun. The debt is felt by the next request."""
    account: Account | None = scope.get(ACCOUNT_KEY)
    if account is not None:
        account.spend(bars)


class Account:
    """What one key, or one address, has used in this minute and in the one before."""

    __slots__ = ("before", "limit", "minute", "name", "others", "unsent")

    def __init__(self, name: str, points: int) -> None:
        self.name = name
        self.limit = points * POINT
        self.minute = int(time.time()) // WINDOW
        self.unsent = 0  # of this minute, not told to Redis yet
        self.others = 0  # of this minute, as Redis knows it: ours and other processes'
        self.before = 0  # of the minute before

    def used(self, now: float) -> float:
        """The bars that count now."""
        minute, into = divmod(now, WINDOW)
        if minute != self.minute:
            self.before = self.others + self.unsent if minute == self.minute + 1 else 0
            self.minute, self.others, self.unsent = int(minute), 0, 0
        return self.before * (1 - into / WINDOW) + self.others + self.unsent

    def spend(self, bars: int) -> None:
        """Count bars."""
        self.used(time.time())
        self.unsent += bars

    def charge(self, bars: int) -> None:
        """Count bars; ApiError 429 where the limit is reached already."""
        if self.used(time.time()) >= self.limit:
            LIMITED.inc()
            raise self.exhausted()
        self.unsent += bars

    def exhausted(self) -> ApiError:
        """429, and when to come again."""
        seconds = self.wait(time.time())
        points = self.limit // POINT
        return ApiError(
            429, "too_many_requests", f"The limit of {points} points a minute is reached.",
            f"Come again in {seconds} s. A request costs 1 point, and 1 for each {POINT} bars asked for.",
            details={"limit": points, "retry_after": seconds}, headers={"Retry-After": str(seconds)},
        )  # fmt: skip

    def wait(self, now: float) -> int:
        """The whole seconds, at least one, until less than the limit counts, if nothing more is asked for."""
        used, into = self.used(now), now % WINDOW
        if used < self.limit:
            return ceil(WINDOW - into)
        current = self.others + self.unsent
        if current < self.limit:  # the minute before fades
            fades = WINDOW * (1 - (self.limit - current) / self.before)
            return max(1, ceil(fades - into))
        return max(1, ceil(WINDOW - into + WINDOW * (1 - self.limit / current)))

    def headers(self) -> list[tuple[bytes, bytes]]:
        """RateLimit-*: the limit and what is left in points, and the seconds until there is more."""
        now = time.time()
        left = max(0, int(self.limit - self.used(now)) // POINT)
        return [
            (b"ratelimit-limit", b"%d" % (self.limit // POINT)),
            (b"ratelimit-remaining", b"%d" % left),
            (b"ratelimit-reset", b"%d" % self.wait(now)),
        ]


class Limiter:
    """The accounts of one process. `era` names the database (None: not known yet), for others share its Redis."""

    def __init__(self, points: int | None, keys: bool, shared: Shared, era: Callable[[], str | None]) -> None:
        self.points = points if points is not None else DEFAULT if keys else 0
        self.shared = shared
        self.era = era
        self.accounts: OrderedDict[str, Account] = OrderedDict()

    def of(self, access: Access | None, client: tuple[str, int] | None) -> Account | None:
        """The account of a key, or else of an address; None without a limit."""
        if not self.points:
            return None
        name = f"key:{access.hash.hex()[:16]}" if access is not None and access.hash else f"address:{network(client)}"
        account = self.accounts.get(name)
        if account is None:
            account = self.accounts[name] = Account(name, self.points)
            if len(self.accounts) > MOST:
                self.accounts.popitem(last=False)
        else:
            self.accounts.move_to_end(name)
        return account

    async def run(self) -> None:
        """Share the counts until cancelled."""
        while self.points:
            await asyncio.sleep(SHARING)
            era = self.era()
            changed = [account for account in self.accounts.values() if account.unsent]
            if era and changed and self.shared.breaker.allows():
                await self._share(era, changed)

    async def _share(self, era: str, accounts: list[Account]) -> None:
        """Tell Redis what was counted, and hear the sums."""
        sent = [(account, account.minute, account.unsent) for account in accounts]
        try:
            async with asyncio.timeout(PATIENCE), self.shared.redis.pipeline(transaction=False) as pipeline:
                for account, minute, unsent in sent:
                    key = f"barwright:points:{era}:{account.name}"
                    pipeline.incrby(f"{key}:{minute}", unsent)
                    pipeline.expire(f"{key}:{minute}", 3 * WINDOW)
                    pipeline.get(f"{key}:{minute - 1}")
                answers = await pipeline.execute()
        except AWAY as error:
            self.shared.failed(error)
            return
        self.shared.breaker.succeeded()
        for n, (account, minute, unsent) in enumerate(sent):
            total, _, before = answers[3 * n : 3 * n + 3]
            _heard(account, minute, unsent, int(total), int(before or 0))


def _heard(account: Account, minute: int, unsent: int, total: int, before: int) -> None:
    """Take over the sums of a minute, which may be over by now."""
    account.used(time.time())
    if account.minute == minute:
        account.unsent -= unsent
        account.others = total
        account.before = max(account.before, before)
    elif account.minute == minute + 1:
        account.before = max(account.before, total)


def network(client: tuple[str, int] | None) -> str:
    """The address that is charged: of IPv6 the /64, which is what one customer gets."""
    if client is None:
        return "unknown"
    address = client[0]
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped) if mapped else ":".join(parsed.exploded.split(":")[:4])
