"""Statements whose cost must not grow with the history use their indexes, according to PostgreSQL's statistics."""

import uuid
from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import text

from processor.counting.catalogue import EXPOSED
from processor.counting.jobs import JOBS
from processor.counting.runs import RUNS
from processor.housekeeping import Housekeeping
from processor.status.queries import Query
from processor.status.reading import StatusReader
from processor.store import recovery
from processor.store.lease import NAME, Lease, acquire
from tests.support import builders
from tests.support.github import until
from tests.support.worker import HOLDER, HOME, Holder, Worker, worker

FILL = """
INSERT INTO {table} ({key}, state, flags, touched_at{columns})
SELECT {values}, '[]', 0, {now}{moments} FROM generate_series(1001, 20000) n
"""

HISTORY = {
    "runs": ("host, run_id, attempt, fork", "'github.com', n, 1, CASE WHEN n % 10 = 0 THEN true END", True),
    "jobs": ("host, job_id, run_id, attempt", "'github.com', n, n, 1", True),
    "executions": ("fingerprint", "gen_random_uuid()", False),
}
"""The key and link columns of each table, values for them, and whether its rows are closed some day."""

Scans = Mapping[str, tuple[int, int]]
"""How often each table was read from end to end, and through an index."""


async def fill(counting: Worker) -> None:
    """Add a long history of closed runs and jobs, of executions and delivery IDs, and a few that are open or wait.

    All of it is 20 minutes old.
    """
    now = int(counting.now * 1000)
    waiting = [builders.job(i, status="completed", completed=-5, started=0, runner=5) for i in range(30, 40)]
    queued = [builders.job(i) for i in range(20)]
    runs = [builders.run(100 + i, head_repository=builders.FORK if i % 2 else builders.REPOSITORY) for i in range(20)]
    await counting.count(map(builders.delivery, (*queued, *waiting, *runs)))
    async with counting.engine.begin() as connection:
        for table, (key, values, closes) in HISTORY.items():
            columns, moments = (", closed_at", f", {now}") if closes else ("", "")
            fill = FILL.format(table=table, key=key, values=values, columns=columns, moments=moments, now=now)
            await connection.execute(text(fill))
        ids = "INSERT INTO deliveries SELECT gen_random_uuid(), :now FROM generate_series(1, 20000)"
        await connection.execute(text(ids), {"now": now})
    await counting.age(1200)
    async with counting.engine.connect() as connection:
        autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await autocommit.execute(text("VACUUM ANALYZE"))


async def fill_series(counting: Worker) -> None:
    """Add many released series, and a few that are held."""
    await counting.count([builders.delivery(builders.push(repo=builders.repository(f"acme/{n}"))) for n in range(20)])
    many = (
        "INSERT INTO counters SELECT gen_random_uuid(), 'promgithub_push', '{}', 1, false, 0, 0 "
        "FROM generate_series(1, 20000)"
    )
    async with counting.engine.connect() as connection:
        autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await autocommit.execute(text(many))
        await autocommit.execute(text("VACUUM ANALYZE"))


async def scans(counting: Worker, *tables: str) -> Scans:
    """Return how often each table was read from end to end, and through an index."""
    query = (
        "SELECT relname, seq_scan, idx_scan FROM pg_stat_user_tables "  # noqa: S608 - our own names
        f"WHERE relname IN ({', '.join(map(repr, tables))})"
    )
    async with counting.store.connection() as connection:
        return {name: (whole, indexed) for name, whole, indexed in await connection.execute(text(query))}


async def reported(counting: Worker, before: Scans) -> Scans:
    """Wait until every table has been read through an index since `before`; return how often each was read."""

    async def read() -> Scans | None:
        after = await scans(counting, *before)
        return after if all(after[name][1] > before[name][1] for name in before) else None

    return await until(read, 10)


def wholes(read: Scans) -> dict[str, int]:
    """Return how often each table was read from end to end."""
    return {name: whole for name, (whole, _) in read.items()}


async def test_counting_scraping_and_chores_never_read_the_history_from_end_to_end(database_url: str) -> None:
    async with worker(database_url) as counting:
        await fill(counting)
        await counting.engine.dispose()  # a backend reports what it did when it ends
        before = await scans(counting, *HISTORY, "deliveries")
        async with counting.store.connection() as connection:
            await acquire(connection, NAME, HOLDER, 60_000)
        lease = Lease(counting.store, HOLDER, clock=lambda: 0.0)
        await lease.attempt()  # `keep` would go on for ever

        ended = builders.job(8, status="completed", conclusion="failure", started=7, completed=67, runner=5)
        await counting.count([builders.delivery(body) for body in (builders.job(7), ended, builders.run(7))])
        assert await counting.store.snapshot(NAME, HOLDER, exemplars=True) is not None
        async with counting.engine.begin() as connection:
            await connection.execute(text("UPDATE jobs SET since = 0 WHERE phase IS NOT NULL AND job_id < 10"))
            await connection.execute(text("UPDATE runs SET since = 0 WHERE phase IS NOT NULL AND run_id < 110"))
        chores = Housekeeping(
            counting.store,
            lease,
            counting.metrics,
            grace=timedelta(minutes=10),
            delivery_ttl=timedelta(days=8),
            series_ttl=timedelta(days=30),
        )
        assert await chores.settle() == 10
        assert await chores.close_stale() > 0
        await chores.forget()
        async with counting.store.connection() as connection:
            window = recovery.Window(HOME, 0, await recovery.now(connection), 200)
            runs = await recovery.open_rows(connection, RUNS, window)
            jobs = await recovery.open_rows(connection, JOBS, window)
            assert runs
            assert jobs
            await recovery.asked(connection, RUNS, list(runs))
            await recovery.asked(connection, JOBS, list(jobs))
            assert len(await recovery.known(connection, [uuid.uuid4() for _ in range(100)])) == 0
        status = StatusReader(counting.store, EXPOSED)
        assert (await status.open(Query(repository="acme/gears"))).jobs
        assert (await status.failures(Query())).failures
        assert (await status.insights(Query(window="7d"))).by_class
        await counting.engine.dispose()

        after = await reported(counting, before)
        assert wholes(after) == wholes(before)


async def test_the_search_for_series_to_release_reads_only_those_that_are_held(database_url: str) -> None:
    async with worker(database_url) as counting:
        await fill_series(counting)
        await counting.engine.dispose()
        before = await scans(counting, "counters")
        chores = Housekeeping(
            counting.store,
            Holder(counting.store, HOLDER),
            counting.metrics,
            grace=timedelta(minutes=10),
            delivery_ttl=timedelta(days=8),
            series_ttl=timedelta(days=30),
        )
        assert await chores.release() == 40
        await counting.engine.dispose()
        after = await reported(counting, before)
        assert wholes(after) == wholes(before)
