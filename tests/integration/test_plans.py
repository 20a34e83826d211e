"""What must follow the open work and not the history uses the indexes made for it: PostgreSQL keeps count."""

import uuid
from datetime import timedelta

from sqlalchemy import text

from processor.housekeeping import Housekeeping
from processor.lease import NAME, Lease
from processor.store import leases, recovery
from tests import builders
from tests.github import until
from tests.worker import HOLDER, Worker, worker

FILL = """
INSERT INTO {table} ({key}, state, closed_at, touched_at)
SELECT n, 1, '[]', {now}, {now} FROM generate_series(1001, 20000) n
"""


async def fill(counting: Worker) -> None:
    """Add a long history of closed runs and jobs and of delivery IDs, and a few open jobs."""
    now = int(counting.now * 1000)
    await counting.count([builders.delivery(builders.job(i)) for i in range(20)])
    async with counting.engine.begin() as connection:
        for table, key in (("runs", "run_id, attempt"), ("jobs", "job_id, attempt")):
            await connection.execute(text(FILL.format(table=table, key=key, now=now)))
        ids = "INSERT INTO deliveries SELECT gen_random_uuid(), :now FROM generate_series(1, 20000)"
        await connection.execute(text(ids), {"now": now})
    async with counting.engine.connect() as connection:
        autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await autocommit.execute(text("VACUUM ANALYZE"))


async def scans(counting: Worker) -> dict[str, tuple[int, int]]:
    """Return how often each table was read from end to end, and through an index."""
    query = (
        "SELECT relname, seq_scan, idx_scan FROM pg_stat_user_tables WHERE relname IN ('runs', 'jobs', 'deliveries')"
    )
    async with counting.store.connection() as connection:
        return {name: (whole, indexed) for name, whole, indexed in await connection.execute(text(query))}


async def test_counting_scraping_and_chores_never_read_the_history_from_end_to_end(database_url: str) -> None:
    async with worker(database_url) as counting:
        await fill(counting)
        await counting.engine.dispose()  # a backend reports what it did when it ends
        before = await scans(counting)
        async with counting.store.connection() as connection:
            await leases.acquire(connection, NAME, HOLDER, 60_000)
        lease = Lease(counting.store, HOLDER, clock=lambda: 0.0)
        await lease.attempt()  # `keep` would go on for ever

        await counting.count([builders.delivery(builders.job(7)), builders.delivery(builders.run(7))])
        assert await counting.store.snapshot(NAME, HOLDER) is not None
        chores = Housekeeping(
            counting.store, lease, timedelta(days=8), timedelta(days=30), clock=lambda: counting.now + 700
        )
        assert await chores.close_stale() > 0
        await chores.forget()
        now = int((counting.now + 700) * 1000)
        async with counting.store.connection() as connection:
            window = recovery.Window(now, now, 200)
            stuck = await recovery.open_runs(connection, window), await recovery.open_jobs(connection, window)
            await recovery.asked_runs(connection, list(stuck[0]), now)
            await recovery.asked_jobs(connection, list(stuck[1]), now)
            assert len(await recovery.known(connection, [uuid.uuid4() for _ in range(100)])) == 0
        await counting.engine.dispose()

        async def reported() -> dict[str, tuple[int, int]] | None:
            after = await scans(counting)
            return after if all(after[name][1] > before[name][1] for name in before) else None

        after = await until(reported, 10)
        assert {name: whole for name, (whole, _) in after.items()} == {
            name: whole for name, (whole, _) in before.items()
        }
