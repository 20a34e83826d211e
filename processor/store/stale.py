"""Finding runs and jobs that are open but cannot be any more."""

from collections.abc import Sequence

from sqlalchemy import and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from processor.fold import RunKey
from processor.lifecycle import GRACE, JOB_LIMITS, RUN_LIMIT, Job, Run
from processor.store.batch import JOB_DECODER, RUN_DECODER
from processor.store.tables import jobs, runs

CHUNK = 500
"""Rows closed in one transaction."""


async def find_runs(connection: AsyncConnection, now: int) -> Sequence[tuple[RunKey, Run, bool]]:
    """Lock and return up to a chunk of stale runs, and whether a later attempt of each exists (index: runs_open).

    Rows that a batch holds are left for the next time.
    """
    later = runs.alias("later")
    superseded = select(later).where(later.c.run_id == runs.c.run_id, later.c.attempt > runs.c.attempt).exists()
    statement = (
        select(runs.c.run_id, runs.c.attempt, runs.c.state, superseded)
        .where(runs.c.phase.is_not(None), runs.c.touched_at < now - GRACE)
        .where(or_(superseded, runs.c.since < now - RUN_LIMIT))
        .limit(CHUNK)
        .with_for_update(skip_locked=True)
    )
    rows = await connection.execute(statement)
    return [((run_id, attempt), RUN_DECODER.decode(state), later) for run_id, attempt, state, later in rows]


async def find_jobs(connection: AsyncConnection, now: int) -> Sequence[tuple[int, Job, bool]]:
    """Lock and return up to a chunk of stale jobs, and whether the run of each has ended (index: jobs_open).

    Rows that a batch holds are left for the next time.
    """
    run_ended = func.coalesce(runs.c.closed_at < now - GRACE, False)
    too_old = [and_(jobs.c.phase == phase, jobs.c.since < now - limit) for phase, (limit, _) in JOB_LIMITS.items()]
    statement = (
        select(jobs.c.job_id, jobs.c.state, run_ended)
        .select_from(jobs)
        .outerjoin(runs, and_(runs.c.run_id == jobs.c.run_id, runs.c.attempt == jobs.c.attempt))
        .where(jobs.c.phase.is_not(None), jobs.c.touched_at < now - GRACE)
        .where(or_(run_ended, *too_old))
        .limit(CHUNK)
        .with_for_update(of=jobs, skip_locked=True)
    )
    rows = await connection.execute(statement)
    return [(job_id, JOB_DECODER.decode(state), ended) for job_id, state, ended in rows]
