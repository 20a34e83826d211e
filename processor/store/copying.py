"""Moving a store to another database, with every figure as it was."""

from collections.abc import AsyncIterator

from sqlalchemy import Table, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from processor.store.tables import leases, locks, metadata
from shared.errors import StoreError

CHUNK = 1000
"""Rows that are read and written at once."""

COPIED = [table for table in metadata.sorted_tables if table not in {leases, locks}]
"""Every table that holds what was counted; leases and locks belong to a database."""


async def copy(source: AsyncEngine, target: AsyncEngine) -> AsyncIterator[tuple[str, int]]:
    """Copy every row in one transaction of the target; yield each table's name and how many rows it had.

    Both must have this release's schema. Raises `StoreError` if the target has rows: copies do not mix.
    """
    async with source.connect() as reading, target.begin() as writing:
        for table in COPIED:
            if await writing.scalar(select(func.count()).select_from(table)):
                raise StoreError(f"the target's table {table.name} has rows; takes an empty database")
        for table in COPIED:
            yield table.name, await _copy_table(table, reading, writing)


async def _copy_table(table: Table, reading: AsyncConnection, writing: AsyncConnection) -> int:
    copied = 0
    rows = await reading.stream(select(table))
    async for chunk in rows.mappings().partitions(CHUNK):
        await writing.execute(insert(table), [dict(row) for row in chunk])
        copied += len(chunk)
    return copied
