"""Releases new series: until then they are held, which means that scrapers see them as 0.

docs/decisions/0014 explains why. A released series is never held again: it stays released until its row is deleted.
"""

from sqlalchemy import Table, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from processor.store.clock import database_now
from processor.store.tables import counters, histograms

TABLES = (counters, histograms)
"""The tables of series."""

RELEASE_CHUNK = 1000
"""Maximum number of series that are released in one transaction."""


async def release(connection: AsyncConnection, table: Table, held_for: int) -> int:
    """Release at most `RELEASE_CHUNK` series that were created `held_for` milliseconds ago (index: <table>_held).

    Returns their number; a smaller number means that none is left. If the clock of the database has stepped back, a
    series is held for at most twice the time: one that was created `held_for` after now is released, too.
    """
    created_at = table.c.created_at
    due = or_(created_at <= database_now() - held_for, created_at >= database_now() + held_for)
    # Locked in key order, like the rows of a batch, so that deadlocks do not occur.
    found = select(table.c.key).where(table.c.held.is_(True), due).order_by(table.c.key).limit(RELEASE_CHUNK)
    keys = (await connection.scalars(found.with_for_update())).all()
    if keys:
        await connection.execute(update(table).where(table.c.key.in_(keys)).values(held=False))
    return len(keys)
