"""All that is exposed, read in one transaction, so that no figure is older than another."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import Table, and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from processor.series import Series
from processor.store.clock import database_now
from processor.store.tables import BUCKET_COLUMNS, counters, histograms, jobs, leases, runs

_LABELS = msgspec.json.Decoder(tuple[str, ...])


@dataclass(frozen=True, slots=True)
class CounterValue:
    """A counter's value, and since when (Unix ms) it counts."""

    series: Series
    value: int
    created_at: int


@dataclass(frozen=True, slots=True)
class HistogramValue:
    """A histogram's sum (ms) and counts per bucket (not cumulative), and since when (Unix ms) it counts."""

    series: Series
    sum_ms: int
    buckets: tuple[int, ...]
    created_at: int


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
    """The store at one moment (`now`, Unix ms, by the database's clock)."""

    now: int
    counters: Sequence[CounterValue]
    histograms: Sequence[HistogramValue]
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


async def _counters(connection: AsyncConnection) -> list[CounterValue]:
    # A series that late news has emptied is as if it had never been.
    columns = counters.c
    statement = select(columns.metric, columns.labels, columns.value, columns.created_at).where(columns.value != 0)
    rows = await connection.execute(statement)
    return [CounterValue((metric, _LABELS.decode(labels)), value, at) for metric, labels, value, at in rows]


async def _histograms(connection: AsyncConnection) -> list[HistogramValue]:
    columns = histograms.c
    buckets = [columns[name] for name in BUCKET_COLUMNS]
    rows = await connection.execute(
        select(columns.metric, columns.labels, columns.sum_ms, columns.created_at, *buckets)
    )
    return [
        HistogramValue((metric, _LABELS.decode(labels)), sum_ms, tuple(counts), at)
        for metric, labels, sum_ms, at, *counts in rows
        if any(counts)
    ]


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
    return [OpenCount(*row) for row in await connection.execute(statement.group_by(*names))]
