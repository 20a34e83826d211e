"""Leases: at most one processor at a time exposes the metrics from the store, or recovers deliveries.

A lease is a row, not an advisory lock: a row works through a connection pooler, and expires if its holder loses the
database. The holder stops using the lease *before* the database allows another processor to take it.

The clock of the database may step back. The lease of a dead holder then expires too late. Therefore a waiting processor
also takes a lease that nobody has renewed for `TTL` seconds by the processor's own clock.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from processor.store import Store
from processor.store.clock import database_now
from processor.store.engine import dialect_of
from processor.store.tables import leases
from shared.errors import StoreError, StoreUnavailable
from shared.logs import get_logger
from shared.waiting import is_set_within

NAME = "exporter"
"""The lease of the processor that exposes the metrics from the store and does the housekeeping."""

REDELIVER = "redeliver"
"""The lease of the process that recovers failed deliveries."""

RECONCILE = "reconcile"
"""The lease of the process that asks GitHub about open runs and jobs."""

BACKFILL = "backfill"
"""The lease of the process that backfills."""

TTL = 10.0
"""How long a lease is valid without renewal, in seconds. Another processor takes it at most `INTERVAL` later."""

INTERVAL = 2.0
"""How often a processor tries to take or renew the lease, in seconds."""

MARGIN = 1.0
"""How long before the end the holder stops using the lease, in seconds: clocks may run at different speeds."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Grant:
    """The row of a lease: its holder, and when it expires (Unix ms, by the clock of the database)."""

    holder: str
    expires_at: int


class Lease:
    """One processor's view of the lease."""

    def __init__(
        self, store: Store, holder: str, clock: Callable[[], float] = time.monotonic, name: str = NAME
    ) -> None:
        """`holder` is a unique name of this process; `clock` returns monotonic seconds; `name` is that of the lease."""
        self.holder = holder
        self.name = name
        self._store = store
        self._clock = clock
        self._until = float("-inf")
        self._seen: Grant | None = None
        self._seen_at = float("-inf")
        self.trouble: StoreError | None = None
        """Why the last attempt to take or renew the lease failed, or None if it did not."""
        self._attempted = False

    @property
    def database_up(self) -> bool:
        """Whether the database answered the last attempt to take or renew the lease."""
        return self._attempted and self.trouble is None

    @property
    def held(self) -> bool:
        """Whether this processor holds the lease now."""
        return self._clock() < self._until

    async def keep(self, stop: asyncio.Event) -> None:
        """Take the lease when it is free, and renew it, until `stop` is set; then release it."""
        while not stop.is_set():
            await self.attempt()
            await is_set_within(stop, INTERVAL)
        await self._release()

    async def attempt(self) -> None:
        """Take or renew the lease, and log an outage of the database once. `held` has the result."""
        had = self.held
        try:
            await self.take()
        except StoreUnavailable as error:
            self._store.outage.notice(str(error))
        except StoreError as error:
            _log.warning("the lease could not be renewed", lease=self.name, error=str(error))
        else:
            self._store.outage.end()
        if self.held != had:
            # The leases of recovery are held for minutes only, and taken often.
            say = _log.info if self.name == NAME else _log.debug
            say("took the lease" if self.held else "lost the lease", lease=self.name)

    async def take(self) -> bool:
        """Take or renew the lease if possible; return whether it is held. Raises `StoreError`."""
        asked = self._clock()
        try:
            async with self._store.connection(within=TTL - MARGIN) as connection:
                dead = await self._find_dead(connection)
                held = await acquire(connection, self.name, self.holder, int(TTL * 1000), dead)
        except StoreError as error:
            self._attempted, self.trouble = True, error
            raise
        self._attempted, self.trouble = True, None
        # The time counts from before the request, because the database counts from a later moment.
        self._until = asked + TTL - MARGIN if held else float("-inf")
        return self.held

    async def _find_dead(self, connection: AsyncConnection) -> Grant | None:
        """Return the grant of another holder if nobody has renewed it for `TTL` by our clock, else None."""
        if self.held:
            return None
        grant = await granted(connection, self.name)
        if grant != self._seen:
            self._seen, self._seen_at = grant, self._clock()
        return grant if self._clock() - self._seen_at > TTL else None

    async def _release(self) -> None:
        self._until = float("-inf")
        try:
            async with self._store.connection(within=INTERVAL) as connection:
                await release(connection, self.name, self.holder)
        except StoreError as error:
            _log.warning("the lease could not be released; it ends by itself", lease=self.name, error=str(error))


async def acquire(connection: AsyncConnection, name: str, holder: str, ttl_ms: int, dead: Grant | None = None) -> bool:
    """Take the lease, or extend it by `ttl_ms` from now; return False if another process holds it.

    A `dead` grant can be taken at any time.
    """
    insert = postgresql.insert if dialect_of(connection) == "postgresql" else sqlite.insert
    row = {"name": name, "holder": holder, "expires_at": database_now() + ttl_ms}
    statement = insert(leases).values(row)
    statement = statement.on_conflict_do_update(
        index_elements=[leases.c.name],
        set_={"holder": statement.excluded.holder, "expires_at": statement.excluded.expires_at},
        where=or_(
            leases.c.holder == holder,
            leases.c.expires_at <= database_now(),
            *([] if dead is None else [(leases.c.holder == dead.holder) & (leases.c.expires_at == dead.expires_at)]),
        ),
    )
    return (await connection.scalars(statement.returning(leases.c.holder))).first() is not None


async def granted(connection: AsyncConnection, name: str) -> Grant | None:
    """Return the row of a lease, or None if no process has ever held it."""
    row = (await connection.execute(select(leases.c.holder, leases.c.expires_at).where(leases.c.name == name))).first()
    return Grant(*row) if row else None


async def release(connection: AsyncConnection, name: str, holder: str) -> None:
    """End the lease of `holder`, if it has it, so that another process can take it at once."""
    mine = (leases.c.name == name) & (leases.c.holder == holder)
    await connection.execute(update(leases).where(mine).values(expires_at=0))
