"""Keys: who holds one is let in with its scopes. A revoked key opens nothing after OLD seconds; while the database is
away, keys that were known to it go on."""

import asyncio
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol

import structlog

from barwright import sql
from barwright.api.access import OPEN, SCOPE_KEY, Access, access_of, unauthorized
from barwright.api.access.limits import ACCOUNT_KEY, POINT, Limiter
from barwright.api.access.token import KEY, digest
from barwright.api.database import Database
from barwright.api.errors import ApiError

Q = sql.queries("keys")
YOUNG, OLD = 2.0, 5.0  # seconds: older is looked up again beside the request, and before it
PATIENCE = 0.25  # seconds a request with a known key waits for a database that may be away
KEPT = 3600.0  # seconds a key goes on without a database that knows it
MOST = 10_000  # keys remembered
log = structlog.get_logger()
FAILED = 20 * POINT  # what a key that is not known costs its address


class Stream(Protocol):
    """What stays open: the scope says whose it is."""

    scope: Any

    async def end(self) -> None:
        """Its key is over."""


@dataclass(slots=True)
class Known:
    """What the database said of a key (None: no such), and when; whether it was away when it was asked last."""

    access: Access | None = None
    said: float = -inf
    asked: float = -inf
    away: bool = False


class Keys:
    """The keys as an API process knows them; `on`: whether any is needed."""

    def __init__(self, on: bool, database: Database, limiter: Limiter) -> None:
        self.on = on
        self.database = database
        self.limiter = limiter
        self.known: OrderedDict[bytes, Known] = OrderedDict()
        self.flights: dict[bytes, asyncio.Task[None]] = {}
        self.streams: set[Stream] = set()  # what is open

    async def run(self) -> None:
        """End the streams whose keys are over, until cancelled."""
        while self.on:
            await asyncio.sleep(YOUNG)
            try:
                await self._end_streams()
            except Exception:
                log.exception("streams were not looked at")

    async def _end_streams(self) -> None:
        ended: dict[bytes, bool] = {}
        for stream in list(self.streams):
            access = access_of(stream.scope)
            if access is None or not access.hash:
                continue
            if access.hash not in ended:
                ended[access.hash] = not await self.still(access)
            if ended[access.hash] and stream in self.streams:
                self.streams.discard(stream)
                with suppress(OSError, RuntimeError):  # it has just ended by itself
                    await stream.end()

    async def admit(self, scope: Any, key: str) -> Access:
        """Let in whoever holds a key: its ASGI scope has the access and is charged to it from now on.

        For each request with a key, and for the first message of a WebSocket that had none. ApiError 401 and 503 as
        `authenticate`, 429 for an address that has tried too many.
        """
        address = None if self._knows(key) else self.limiter.of(None, scope["client"])
        if address is not None:
            address.charge(POINT)
        try:
            access = scope[SCOPE_KEY] = await self.authenticate(key)
        except ApiError as error:
            if address is not None and error.status == 401:
                address.spend(FAILED)
            raise
        scope[ACCOUNT_KEY] = self.limiter.of(access, scope["client"])
        return access

    async def authenticate(self, key: str) -> Access:
        """The access of a key. ApiError 401 for one that is unknown, revoked or expired, 503 while the database is
        away and the key is not known here."""
        if not self.on:
            return OPEN
        if not KEY.fullmatch(key):
            raise unauthorized("That is no key.")
        return await self.of(digest(key))

    async def still(self, access: Access) -> bool:
        """Whether an access is still good, for what lives longer than a request."""
        if access.hash:
            try:
                await self.of(access.hash)
            except ApiError as error:
                return error.status != 401
        return True

    def _knows(self, key: str) -> bool:
        known = self.known.get(digest(key))
        return known is not None and known.access is not None

    async def of(self, hashed: bytes) -> Access:
        """The access by the hash of a key."""
        known = self.known.get(hashed) or self._remember(hashed)
        now = time.monotonic()
        if now - known.asked > YOUNG:
            flight = self._ask(hashed, known)
            if known.access is None or (now - known.said > OLD and not known.away):
                await asyncio.wait((flight,), timeout=None if known.access is None else PATIENCE)
                if flight.done() and known.access is None:
                    flight.result()
        access = known.access
        if access is None or (access.until or inf) <= time.time():
            raise unauthorized("The key is not known, was revoked, or has expired.")
        if time.monotonic() - known.said > KEPT:
            raise unauthorized("The key could not be checked for an hour.")
        return access

    def _remember(self, hashed: bytes) -> Known:
        self.known[hashed] = known = Known()
        if len(self.known) > MOST:
            self.known.popitem(last=False)
        return known

    def _ask(self, hashed: bytes, known: Known) -> asyncio.Task[None]:
        """Ask the database, once for all who want to know."""
        flight = self.flights.get(hashed)
        if flight is None:
            flight = self.flights[hashed] = asyncio.create_task(self._look(hashed, known))
            flight.add_done_callback(lambda done: (self.flights.pop(hashed), done.cancelled() or done.exception()))
        return flight

    async def _look(self, hashed: bytes, known: Known) -> None:
        try:
            found = await self.database.fetch(Q["find"], {"hash": hashed}, newest=True)
        except ApiError:
            known.away = True
            if known.access is not None:
                known.asked = time.monotonic()  # not again for a while
            raise
        known.access = next((Access(name, frozenset(scopes), hashed, until) for _, name, scopes, until in found), None)
        known.said = known.asked = time.monotonic()
        known.away = False
        if known.access is None:
            self.known.pop(hashed, None)
