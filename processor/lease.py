"""Who exposes: exactly one processor at a time holds a lease in the store.

A lease row and not an advisory lock: it works through a connection pooler, and it ends by itself when its holder is
cut off from the database. The holder stops believing in it *before* the database lets another take it. The database's
clock may step back, and the end of a dead holder's lease with it into the future; so a row that nobody has renewed for
as long as a lease lasts, by the clock of whoever waits for it, counts as free too.
"""

import asyncio
import time
from collections.abc import Callable

from sqlalchemy.ext.asyncio import AsyncConnection

from processor.store import Store, leases
from processor.store.engine import describe, is_failure
from shared.logs import get_logger
from shared.waiting import is_set_within

NAME = "exporter"
"""The lease that says who exposes metrics from the store, and who closes what is stale and deletes what is old."""

REDELIVER = "redeliver"
"""The lease of whoever recovers failed deliveries."""

RECONCILE = "reconcile"
"""The lease of whoever asks GitHub about open runs and jobs."""

TTL = 10.0
"""Seconds that a lease lasts without being renewed; another processor takes over at most `INTERVAL` later."""

INTERVAL = 2.0
"""Seconds between attempts to take or renew."""

MARGIN = 1.0
"""Seconds before the end at which the holder gives up, for clocks that run at different speeds."""

_log = get_logger(__name__)


class Lease:
    """One processor's view of the lease."""

    def __init__(
        self, store: Store, holder: str, clock: Callable[[], float] = time.monotonic, name: str = NAME
    ) -> None:
        """`holder` names this process, differently from every other; `clock` counts seconds, never backwards.

        `name` says what the lease is for.
        """
        self.holder = holder
        self.name = name
        self._store = store
        self._clock = clock
        self._until = float("-inf")
        self._seen: leases.Grant | None = None
        self._seen_at = float("-inf")
        self.database_up = False
        """Whether the last attempt to take or renew reached the database."""

    @property
    def held(self) -> bool:
        """Whether this processor may act as the only one right now."""
        return self._clock() < self._until

    async def keep(self, stop: asyncio.Event) -> None:
        """Take the lease whenever it is free and renew it, until `stop` is set; then let it go."""
        while not stop.is_set():
            await self.attempt()
            await is_set_within(stop, INTERVAL)
        await self._release()

    async def attempt(self) -> None:
        """Take the lease if it is free, or renew it; see `held`."""
        asked, had = self._clock(), self.held
        try:
            async with asyncio.timeout(TTL - MARGIN), self._store.connection() as connection:
                dead = await self._find_dead(connection)
                held = await leases.acquire(connection, self.name, self.holder, int(TTL * 1000), dead)
        except Exception as error:
            if not is_failure(error):
                raise
            self.database_up = False
            _log.warning("the lease could not be renewed", lease=self.name, error=describe(error))
        else:
            self.database_up = True
            # Counted from before the question: the database counts from some moment after that.
            self._until = asked + TTL - MARGIN if held else float("-inf")
        if self.held != had:
            # The others are taken for minutes only, again and again.
            say = _log.info if self.name == NAME else _log.debug
            say("took the lease" if self.held else "lost the lease", lease=self.name)

    async def _find_dead(self, connection: AsyncConnection) -> leases.Grant | None:
        """Return the grant of another that was seen for as long as a lease lasts without being renewed."""
        if self.held:
            return None
        grant = await leases.granted(connection, self.name)
        if grant != self._seen:
            self._seen, self._seen_at = grant, self._clock()
        return grant if self._clock() - self._seen_at > TTL else None

    async def _release(self) -> None:
        self._until = float("-inf")
        try:
            async with asyncio.timeout(INTERVAL), self._store.connection() as connection:
                await leases.release(connection, self.name, self.holder)
        except Exception as error:
            if not is_failure(error):
                raise
            _log.warning("the lease could not be released; it ends by itself", lease=self.name, error=describe(error))
