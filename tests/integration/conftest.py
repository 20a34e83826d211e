"""Fixtures for tests that run on each kind of database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.servers.postgres import fresh_database
from tests.support.worker import Worker, worker


@pytest_asyncio.fixture(params=["postgresql", "sqlite"])
async def store_url(request: pytest.FixtureRequest, postgres_url: str, tmp_path: Path) -> AsyncIterator[str]:
    """Give the URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/promgithub.db"
        return
    async with fresh_database(postgres_url) as url:
        yield url


@pytest_asyncio.fixture
async def counting(store_url: str) -> AsyncIterator[Worker]:
    """Give a worker on a migrated database, of each kind in turn."""
    async with worker(store_url) as made:
        yield made
