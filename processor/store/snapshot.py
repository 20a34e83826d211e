"""All that is exposed, read in one transaction, so that no figure is older than another.

There may be hundreds of thousands of series: rows come a chunk at a time, so that the event loop has other turns
between, and stay plain tuples of numbers and texts, which cost little to make, to keep and to collect.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Select, Table, and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from processor.store.clock import database_now
from processor.store.tables import BUCKET_COLUMNS, counters, histograms, jobs, leases, runs

CHUNK = 2_000
"""Rows that are fetched, and looked at, in one turn of the event loop: some milliseconds of it."""

CounterRow: TypeAlias = tuple[str, int, int]
"""A counter's label values as a JSON array, its value, and since when (Unix ms) it counts."""

HistogramRow: TypeAlias = tuple[str, int, int, Sequence[int]]
"""A histogram's label values as a JSON array, its sum (ms), since when (Unix ms) it counts, and its counts per bucket
(not cumulative)."""


@dataclass(frozen=True, slots=True)
class OpenCount:
    """How many runs or jobs of one workflow and branch are in a phase, and since when (Unix ms) the oldest is."""

    repository: str
    branch: str
    workflow_name: str
    phase: str
    count: int
    since: int | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The store at one moment (`now`, Unix ms, by the database's clock); series by the name of their metric."""

    now: int
    counters: Mapping[str, Sequence[CounterRow]]
    histograms: Mapping[str, Sequence[HistogramRow]]
    runs: Sequence[OpenCount]
    jobs: Sequence[OpenCount]


async def read(connection: AsyncConnection, lease: str, holder: str) -> Snapshot | None:
    """Return what is to be exposed, or None unless `holder` has the lease at that very moment.

    The transaction of `connection` must see one state of the database throughout (REPEATABLE READ).
    """
    held = and_(leases.c.name == lease, leases.c.holder == holder, leases.c.expires_at > database_now())
    now = await connection.scalar(select(database_now()).where(select(leases).where(held).exists()))
    if now is None:
        return None
    return Snapshot(
        now=now,
        counters=await _counters(connection),
        histograms=await _histograms(connection),
        runs=await _open(connection, runs),
        jobs=await _open(connection, jobs),
    )


async def _counters(connection: AsyncConnection) -> Mapping[str, Sequence[CounterRow]]:
    # A series that late news has emptied is as if it had never been.
    columns = counters.c
    found: dict[str, list[CounterRow]] = defaultdict(list)
    statement = select(columns.metric, columns.labels, columns.value, columns.created_at).where(columns.value != 0)
    async for rows in _chunks(connection, statement):
        for metric, labels, value, created_at in rows:
            found[metric].append((labels, value, created_at))
    return found


async def _histograms(connection: AsyncConnection) -> Mapping[str, Sequence[HistogramRow]]:
    columns = histograms.c
    buckets = [columns[name] for name in BUCKET_COLUMNS]
    found: dict[str, list[HistogramRow]] = defaultdict(list)
    statement = select(columns.metric, columns.labels, columns.sum_ms, columns.created_at, *buckets)
    async for rows in _chunks(connection, statement):
        for metric, labels, sum_ms, created_at, *counts in rows:
            if any(counts):
                found[metric].append((labels, sum_ms, created_at, tuple(counts)))
    return found


async def _open(connection: AsyncConnection, table: Table) -> list[OpenCount]:
    """Count open rows by phase (index: runs_open, jobs_open). A run whose next attempt is known is over."""
    columns = table.c
    names = (columns.repository, columns.branch, columns.workflow_name, columns.phase)
    statement = select(*names, func.count(), func.min(columns.since)).where(columns.phase.is_not(None))
    if table is runs:
        later = runs.alias("later")
        statement = statement.where(
            ~select(later).where(later.c.run_id == columns.run_id, later.c.attempt > columns.attempt).exists()
        )
    chunks = _chunks(connection, statement.group_by(*names))
    return [OpenCount(*row) async for rows in chunks for row in rows]


async def _chunks(connection: AsyncConnection, statement: Select[*tuple[Any, ...]]) -> AsyncIterator[Sequence[Any]]:
    async with connection.stream(statement.execution_options(yield_per=CHUNK)) as result:
        async for rows in result.partitions():
            yield rows
