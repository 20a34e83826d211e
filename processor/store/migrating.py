"""Migrates a database's schema to this release. If several processes start together, one of them does it."""

import asyncio
import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from processor.store.engine import dialect_of, transaction
from shared.errors import StoreError

LOCK_KEY = 0x70726F6D6769  # "promgi": PostgreSQL names advisory locks by number

LOCK_TIMEOUT = 60.0
"""How long to wait for another process that is migrating, in seconds."""

_SCRIPTS = Path(__file__).parent / "migrations"

logging.getLogger("alembic").setLevel(logging.WARNING)


async def migrate(engine: AsyncEngine) -> tuple[str | None, str]:
    """Migrate to the newest revision; return the revisions before and after.

    Everything happens in one transaction under a lock that ends with it, so that a crash leaves the old schema and
    nothing locked. Raises `StoreError` if another process holds the lock for too long, or if the schema belongs to a
    newer release; `StoreUnavailable` and `StoreRefused`.
    """
    async with transaction(engine) as connection:
        if dialect_of(connection) == "postgresql":
            await _lock(connection)
        return await connection.run_sync(_upgrade)


async def _lock(connection: AsyncConnection) -> None:
    try:
        async with asyncio.timeout(LOCK_TIMEOUT):
            attempt = text(f"SELECT pg_try_advisory_xact_lock({LOCK_KEY})")
            while not await connection.scalar(attempt):  # noqa: ASYNC110 - another process has the lock
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise StoreError(
            f"another process has been migrating the database for {LOCK_TIMEOUT:.0f} s; "
            f"look for it in pg_stat_activity, or try again"
        ) from None


def _upgrade(connection: Connection) -> tuple[str | None, str]:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    newest = scripts.get_current_head()
    current = MigrationContext.configure(connection).get_current_revision()
    if newest is None or (current is not None and current not in {step.revision for step in scripts.walk_revisions()}):
        raise StoreError(f"the database has schema {current}, which this release does not know; use the newer release")
    if current != newest:
        command.upgrade(config, "head")
    return current, newest
