"""Large deliveries while nothing can be counted: what a processor holds is bounded in bytes, and nothing is lost."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
import pytest_asyncio

from promgithub.simulation.histories import Historian
from shared.brokers.rabbitmq import RabbitBroker, Topology
from tests.support import figures
from tests.support.github import GitHub, until
from tests.support.processes import Process
from tests.support.servers.postgres import PostgresServer, fresh_database

Start = Callable[..., Process]

MEBIBYTE = 2**20
DELIVERIES = 50
LARGE = 6 * MEBIBYTE
LIMIT = 32 * MEBIBYTE

GROWTH = 160 * MEBIBYTE
"""Bytes by which a processor may grow: half of the payloads. They wait at the broker, except `LIMIT`."""


@pytest_asyncio.fixture
async def broken_url(private_postgres: PostgresServer) -> AsyncIterator[str]:
    async with fresh_database(private_postgres.url) as url:
        yield url


@pytest.mark.drill
async def test_large_deliveries_while_the_database_is_away_wait_at_the_broker_and_are_counted_afterwards(
    private_postgres: PostgresServer,
    broken_url: str,
    amqp_url: str,
    queue_name: str,
    start_processor: Start,
    github: GitHub,
) -> None:
    truth = Historian(71).history(DELIVERIES)
    publisher = RabbitBroker(amqp_url, Topology(queue_name, 1_000_000, 20), "test", publish_timeout=60)
    await publisher.start()
    assert await publisher.ready_within(20)
    processor = start_processor(DATABASE_URL=broken_url, MAX_HELD_BYTES="32MiB")
    await processor.ready()
    before = processor.resident
    await private_postgres.kill()

    largest = 0
    for delivery in truth.deliveries:
        await publisher.publish(replace(delivery, body=delivery.body + b" " * LARGE))
        largest = max(largest, processor.resident)
    for _ in range(50):
        await asyncio.sleep(0.1)
        largest = max(largest, processor.resident)

    async def returned() -> figures.Figures | None:
        shown = await github.figures(processor)
        return shown if figures.value(shown, "promgithub_event_returns_total") else None

    shown = await until(returned, 20)
    assert figures.value(shown, "promgithub_event_held") <= LIMIT // LARGE
    assert largest - before < GROWTH
    assert "exceed MAX_HELD_BYTES" in processor.log

    await private_postgres.start()
    counted = await github.settled(truth, processor, within=120)
    assert figures.value(counted, "promgithub_dead_letters") == 0
    assert figures.value(counted, "promgithub_event_held") == 0
    await publisher.close()
