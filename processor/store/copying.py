"""Copying a store to another database."""

from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import Table, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from processor.store.engine import transaction
from processor.store.tables import leases, locks, metadata
from processor.store.translation import translated
from shared.errors import StoreError

COPY_CHUNK = 1000
"""Number of rows that are read and written at once."""

COPIED = [table for table in metadata.sorted_tables if table not in {leases, locks}]
"""All tables except leases and locks, which are valid only in their own database."""


async def copy(source: AsyncEngine, target: AsyncEngine) -> AsyncIterator[tuple[str, int]]:
    """Copy every row in one transaction of the target; yield the name and the number of rows of each table.

    Both must have this release's schema. Raises `StoreError` if the target has rows: copies do not mix;
    `StoreUnavailable` and `StoreRefused`.
    """
    async with transaction(source) as reading, transaction(target) as writing:
        for table in COPIED:
            if await writing.scalar(select(func.count()).select_from(table)):
                raise StoreError(f"the target's table {table.name} has rows; takes an empty database")
        for table in COPIED:
            yield table.name, await _copy_table(table, reading, writing)


async def _copy_table(table: Table, reading: AsyncConnection, writing: AsyncConnection) -> int:
    copied = 0
    async for chunk in _chunks(table, reading):
        await writing.execute(insert(table), chunk)
        copied += len(chunk)
    return copied


async def _chunks(table: Table, reading: AsyncConnection) -> AsyncIterator[list[dict[str, Any]]]:
    with translated(reading.engine.url):  # here, as the transaction of the target is the inner one
        rows = await reading.stream(select(table))
        async for chunk in rows.mappings().partitions(COPY_CHUNK):
            yield [dict(row) for row in chunk]
