"""RabbitMQ closes the channels of consumers that hold deliveries for too long: each delivery is counted once."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg

from promgithub.simulation.histories import Historian
from tests.support import figures
from tests.support.github import GitHub, until
from tests.support.processes import Process
from tests.support.servers.rabbitmq import RabbitServer, node_settings

Start = Callable[..., Process]

TIMEOUT_MS = 1000
CHECKED_MS = 250
TIMED_OUT = "delivery acknowledgement on channel"
"""What RabbitMQ logs when it closes a channel for that reason."""

WORKERS = 2
LIMIT = str(WORKERS)
"""Redeliveries before a delivery becomes a dead letter: one for each consumer that may hold it meanwhile."""

HELD_SECONDS = 6.0
"""How much longer deliveries are held: for several times the timeout."""


@asynccontextmanager
async def locked(database_url: str) -> AsyncIterator[None]:
    """Let no transaction count anything."""
    connection = await asyncpg.connect(database_url)
    async with connection.transaction():
        await connection.execute("LOCK TABLE deliveries")
        yield
    await connection.close()


async def test_deliveries_that_are_held_for_longer_than_the_consumer_timeout_are_counted_once(
    private_rabbit: RabbitServer, start_receiver: Start, start_processor: Start, github: GitHub, database_url: str
) -> None:
    settings = {
        "AMQP_URL": private_rabbit.url,
        "QUEUE_NAME": f"promgithub.test.{secrets.token_hex(6)}",
        "DELIVERY_LIMIT": LIMIT,
    }
    truth = Historian(94).history(140)

    async def timed_out() -> bool | None:
        return private_rabbit.log.count(TIMED_OUT) >= WORKERS or None

    async with AsyncExitStack() as lock:  # noqa: SIM117 - the lock outlives the settings
        async with node_settings(private_rabbit, consumer_timeout=TIMEOUT_MS, channel_tick_interval=CHECKED_MS):
            receiver, processor = start_receiver(**settings), start_processor(EVENT_WORKERS=str(WORKERS), **settings)
            await asyncio.gather(receiver.ready(), processor.ready())
            await lock.enter_async_context(locked(database_url))
            assert await github.send_all(receiver, truth.deliveries) == {202: len(truth.deliveries)}
            await until(timed_out, 30)
            await asyncio.sleep(HELD_SECONDS)
    counted = await github.settled(truth, processor)
    assert figures.value(counted, "promgithub_dead_letters") == 0
