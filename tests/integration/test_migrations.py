"""The migrated schema matches the code, even if several processes migrate at the same time."""

import asyncio

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

from processor.store.engine import create_engine
from processor.store.migrating import migrate
from processor.store.tables import metadata
from shared.errors import StoreError


def differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), metadata))


async def test_migrations_make_the_tables_that_the_code_uses(store_url: str) -> None:
    engine = create_engine(store_url, connections=1, application="test")
    assert (await migrate(engine))[0] is None
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    before, after = await migrate(engine)
    assert before == after
    await engine.dispose()


async def test_processes_that_start_together_migrate_once(database_url: str) -> None:
    engines = [create_engine(database_url, connections=1, application="test") for _ in range(6)]
    results = await asyncio.gather(*(migrate(engine) for engine in engines))
    assert sorted(before is None for before, _ in results) == [False] * 5 + [True]
    for engine in engines:
        await engine.dispose()


async def test_a_schema_of_a_newer_release_is_refused_with_a_clear_error(store_url: str) -> None:
    engine = create_engine(store_url, connections=1, application="test")
    await migrate(engine)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match=r"9999.*newer release"):
        await migrate(engine)
    await engine.dispose()
