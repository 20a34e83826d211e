"""A whole pipeline for a test: real processes on real servers.

Fixtures ask for `launcher` last, so that processes end before their queue and database are removed.
"""

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from tests.support.github import SECRET, GitHub
from tests.support.processes import Launcher, Process


@pytest_asyncio.fixture
async def github() -> AsyncIterator[GitHub]:
    async with GitHub() as client:
        yield client


@pytest.fixture
def start_receiver(amqp_url: str, queue_name: str, launcher: Launcher) -> Callable[..., Process]:
    """Give a function that starts a receiver; further settings may be given."""

    def start(**settings: str) -> Process:
        given = {"AMQP_URL": amqp_url, "QUEUE_NAME": queue_name, "WEBHOOK_SECRET": SECRET} | settings
        return launcher.start("ingest", **given)

    return start


@pytest.fixture
def start_processor(amqp_url: str, queue_name: str, database_url: str, launcher: Launcher) -> Callable[..., Process]:
    """Give a function that starts a processor; further settings may be given."""

    def start(**settings: str) -> Process:
        given = {"AMQP_URL": amqp_url, "QUEUE_NAME": queue_name, "DATABASE_URL": database_url} | settings
        return launcher.start("processor", **given)

    return start
