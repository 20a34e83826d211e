"""What one processor does for all while it holds the lease: close what is stale, forget what is old."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

from processor.lease import Lease
from processor.lifecycle import stale_job, stale_run
from processor.series import Tally
from processor.store import Store, stale
from processor.store.engine import describe, is_failure
from processor.store.retention import CHUNK, delete_before
from processor.store.tables import counters, deliveries, executions, histograms, jobs, runs
from shared.logs import get_logger
from shared.waiting import is_set_within

STALE_INTERVAL = 60.0
"""Seconds between looks for stale runs and jobs."""

RETENTION_INTERVAL = 600.0
"""Seconds between deletions of what is old."""

CLOSED_KEPT = timedelta(days=30)
"""How long closed runs and jobs are kept: longer than GitHub allows re-runs and redeliveries."""

_log = get_logger(__name__)


class Housekeeping:
    """The chores, each in short transactions that stop when the lease is lost."""

    def __init__(
        self,
        store: Store,
        lease: Lease,
        delivery_ttl: timedelta,
        series_ttl: timedelta,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`delivery_ttl`: how long delivery IDs are kept; `series_ttl`: how long series are that nothing touches."""
        self._store = store
        self._lease = lease
        self._clock = clock
        self._kept = {
            deliveries.c.claimed_at: delivery_ttl,
            executions.c.claimed_at: CLOSED_KEPT,
            runs.c.closed_at: CLOSED_KEPT,
            jobs.c.closed_at: CLOSED_KEPT,
            counters.c.touched_at: series_ttl,
            histograms.c.touched_at: series_ttl,
        }

    async def keep(self, stop: asyncio.Event) -> None:
        """Do the chores at their intervals until `stop` is set."""
        async with asyncio.TaskGroup() as chores:
            chores.create_task(self._every(STALE_INTERVAL, self.close_stale, stop))
            chores.create_task(self._every(RETENTION_INTERVAL, self.forget, stop))

    async def close_stale(self) -> int:
        """Close every stale run and job; return how many there were."""
        closed = 0
        while self._lease.held and (chunk := await self._close_some()):
            closed += chunk
        if closed:
            _log.warning("closed runs and jobs whose end was never heard of", count=closed)
        return closed

    async def forget(self) -> int:
        """Delete all that is older than it is kept; return how many rows that were."""
        deleted = 0
        now = self._clock()
        for column, kept in self._kept.items():
            before = int((now - kept.total_seconds()) * 1000)
            chunk = CHUNK
            while self._lease.held and chunk == CHUNK:
                async with self._store.connection() as connection:
                    chunk = await delete_before(connection, column, before)
                deleted += chunk
        return deleted

    async def _close_some(self) -> int:
        now = int(self._clock() * 1000)
        async with self._store.connection() as connection:
            transaction = self._store.batch_on(connection, now)
            stale_runs = {
                key: stale_run(run, superseded=superseded)
                for key, run, superseded in await stale.find_runs(connection, now)
            }
            stale_jobs = {
                job_id: stale_job(job, run_ended=ended) for job_id, job, ended in await stale.find_jobs(connection, now)
            }
            tally = Tally()
            for kind, closed in (("run", stale_runs.values()), ("job", stale_jobs.values())):
                for known in closed:
                    tally.count("promgithub_stale", kind, known.stale)
            await transaction.save_runs(stale_runs)
            await transaction.save_jobs(stale_jobs)
            await transaction.add(tally)
        return len(stale_runs) + len(stale_jobs)

    async def _every(self, interval: float, chore: Callable[[], Awaitable[int]], stop: asyncio.Event) -> None:
        while not await is_set_within(stop, interval):
            if not self._lease.held:
                continue
            try:
                await chore()
            except Exception as error:
                if not is_failure(error):
                    raise
                _log.warning("a chore will be done later", chore=chore.__name__, error=describe(error))
