"""The database fails and recovers under load: the receiver is not affected, and all metrics are correct afterwards."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest
import pytest_asyncio

from promgithub.simulation.histories import Historian
from tests.support import figures
from tests.support.github import GitHub
from tests.support.processes import Process
from tests.support.servers.postgres import PostgresServer, fresh_database

Start = Callable[..., Process]

AWAY_SECONDS = 30

ONCE = {"DELIVERY_LIMIT": "1"}
"""So that a delivery which goes back to the queue over and over, rather than wait in place, ends as a dead letter."""

TERMINATE = """
SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = 'promgithub-processor' AND datname = current_database() AND xact_start IS NOT NULL
"""


@pytest_asyncio.fixture
async def private_url(private_postgres: PostgresServer) -> AsyncIterator[str]:
    """Give the URL of an empty database on a server that may be broken."""
    async with fresh_database(private_postgres.url) as url:
        yield url


async def test_a_database_killed_under_load_delays_and_loses_nothing(
    private_postgres: PostgresServer, private_url: str, start_receiver: Start, start_processor: Start, github: GitHub
) -> None:
    receiver, processor = start_receiver(**ONCE), start_processor(DATABASE_URL=private_url, **ONCE)
    await asyncio.gather(receiver.ready(), processor.ready())
    truth = Historian(11).history(840)
    sending = asyncio.create_task(github.send_all(receiver, truth.deliveries))
    await github.drained(processor, processed=len(truth.deliveries) // 5)

    await private_postgres.kill()
    assert await sending == {202: len(truth.deliveries)}, "the receiver does not need the database"
    await asyncio.sleep(2)
    assert figures.of_ci(await github.figures(processor)) == {}

    await private_postgres.start()
    counted = await github.settled(truth, processor)
    assert figures.value(counted, "promgithub_dead_letters") == 0
    await processor.terminate()


@pytest.mark.drill
async def test_readiness_and_the_queue_show_a_database_outage_of_half_a_minute_and_recover_by_themselves(
    private_postgres: PostgresServer, private_url: str, start_receiver: Start, start_processor: Start, github: GitHub
) -> None:
    receiver, processor = start_receiver(**ONCE), start_processor(DATABASE_URL=private_url, PREFETCH="50", **ONCE)
    await asyncio.gather(receiver.ready(), processor.ready())
    truth = Historian(15).history(840)
    sending = asyncio.create_task(github.send_over(receiver, truth.deliveries, AWAY_SECONDS))
    await github.drained(processor, processed=10)

    await private_postgres.stop()
    await asyncio.sleep(AWAY_SECONDS)
    assert (await receiver.is_ready(), await processor.is_ready()) == (True, False)
    assert figures.value(await github.figures(processor), "promgithub_event_queue_depth") > len(truth.deliveries) / 2

    await private_postgres.start()
    assert await sending == {202: len(truth.deliveries)}
    await processor.ready()
    counted = await github.settled(truth, processor)
    assert figures.value(counted, "promgithub_dead_letters") == 0
    await processor.terminate()


async def test_transactions_that_the_database_ends_over_and_over_are_done_again_in_place(
    start_receiver: Start, start_processor: Start, github: GitHub, database_url: str
) -> None:
    receiver, processor = start_receiver(**ONCE), start_processor(**ONCE)
    await asyncio.gather(receiver.ready(), processor.ready())
    truth = Historian(16).history(1400)
    sending = asyncio.create_task(github.send_over(receiver, truth.deliveries, 10))
    chance = random.Random(16)  # noqa: S311 - a test that fails must fail again
    ended = 0
    connection = await asyncpg.connect(database_url)
    while not sending.done():
        ended += await connection.fetchval(TERMINATE)
        await asyncio.sleep(chance.uniform(0, 0.02))
    await connection.close()

    assert ended >= 10
    assert await sending == {202: len(truth.deliveries)}
    counted = await github.settled(truth, processor)
    assert figures.total(counted, "promgithub_event_processing_failures_total") > 0
    assert figures.value(counted, "promgithub_dead_letters") == 0
