"""A delivery that can never be counted becomes a dead letter, and does not affect others."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

import asyncpg
import pytest
import pytest_asyncio

from promgithub.simulation.histories import Historian
from shared.brokers.rabbitmq import RabbitBroker, Topology
from shared.delivery import Delivery
from shared.settings import ProcessorSettings
from tests.support import builders, figures
from tests.support.github import GitHub
from tests.support.processes import Process
from tests.support.servers.rabbitmq import take_all

Start = Callable[..., Process]
Publish = Callable[[Iterable[Delivery]], Awaitable[None]]

GOOD = 10_000
REFUSED_JOB = 13


@pytest_asyncio.fixture
async def publish(amqp_url: str, queue_name: str) -> AsyncIterator[Publish]:
    """Give a function that puts deliveries into the queue, as a receiver would."""
    size = ProcessorSettings.model_fields["event_queue_size"].default
    limit = ProcessorSettings.model_fields["delivery_limit"].default
    broker = RabbitBroker(amqp_url, Topology(queue_name, size, limit), "test", publish_timeout=60)
    await broker.start()
    assert await broker.ready_within(10)

    async def publish_all(deliveries: Iterable[Delivery]) -> None:
        await asyncio.gather(*(broker.publish(delivery) for delivery in deliveries))

    yield publish_all
    await broker.close()


async def refuse_one_job(database_url: str) -> None:
    """Let the database refuse one job, for a reason that nothing before it can foresee."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(f"ALTER TABLE jobs ADD CONSTRAINT refused CHECK (job_id <> {REFUSED_JOB})")
    await connection.close()


@pytest.mark.drill
async def test_a_poison_delivery_among_ten_thousand_becomes_a_dead_letter_and_costs_no_other(
    publish: Publish, start_processor: Start, github: GitHub, amqp_url: str, queue_name: str, database_url: str
) -> None:
    truth = Historian(31).history(GOOD)
    undecodable = builders.delivery({"workflow_job": {"id": "one"}}, event="workflow_job")
    refused = builders.delivery(builders.job(REFUSED_JOB))
    processor = start_processor()
    await processor.ready()
    await refuse_one_job(database_url)

    third = GOOD // 3
    good = truth.deliveries
    await publish([*good[:third], undecodable, *good[third : 2 * third], refused, *good[2 * third :]])
    counted = await github.settled(truth, processor)

    assert figures.total(counted, "promgithub_event_processed_total") == GOOD
    reasons = {undecodable.id: "undecodable", refused.id: "refused"}
    for reason in reasons.values():
        assert figures.total(counted, "promgithub_event_dropped_total", reason=reason) == 1
    letters = await take_all(amqp_url, f"{queue_name}.dead")
    assert {letter.message_id: letter.headers["x-promgithub-reason"] for letter in letters} == reasons
    assert len(letters) == len(reasons)
