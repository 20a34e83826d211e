"""Housekeeping by the processor that holds the lease: close stale rows, settle pending increments, release new series,
delete old rows."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from processor.chores import Chore, Supervisor
from processor.counting.catalogue import EXPOSED
from processor.counting.ci_metrics import Catalogue
from processor.counting.fold import close, settle
from processor.counting.subjects import Subject
from processor.counting_log import CountingLog
from processor.due_rows import DueRows, Found
from processor.metrics import WorkerMetrics
from processor.store import Store, due, held_series, merging, retention
from processor.store.due import Selection
from processor.store.lease import Lease
from shared.logs import get_logger

STALE_INTERVAL = 60.0
"""How often stale and unsettled rows are searched, in seconds. A shorter `GRACE` shortens it."""

RETENTION_INTERVAL = 600.0
"""How often old rows are deleted, in seconds."""

RELEASE_INTERVAL = 15.0
"""How often new series are released, in seconds. A shorter `NEW_SERIES_SECONDS` shortens it."""

TRUSTED_SECONDS = 86_400.0
"""After this time since the start of the process, in seconds, the clock is trusted even if most rows have expired."""

MERGE_RETRY = 60.0
"""Pause after the first failure to merge series, in seconds."""

_log = get_logger(__name__)


class Housekeeping:
    """The chores on the store. Each runs in short transactions, and stops when the lease is lost."""

    def __init__(
        self,
        store: Store,
        lease: Lease,
        metrics: WorkerMetrics,
        *,
        grace: timedelta,
        delivery_ttl: timedelta,
        series_ttl: timedelta,
        new_series_seconds: int = 0,
        catalogue: Catalogue = EXPOSED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`grace` is the time after the last delivery about a row before it may be closed or settled.

        `delivery_ttl` and `series_ttl` are how long rows are kept. `new_series_seconds` is how long a new
        series is held. `clock` returns monotonic seconds.
        """
        self._store = store
        self._lease = lease
        self._grace = grace
        self._rules = list(retention.rules(delivery_ttl, series_ttl))
        self._held_for = new_series_seconds
        self._catalogue = catalogue
        self._counting_log = CountingLog()
        self._clock = clock
        self._started = clock()
        self._emptied: list[str] = []
        for rule in self._rules:
            metrics.retention_waiting.labels(rule.table).set_function(partial(self._waits, rule.table))
        self._supervisor = Supervisor(lease, metrics, store.outage)
        self._stale = DueRows("stale", self._close_some, lease, metrics)
        self._unsettled = DueRows("settle", self._settle_some, lease, metrics)

    async def keep(self, stop: asyncio.Event) -> None:
        """Run the chores at their intervals until `stop` is set."""
        interval = min(STALE_INTERVAL, self._grace.total_seconds())
        chores = (
            Chore("stale", interval, self.close_stale),
            Chore("settle", interval, self.settle),
            Chore("release", min(RELEASE_INTERVAL, self._held_for or RELEASE_INTERVAL), self.release),
            Chore("forget", RETENTION_INTERVAL, self.forget),
            Chore("merge", MERGE_RETRY, self.merge, once=True),
        )
        async with asyncio.TaskGroup() as tasks:
            for chore in chores:
                tasks.create_task(self._supervisor.keep(chore, stop))

    async def close_stale(self) -> int:
        """Close all stale rows; return their number."""
        closed = await self._stale.run()
        if closed:
            _log.warning("closed stale runs and jobs, which GitHub has not reported as completed", count=closed)
        return closed

    async def settle(self) -> int:
        """Count the pending increments of rows without a delivery for `grace`; return the number of rows."""
        return await self._unsettled.run()

    async def release(self) -> int:
        """Let scrapers see all series that have been held for long enough; return their number."""
        released = 0
        for table in held_series.TABLES:
            chunk = held_series.RELEASE_CHUNK
            while self._lease.held and chunk == held_series.RELEASE_CHUNK:
                async with self._store.connection() as connection:
                    chunk = await held_series.release(connection, table, self._held_for * 1000)
                released += chunk
        return released

    async def forget(self) -> int:
        """Delete all expired rows; return their number.

        If a table would lose more than half of its rows, no table loses any until the process has run for
        `TRUSTED_SECONDS`: a clock that is wrong for a short time must not delete what was counted.
        """
        self._emptied = await self._find_emptied()
        if self._emptied:
            return 0
        deleted = 0
        for rule in self._rules:
            chunk = retention.DELETE_CHUNK
            while self._lease.held and chunk == retention.DELETE_CHUNK:
                async with self._store.connection() as connection:
                    chunk = await retention.delete_older(connection, rule)
                deleted += chunk
        return deleted

    async def _find_emptied(self) -> list[str]:
        """Return the tables that would lose more than half of their rows, or none once the clock is trusted."""
        left = self._started + TRUSTED_SECONDS - self._clock()
        if left <= 0:
            return []
        async with self._store.connection() as connection:
            emptied = [rule.table for rule in self._rules if await retention.empties(connection, rule)]
        if emptied:
            _log.warning(
                "nothing is deleted yet: more than half of these tables has expired, which a wrong clock may cause",
                tables=emptied,
                hours_left=round(left / 3600, 1),
            )
        return emptied

    def _waits(self, table: str) -> float:
        return float(self._lease.held and table in self._emptied)

    async def merge(self) -> int:
        """Add up the series that differ only in labels that their metric no longer has; return how many were merged.

        A process does this only once, when it first holds the lease. A later merge could remove the labels that a newer
        release has added meanwhile.
        """
        merged = 0
        while self._lease.held:
            async with self._store.connection() as connection:
                found = await merging.find_dropped(connection, self._catalogue)
            if not found:
                break
            async with self._store.connection() as connection:
                merged += await merging.merge(connection, found)
        if merged:
            _log.info("merged series that differ only in labels that their metric no longer has", count=merged)
        return merged

    async def _close_some(self, subject: Subject[Any, Any], selection: Selection, keys: Found) -> None:
        async with self._store.connection() as connection:
            found = await due.find_stale(connection, subject, self._grace_ms, selection)
            keys.extend(key for key, _ in found)
            transaction = self._store.batch_on(connection)
            rows = await transaction.load_keys((subject.name, key) for key in keys)
            tally = close(subject, found, rows)
            await transaction.write(rows, tally, news=False)
        self._counting_log.reports(tally.reports)

    async def _settle_some(self, subject: Subject[Any, Any], selection: Selection, keys: Found) -> None:
        async with self._store.connection() as connection:
            keys.extend(await due.find_unsettled(connection, subject, self._grace_ms, selection))
            transaction = self._store.batch_on(connection)
            rows = await transaction.load_keys((subject.name, key) for key in keys)
            tally = settle(subject, keys, rows)
            await transaction.write(rows, tally, news=False)
        self._counting_log.reports(tally.reports)

    @property
    def _grace_ms(self) -> int:
        return int(self._grace.total_seconds() * 1000)
