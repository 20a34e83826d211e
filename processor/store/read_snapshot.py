"""Reads all exposed data in one transaction, so that the values are consistent.

There may be hundreds of thousands of series. Rows are read in chunks, so that the event loop is not blocked. They stay
plain tuples, which need little CPU and memory.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from processor.counting.all_subjects import SUBJECTS
from processor.counting.jobs import JOBS
from processor.counting.runs import RUNS
from processor.counting.snapshot import CounterRow, HistogramRow, OpenCount, Snapshot
from processor.counting.subjects import Subject
from processor.store import recently_closed
from processor.store.clock import database_now
from processor.store.due import later_attempt
from processor.store.forks import open_branch
from processor.store.tables import BUCKET_COLUMNS, SUBJECT_TABLES, counters, gauge_labels, histograms, leases

READ_CHUNK = 500
"""Rows that are read in one iteration of the event loop, which takes some milliseconds."""


async def read(connection: AsyncConnection, lease: str, holder: str, *, exemplars: bool = False) -> Snapshot | None:
    """Return the snapshot, or None if `holder` does not have the lease at that moment.

    With `exemplars`, it includes the rows that may be exemplars.

    The transaction of `connection` must see one state of the database throughout (REPEATABLE READ).
    """
    held = and_(leases.c.name == lease, leases.c.holder == holder, leases.c.expires_at > database_now())
    now = await connection.scalar(select(database_now()).where(select(leases).where(held).exists()))
    if now is None:
        return None
    tracked = [subject for subject in SUBJECTS if subject.gauges is not None]
    return Snapshot(
        now=now,
        counters=await _counters(connection),
        histograms=await _histograms(connection),
        opened={subject.name: await _opened(connection, subject) for subject in tracked},
        unsettled={subject.name: await _unsettled(connection, subject) for subject in tracked},
        gauge_labels=await _gauge_labels(connection),
        closed={s.name: await recently_closed.read(connection, s, now) for s in tracked} if exemplars else {},
    )


async def _counters(connection: AsyncConnection) -> Mapping[str, Sequence[CounterRow]]:
    columns = counters.c
    found: dict[str, list[CounterRow]] = defaultdict(list)
    statement = select(columns.metric, columns.labels, columns.value, columns.created_at, columns.held)
    async for rows in _chunks(connection, statement):
        for metric, labels, value, created_at, held in rows:
            found[metric].append((labels, value, created_at, held))
    return found


async def _histograms(connection: AsyncConnection) -> Mapping[str, Sequence[HistogramRow]]:
    columns = histograms.c
    buckets = [columns[name] for name in BUCKET_COLUMNS]
    found: dict[str, list[HistogramRow]] = defaultdict(list)
    statement = select(columns.metric, columns.labels, columns.sum_ms, columns.created_at, columns.held, *buckets)
    async for rows in _chunks(connection, statement):
        for metric, labels, sum_ms, created_at, held, *counts in rows:
            found[metric].append((labels, sum_ms, created_at, tuple(counts), held))
    return found


async def _gauge_labels(connection: AsyncConnection) -> Mapping[str, Sequence[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    async for rows in _chunks(connection, select(gauge_labels.c.metric, gauge_labels.c.labels)):
        for stem, labels in rows:
            found[stem].append(labels)
    return found


async def _opened(connection: AsyncConnection, subject: Subject[Any, Any]) -> list[OpenCount]:
    """Count open rows by phase (index: <table>_open). A run with a later attempt does not count as open."""
    columns = SUBJECT_TABLES[subject.name].c
    names: dict[str, ColumnElement[Any]] = {
        name: columns[name] for name in (subject.gauges.label_names if subject.gauges else ())
    }
    if subject is JOBS:
        names["branch"] = open_branch()
    opened = select(*(value.label(name) for name, value in names.items()), columns.phase, columns.since)
    opened = opened.where(columns.phase.is_not(None))
    if subject is RUNS:
        opened = opened.where(~later_attempt())
    rows = opened.subquery()
    labels = [rows.c[name] for name in names]
    statement = select(*labels, rows.c.phase, func.count(), func.min(rows.c.since)).group_by(*labels, rows.c.phase)
    chunks = _chunks(connection, statement)
    return [OpenCount(tuple(row[:-3]), *row[-3:]) async for rows in chunks for row in rows]


async def _unsettled(connection: AsyncConnection, subject: Subject[Any, Any]) -> Mapping[int, int]:
    """Count the rows with each set of pending increments (index: <table>_unsettled)."""
    column = SUBJECT_TABLES[subject.name].c.unsettled
    statement = select(column, func.count()).where(column.is_not(None)).group_by(column)
    return {row[0]: row[1] for row in await connection.execute(statement)}


async def _chunks(connection: AsyncConnection, statement: Select[*tuple[Any, ...]]) -> AsyncIterator[Sequence[Any]]:
    async with connection.stream(statement.execution_options(yield_per=READ_CHUNK)) as result:
        async for rows in result.partitions():
            yield rows
