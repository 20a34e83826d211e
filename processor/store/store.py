"""The interface of the store for the rest of the processor."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from processor.counting.snapshot import Snapshot
from processor.store import read_snapshot
from processor.store.batch import BatchTransaction
from processor.store.engine import dialect_of, transaction
from processor.store.recent import RecentRows
from processor.store.translation import translated
from shared.log_limits import OutageLog
from shared.logs import get_logger

_log = get_logger(__name__)


class Store:
    """Transactions and snapshots on one database. Every method raises `StoreUnavailable` and `StoreRefused`."""

    def __init__(self, engine: AsyncEngine, max_series: int, *, hold: bool = True) -> None:
        """`max_series` is the maximum number of series per metric, without the overflow series.

        `hold` is True if new series start held: scrapers see them as 0 until `held_series.release`.
        """
        self._engine = engine
        self._max_series = max_series
        self.outage = OutageLog(_log, "the database cannot be used", "the database can be used again")
        """Log of the outages of the database, for all tasks that use it. The lease task notices their end."""
        self._hold = hold
        self.recent = RecentRows()
        """Cache of the series and gauge labels that are known to exist."""
        # A new connection may lead to another server, which lacks the last rows of the one before.
        event.listen(engine.sync_engine, "connect", lambda *_: self.recent.clear())

    @asynccontextmanager
    async def connection(self, within: float | None = None) -> AsyncIterator[AsyncConnection]:
        """Yield a connection in a transaction that commits at the end, unless an exception passes.

        `within`: seconds that all of it may take.
        """
        async with transaction(self._engine, within) as connection:
            yield connection

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[BatchTransaction]:
        """Yield the transaction of a batch."""
        async with self.connection() as connection:
            batch = self.batch_on(connection)
            yield batch
        self.recent.add(batch.written)

    def batch_on(self, connection: AsyncConnection) -> BatchTransaction:
        """Return the batch statements for a transaction that is already open."""
        return BatchTransaction(connection, self._max_series, self.recent, hold=self._hold)

    async def snapshot(
        self, lease: str, holder: str, within: float | None = None, *, exemplars: bool = False
    ) -> Snapshot | None:
        """Return what `holder` has to expose now, or None if it does not have the lease.

        `within`: seconds that it may take. `exemplars` is True if the page has exemplars.
        """
        async with self.reading(within) as connection:
            return await read_snapshot.read(connection, lease, holder, exemplars=exemplars)

    @asynccontextmanager
    async def reading(self, within: float | None = None) -> AsyncIterator[AsyncConnection]:
        """Yield a connection in a read-only transaction that sees one state of the database throughout.

        `within`: seconds that all of it may take.
        """
        with translated(self._engine.url):
            async with asyncio.timeout(within), self._engine.connect() as plain:
                level = "REPEATABLE READ" if dialect_of(plain) == "postgresql" else "SERIALIZABLE"
                connection = await plain.execution_options(isolation_level=level, read_only=True)
                async with connection.begin():
                    yield connection

    async def ping(self) -> None:
        """Return if the database answers."""
        with translated(self._engine.url):
            async with self._engine.connect() as plain:
                # In SQLite, a transaction that may write waits for the write lock, and may get it after a timeout.
                connection = await plain.execution_options(read_only=True)
                await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()
