"""How the store forgets: in chunks small enough to hold no lock for long."""

from sqlalchemy import Column, delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

CHUNK = 5000
"""Rows deleted in one transaction; a chunk takes about 25 ms."""


async def delete_before(connection: AsyncConnection, column: Column[int], before: int) -> int:
    """Delete up to a chunk of the rows of `column`'s table in which it is less than `before` (Unix ms).

    Returns how many were deleted; fewer than a chunk means that none is left.
    """
    table = column.table
    key = tuple_(*table.primary_key.columns)
    chunk = select(*table.primary_key.columns).where(column < before).limit(CHUNK)
    # The condition stands outside of the subquery too: a row that is touched meanwhile must stay.
    result = await connection.execute(delete(table).where(key.in_(chunk), column < before))
    return result.rowcount
