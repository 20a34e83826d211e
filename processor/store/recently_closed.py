"""Reads the rows that were closed in the last minutes: they may be exemplars."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from processor.counting.exemplars import WINDOW
from processor.counting.snapshot import ClosedRow
from processor.counting.subjects import Subject
from processor.store.engine import dialect_of
from processor.store.subject_rows import subject_rows
from processor.store.tables import SUBJECT_TABLES

MOST_ROWS = 500
"""Maximum number of runs, and of jobs, that a scrape reads for exemplars: some milliseconds of CPU time."""


async def read(connection: AsyncConnection, subject: Subject[Any, Any], now: int) -> Sequence[ClosedRow]:
    """Return closed rows with a delivery in the last `WINDOW` (ms) before `now`, at most `MOST_ROWS`, newest first.

    Some of them may have been closed earlier (index: <table>_closed).
    """
    columns = SUBJECT_TABLES[subject.name].c
    keys = [columns[name] for name in subject.key.__annotations__]
    statement = (
        select(*keys, columns.state, columns.flags, columns.closed_at)
        .where(columns.closed_at.is_not(None), columns.touched_at >= now - WINDOW)
        .order_by(columns.touched_at.desc())
        .limit(MOST_ROWS)
    )
    read_state = subject_rows(subject, dialect_of(connection)).read
    rows = await connection.execute(statement)
    return [ClosedRow(subject.key(*key), read_state(state), flags, at) for *key, state, flags, at in rows]
