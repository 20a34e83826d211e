"""RabbitMQ loses consumers without a Basic.Cancel. New ones start, and every accepted delivery is counted."""

import asyncio
import gc
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import aio_pika
import pytest

from shared.brokers.interface import Consumer
from shared.brokers.rabbitmq import RabbitBroker, Topology, amqp_consumer
from shared.brokers.rabbitmq.topology import EVERYTHING
from shared.delivery import Delivery
from shared.errors import BrokerError
from tests.support.github import until

SOON = 30.0
IDLE = 2.0


@pytest.fixture(autouse=True)
def short_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amqp_consumer, "IDLE_SECONDS", IDLE, raising=False)


@asynccontextmanager
async def opened(url: str, queue: str, name: str) -> AsyncIterator[RabbitBroker]:
    broker = RabbitBroker(url, Topology(queue, 1000, 20), name)
    await broker.start()
    assert await broker.ready_within(SOON)
    try:
        yield broker
    finally:
        await broker.close()


@asynccontextmanager
async def counting(consumer: Consumer) -> AsyncIterator[set[str]]:
    """Give the IDs of the deliveries that the consumer has acked so far."""
    counted: set[str] = set()

    async def count() -> None:
        async for batch in consumer.batches(100, 0):
            await batch.ack()
            counted.update(delivery.id for delivery in batch.deliveries)

    task = asyncio.create_task(count())
    try:
        yield counted
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def kept() -> int:
    """Return how many objects of the broker, its libraries and asyncio there are in this process."""
    gc.collect()
    # A class may have a descriptor of this name.
    modules = (str(type(thing).__module__).partition(".")[0] for thing in gc.get_objects())
    return sum(module in {"shared", "aiormq", "aio_pika", "pamqp", "asyncio", "_asyncio"} for module in modules)


def delivery() -> Delivery:
    return Delivery(str(uuid.uuid4()), "workflow_job", b"{}", 1_761_000_000_123)


async def replace_queue(url: str, name: str) -> None:
    """Delete the queue and declare it again at once, as another process does that finds it missing."""
    topology = Topology(name, 1000, 20)
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.queue_delete(name)
        queue = await channel.declare_queue(name, durable=True, arguments={**topology.queue_arguments})
        await queue.bind(topology.exchange, EVERYTHING)


async def accepted(broker: RabbitBroker, count: int) -> set[str]:
    """Publish until so many deliveries are accepted; return their IDs."""
    ids: set[str] = set()
    async with asyncio.timeout(SOON):
        while len(ids) < count:
            one = delivery()
            try:
                await broker.publish(one)
            except BrokerError:
                await asyncio.sleep(0.05)
            else:
                ids.add(one.id)
    return ids


async def contain(ids: set[str], *counted: set[str]) -> bool | None:
    return ids <= set().union(*counted) or None


async def test_a_queue_that_another_process_declares_again_at_once_loses_no_delivery_that_is_accepted_afterwards(
    amqp_url: str,
    queue_name: str,
) -> None:
    async with (
        opened(amqp_url, queue_name, "receiver") as receiver,
        opened(amqp_url, queue_name, "processor") as processor,
    ):
        workers = [await processor.consume(100), await processor.consume(100)]
        async with counting(workers[0]) as one, counting(workers[1]) as other:
            for _ in range(3):
                before = await accepted(receiver, 20)
                await until(partial(contain, before, one, other), SOON)
                await replace_queue(amqp_url, queue_name)
                after = await accepted(receiver, 15)
                await until(partial(contain, after, one, other), SOON)


async def test_a_consumer_that_receives_nothing_opens_new_channels_and_keeps_nothing_of_the_old_ones(
    amqp_url: str, queue_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amqp_consumer, "IDLE_SECONDS", 0.05)
    async with opened(amqp_url, queue_name, "processor") as broker, counting(await broker.consume(10)) as counted:
        await asyncio.sleep(3)
        before = kept()

        await asyncio.sleep(6)

        assert kept() - before < 30
        await until(partial(contain, await accepted(broker, 1), counted), SOON)
