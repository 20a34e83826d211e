"""What recovery asks of the store: which deliveries it has, how far it came, and which runs and jobs look stuck."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Table, func, or_, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from processor.fold import RunKey
from processor.lifecycle import Job, Run
from processor.store.batch import JOB_DECODER, RUN_DECODER
from processor.store.engine import dialect_of
from processor.store.tables import cursors, deliveries, jobs, runs


@dataclass(frozen=True, slots=True)
class Window:
    """Which open runs and jobs are asked about: no news since `touched_before`, not asked since `asked_before` (ms)."""

    touched_before: int
    asked_before: int
    limit: int


async def known(connection: AsyncConnection, ids: Collection[UUID]) -> set[UUID]:
    """Return which of these deliveries have been counted."""
    return set(await connection.scalars(select(deliveries.c.id).where(deliveries.c.id.in_(ids))))


async def cursor(connection: AsyncConnection, hook: str) -> int | None:
    """Return up to when (Unix ms) the failed deliveries of a hook have been seen to, or None if never."""
    return await connection.scalar(select(cursors.c.failed_at).where(cursors.c.hook == hook))


async def move_cursor(connection: AsyncConnection, hook: str, failed_at: int) -> None:
    """Remember up to when the failed deliveries of a hook have been seen to; never moves back."""
    insert = postgresql.insert if dialect_of(connection) == "postgresql" else sqlite.insert
    statement = insert(cursors).values(hook=hook, failed_at=failed_at)
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=[cursors.c.hook],
            set_={"failed_at": statement.excluded.failed_at},
            where=cursors.c.failed_at < statement.excluded.failed_at,
        )
    )


async def open_runs(connection: AsyncConnection, window: Window) -> Mapping[RunKey, Run]:
    """Return open runs in a window, those first that were asked about longest ago (index: runs_open)."""
    statement = select(runs.c.run_id, runs.c.attempt, runs.c.state).where(*_within(runs, window))
    rows = await connection.execute(statement.order_by(*_longest_ago(runs)).limit(window.limit))
    return {(run_id, attempt): RUN_DECODER.decode(state) for run_id, attempt, state in rows}


async def open_jobs(connection: AsyncConnection, window: Window) -> Mapping[int, Job]:
    """Return open jobs in a window, those first that were asked about longest ago (index: jobs_open).

    The jobs of an attempt come together, as they are asked about together.
    """
    order = (*_longest_ago(jobs), jobs.c.run_id, jobs.c.attempt)
    statement = select(jobs.c.job_id, jobs.c.state).where(*_within(jobs, window))
    rows = await connection.execute(statement.order_by(*order).limit(window.limit))
    return {job_id: JOB_DECODER.decode(state) for job_id, state in rows}


async def asked_runs(connection: AsyncConnection, keys: Collection[RunKey], now: int) -> None:
    """Remember that GitHub was asked about these runs at `now` (Unix ms)."""
    key = tuple_(runs.c.run_id, runs.c.attempt)
    await connection.execute(update(runs).where(key.in_(sorted(keys))).values(asked_at=now))


async def asked_jobs(connection: AsyncConnection, ids: Collection[int], now: int) -> None:
    """Remember that GitHub was asked about these jobs at `now` (Unix ms)."""
    await connection.execute(update(jobs).where(jobs.c.job_id.in_(sorted(ids))).values(asked_at=now))


def _within(table: Table, window: Window) -> Sequence[ColumnElement[bool]]:
    columns = table.c
    return (
        columns.phase.is_not(None),
        columns.touched_at < window.touched_before,
        or_(columns.asked_at.is_(None), columns.asked_at < window.asked_before),
    )


def _longest_ago(table: Table) -> Sequence[ColumnElement[Any]]:
    return func.coalesce(table.c.asked_at, 0), table.c.touched_at
