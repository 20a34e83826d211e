"""The store as the rest of the worker sees it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from processor.store import snapshot
from processor.store.batch import BatchTransaction
from processor.store.engine import dialect_of


class Store:
    """Transactions and snapshots on one database. All methods raise what `engine.is_failure` recognises."""

    def __init__(self, engine: AsyncEngine, max_series: int) -> None:
        """`max_series`: how many series a metric may have, the overflow series aside."""
        self._engine = engine
        self._max_series = max_series

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection in a transaction that commits at the end, unless an exception passes."""
        async with self._engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def batch(self, now: int) -> AsyncIterator[BatchTransaction]:
        """Yield a transaction that counts, dated `now` (Unix ms)."""
        async with self.connection() as connection:
            yield self.batch_on(connection, now)

    def batch_on(self, connection: AsyncConnection, now: int) -> BatchTransaction:
        """Return the statements that count, on a transaction that is open already."""
        return BatchTransaction(connection, now, self._max_series)

    async def snapshot(self, lease: str, holder: str) -> snapshot.Snapshot | None:
        """Return what `holder` has to expose now, or None if it does not have the lease."""
        async with self._engine.connect() as plain:
            level = "REPEATABLE READ" if dialect_of(plain) == "postgresql" else "SERIALIZABLE"
            connection = await plain.execution_options(isolation_level=level, read_only=True)
            async with connection.begin():
                return await snapshot.read(connection, lease, holder)

    async def ping(self) -> None:
        """Return if the database answers."""
        async with self._engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()
