"""What RabbitMQ takes out of the queue unseen shows in the balance of deliveries, and what merely waits does not."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from processor import pipeline
from processor.app import Processor
from promgithub.simulation.histories import Historian
from shared.brokers.choice import shared_broker
from shared.settings import ProcessorSettings
from tests.support import balance, figures
from tests.support.figures import Figures
from tests.support.github import GitHub, until
from tests.support.processes import Process
from tests.support.servers.ports import free_port
from tests.support.servers.postgres import PostgresServer, fresh_database
from tests.support.servers.rabbitmq import RabbitServer

Start = Callable[..., Process]

COUNTED = 10
WAITING = 30
POLICIES = {
    "none": "",
    "expires": '{"expires": 1000}',
    "message-ttl": '{"message-ttl": 1000}',
    "max-length with drop-head": '{"max-length": 5, "overflow": "drop-head"}',
}


@asynccontextmanager
async def running(settings: ProcessorSettings) -> AsyncIterator[Processor]:
    stop = asyncio.Event()
    processor = Processor(settings, shared_broker(settings, "test"))
    work = asyncio.create_task(processor.run(stop))
    try:
        yield processor
    finally:
        stop.set()
        await asyncio.wait_for(work, 30)


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.drill
async def test_the_alert_about_missing_deliveries_fires_if_a_policy_removes_them_and_only_then(
    policy: str,
    private_rabbit: RabbitServer,
    private_postgres: PostgresServer,
    start_receiver: Start,
    github: GitHub,
    promtool: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline, "HOLD_SECONDS", 1.0)
    queue = f"promgithub.test.{secrets.token_hex(6)}"
    broker = {"amqp_url": private_rabbit.url, "queue_name": queue}
    receiver = start_receiver(AMQP_URL=private_rabbit.url, QUEUE_NAME=queue)
    await receiver.ready()
    deliveries = Historian(81).history(COUNTED + WAITING).deliveries
    async with fresh_database(private_postgres.url) as database_url:
        settings = ProcessorSettings.model_validate(
            {**broker, "database_url": database_url, "admin_port": free_port(), "prefetch": 2}
        )
        async with running(settings) as processor:

            async def shown() -> Figures:
                return figures.of_families((await processor.gather(openmetrics=False)).collect())

            async def counted() -> Figures | None:
                page = await shown()
                done = figures.total(page, "promgithub_event_processed_total") >= COUNTED
                return page if done and not figures.value(page, "promgithub_event_held") else None

            assert await github.send_all(receiver, deliveries[:COUNTED]) == {202: COUNTED}
            before = await until(counted, 30)
            received = await github.figures(receiver)
            if policy:
                await private_rabbit.ctl("set_policy", "losing", queue.replace(".", "[.]") + "$", policy)
            await private_postgres.kill()
            assert await github.send_all(receiver, deliveries[COUNTED:]) == {202: len(deliveries) - COUNTED}
            await asyncio.sleep(8)  # what is held returns to the queue, and what the policy says has passed
            if policy:
                await private_rabbit.ctl("clear_policy", "losing")
            await private_postgres.start()

            async def drained() -> Figures | None:
                page = await shown()
                there = ("promgithub_event_queue_depth", frozenset()) in page
                empty = there and not figures.value(page, "promgithub_event_queue_depth")
                return page if empty and not figures.value(page, "promgithub_event_held") else None

            await until(drained, 60)
            await asyncio.sleep(2)
            after = await until(drained, 60)
    pages = {"receiver": (received, await github.figures(receiver)), "processor": (before, after)}

    assert await balance.fires(promtool, tmp_path, pages) == bool(policy)
