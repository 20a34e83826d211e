"""Reads all exposed data in one transaction, so that the values are consistent.

There may be hundreds of thousands of series. Rows are read in chunks, so that the event loop is not blocked: it
continues while the driver waits for a chunk. They stay plain tuples, which need little CPU and memory.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, func, select
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

# Each statement is built once: that costs more CPU time than to execute it.
_HELD = and_(
    leases.c.name == bindparam("lease"), leases.c.holder == bindparam("holder"), leases.c.expires_at > database_now()
)
_NOW = select(database_now()).where(select(leases).where(_HELD).exists())
_COUNTERS = select(*(counters.c[name] for name in ("metric", "labels", "value", "created_at", "held")))
_HISTOGRAMS = select(
    *(histograms.c[name] for name in ("metric", "labels", "sum_ms", "created_at", "held", *BUCKET_COLUMNS))
)
_GAUGE_LABELS = select(gauge_labels.c.metric, gauge_labels.c.labels)


async def read(connection: AsyncConnection, lease: str, holder: str, *, exemplars: bool = False) -> Snapshot | None:
    """Return the snapshot, or None if `holder` does not have the lease at that moment.

    With `exemplars`, it includes the rows that may be exemplars.

    The transaction of `connection` must see one state of the database throughout (REPEATABLE READ).
    """
    return await connection.run_sync(_read, lease, holder, exemplars)


def _read(connection: Connection, lease: str, holder: str, exemplars: bool) -> Snapshot | None:
    now = connection.scalar(_NOW, {"lease": lease, "holder": holder})
    if now is None:
        return None
    tracked = [subject for subject in SUBJECTS if subject.gauges is not None]
    return Snapshot(
        now=now,
        counters=_counters(connection),
        histograms=_histograms(connection),
        opened={subject.name: _opened(connection, subject) for subject in tracked},
        unsettled={subject.name: _unsettled(connection, subject) for subject in tracked},
        gauge_labels=_gauge_labels(connection),
        closed={s.name: recently_closed.read(connection, s, now) for s in tracked} if exemplars else {},
    )


def _counters(connection: Connection) -> Mapping[str, Sequence[CounterRow]]:
    found: dict[str, list[CounterRow]] = defaultdict(list)
    for rows in _chunks(connection, _COUNTERS):
        for metric, labels, value, created_at, held in rows:
            found[metric].append((labels, value, created_at, held))
    return found


def _histograms(connection: Connection) -> Mapping[str, Sequence[HistogramRow]]:
    found: dict[str, list[HistogramRow]] = defaultdict(list)
    for rows in _chunks(connection, _HISTOGRAMS):
        for row in rows:  # unpacking the buckets would take twice as long
            found[row[0]].append((row[1], row[2], row[3], row[5:], row[4]))
    return found


def _gauge_labels(connection: Connection) -> Mapping[str, Sequence[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for rows in _chunks(connection, _GAUGE_LABELS):
        for stem, labels in rows:
            found[stem].append(labels)
    return found


def _opened(connection: Connection, subject: Subject[Any, Any]) -> list[OpenCount]:
    chunks = _chunks(connection, _count_opened(subject))
    return [OpenCount(tuple(row[:-3]), *row[-3:]) for rows in chunks for row in rows]


def _unsettled(connection: Connection, subject: Subject[Any, Any]) -> Mapping[int, int]:
    return {row[0]: row[1] for row in connection.execute(_count_unsettled(subject))}


def _chunks(connection: Connection, statement: Select[*tuple[Any, ...]]) -> Iterator[Sequence[Any]]:
    with connection.execute(statement, execution_options={"yield_per": READ_CHUNK}) as result:
        yield from result.partitions()


@cache
def _count_opened(subject: Subject[Any, Any]) -> Select[*tuple[Any, ...]]:
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
    return select(*labels, rows.c.phase, func.count(), func.min(rows.c.since)).group_by(*labels, rows.c.phase)


@cache
def _count_unsettled(subject: Subject[Any, Any]) -> Select[*tuple[Any, ...]]:
    """Count the rows with each set of pending increments (index: <table>_unsettled)."""
    column = SUBJECT_TABLES[subject.name].c.unsettled
    return select(column, func.count()).where(column.is_not(None)).group_by(column)
