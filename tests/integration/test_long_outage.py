"""During a long outage of the database, the deliveries return to the queue and wait there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from processor import pipeline
from processor.app import Processor
from promgithub.simulation.histories import Historian
from shared.brokers.choice import shared_broker
from shared.settings import ProcessorSettings
from tests.support import figures
from tests.support.github import until
from tests.support.servers.ports import free_port
from tests.support.servers.postgres import PostgresServer, fresh_database

PREFETCH = 40


@asynccontextmanager
async def processor(settings: ProcessorSettings) -> AsyncIterator[None]:
    stop = asyncio.Event()
    running = asyncio.create_task(Processor(settings, shared_broker(settings, "test")).run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(running, 30)


async def is_ready(client: aiohttp.ClientSession, url: str) -> bool | None:
    try:
        async with client.get(f"{url}/readyz") as answer:
            return answer.status == 200 or None
    except aiohttp.ClientConnectionError:
        return None


async def page(client: aiohttp.ClientSession, url: str) -> figures.Figures:
    async with client.get(f"{url}/metrics") as answer:
        return figures.of_text(await answer.text())


async def test_nothing_is_held_for_long_and_everything_is_counted_when_the_database_is_back(
    amqp_url: str, queue_name: str, private_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "HOLD_SECONDS", 4.0)
    truth = Historian(61).history(140)
    async with fresh_database(private_postgres.url) as database_url:
        settings = ProcessorSettings.model_validate(
            {
                "amqp_url": amqp_url,
                "queue_name": queue_name,
                "database_url": database_url,
                "admin_port": free_port(),
                "prefetch": PREFETCH,
                "batch_size": 10,
            }
        )
        url = f"http://127.0.0.1:{settings.admin_port}"
        publisher = shared_broker(settings, "test")

        async with aiohttp.ClientSession() as client, processor(settings):
            await until(lambda: is_ready(client, url), 20)
            await publisher.start()
            await private_postgres.kill()
            assert await publisher.ready_within(20)
            await asyncio.gather(*(publisher.publish(delivery) for delivery in truth.deliveries))

            async def true() -> figures.Figures | None:
                shown = await page(client, url)
                return shown if figures.of_ci(shown) == truth.truth.at_once else None

            async def held() -> bool | None:
                return (await publisher.depths()).ready == len(truth.deliveries) - PREFETCH or None

            async def given_back() -> figures.Figures | None:
                shown = await page(client, url)
                idle = figures.value(shown, "promgithub_event_workers") == 0
                return shown if idle and (await publisher.depths()).ready == len(truth.deliveries) else None

            await until(held, 20)
            assert figures.value(await page(client, url), "promgithub_event_oldest_age_seconds") > 0
            shown = await until(given_back, 20)
            assert figures.value(shown, "promgithub_event_oldest_age_seconds") == 0
            assert figures.value(shown, "promgithub_database_up") == 0
            assert figures.value(shown, "promgithub_broker_up") == 1
            assert figures.value(shown, "promgithub_event_retries_total", cause="connection") > 0

            await private_postgres.start()
            shown = await until(true, 60)
            assert figures.value(shown, "promgithub_dead_letters") == 0
            assert figures.value(shown, "promgithub_database_up") == 1
        await publisher.close()
