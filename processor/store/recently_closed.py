"""Reads the rows that were closed in the last minutes: they may be exemplars."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select

from processor.counting.exemplars import WINDOW
from processor.counting.snapshot import ClosedRow
from processor.counting.subjects import Subject
from processor.store.engine import dialect_of
from processor.store.subject_rows import subject_rows
from processor.store.tables import SUBJECT_TABLES

MOST_ROWS = 500
"""Maximum number of runs, and of jobs, that a scrape reads for exemplars: some milliseconds of CPU time."""


def read(connection: Connection, subject: Subject[Any, Any], now: int) -> Sequence[ClosedRow]:
    """Return closed rows with a delivery in the last `WINDOW` (ms) before `now`, at most `MOST_ROWS`, newest first.

    Some of them may have been closed earlier.
    """
    read_state = subject_rows(subject, dialect_of(connection)).read
    rows = connection.execute(_closed(subject), {"since": now - WINDOW, "most": MOST_ROWS})
    return [ClosedRow(subject.key(*key), read_state(state), flags, at) for *key, state, flags, at in rows]


@cache
def _closed(subject: Subject[Any, Any]) -> Select[*tuple[Any, ...]]:
    """Select the `most` newest closed rows touched after `since` (index: <table>_closed)."""
    columns = SUBJECT_TABLES[subject.name].c
    keys = [columns[name] for name in subject.key.__annotations__]
    return (
        select(*keys, columns.state, columns.flags, columns.closed_at)
        .where(columns.closed_at.is_not(None), columns.touched_at >= bindparam("since"))
        .order_by(columns.touched_at.desc())
        .limit(bindparam("most"))
    )
