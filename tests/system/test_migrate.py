"""`promgithub migrate` stops at once on SIGTERM, wherever it is, and leaves the schema as it was."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from processor.store.migrating import LOCK_KEY
from tests.support.github import until
from tests.support.processes import Launcher

SOON = 10.0
"""Seconds that a process may take to wait or to end. The lock of the database is awaited for much longer."""

SOMEBODY_MIGRATES = f"SELECT pg_advisory_xact_lock({LOCK_KEY})"
ITS_SESSION = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'promgithub-migrate' AND
"""
THE_LAST_TABLE_IS_TAKEN = "CREATE TABLE backfills ()"


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def _tables(database: asyncpg.Connection) -> int:
    found = await database.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    return int(found)


@pytest.mark.parametrize(
    ("obstacle", "reached"),
    [
        pytest.param(SOMEBODY_MIGRATES, "query LIKE '%pg_try_advisory%'", id="before-it-begins"),
        pytest.param(THE_LAST_TABLE_IS_TAKEN, "wait_event_type = 'Lock'", id="in-its-midst"),
    ],
)
async def test_migrate_stops_on_sigterm_and_leaves_the_schema_as_it_was(
    obstacle: str, reached: str, database: asyncpg.Connection, database_url: str, launcher: Launcher
) -> None:
    held = await asyncpg.connect(database_url)
    blocking = held.transaction()
    await blocking.start()
    await held.execute(obstacle)
    migrating = launcher.start("migrate", DATABASE_URL=database_url)
    await until(lambda: database.fetchval(ITS_SESSION + reached), SOON)

    assert await migrating.terminate(SOON) == 1

    assert migrating.log == "promgithub: stopped before the end; the migration was rolled back, so run it again"
    await blocking.rollback()
    await held.close()
    assert await _tables(database) == 0
    again = launcher.start("migrate", DATABASE_URL=database_url)
    assert await again.ended(SOON) == 0, again.log
    assert await _tables(database) > 0
