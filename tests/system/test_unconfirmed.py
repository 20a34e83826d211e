"""RabbitMQ is killed with messages that it has not confirmed: no accepted delivery is lost or counted twice."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from promgithub.simulation.histories import Historian
from shared.brokers.rabbitmq import RabbitBroker, Topology
from shared.delivery import Delivery
from tests.support import figures
from tests.support.github import GitHub, until
from tests.support.processes import Process
from tests.support.proxy import Proxy
from tests.support.servers.rabbitmq import QUEUE_SETTLED_SECONDS, RabbitServer

Start = Callable[..., Process]

DELIVERIES = 140
CONFIRMED = 70

LONG = {"PUBLISH_TIMEOUT": "9s"}
"""Time enough for all messages to arrive at RabbitMQ before the receiver stops waiting for the first confirm."""

CONCURRENT = 150
BURST = 420


@dataclass(frozen=True)
class Broken:
    """A queue of the test's own on a RabbitMQ that it may kill, and a proxy on the way there."""

    rabbit: RabbitServer
    name: str
    queue: RabbitBroker
    proxy: Proxy

    async def send_unconfirmed(
        self, github: GitHub, receiver: Process, deliveries: Sequence[Delivery]
    ) -> Mapping[int, int]:
        """Send deliveries, and kill RabbitMQ once it has all of them and the receiver has no confirm.

        Returns how often each status was answered.
        """
        there = (await self.queue.depths()).ready + len(deliveries)
        self.proxy.hold_answers()
        sending = asyncio.create_task(github.send_all(receiver, deliveries))

        async def arrived() -> bool | None:
            return (await self.queue.depths()).ready == there or None

        await until(arrived, 20)
        await self.rabbit.kill()
        self.proxy.refuse()
        return await sending

    async def recover(self) -> None:
        """Start RabbitMQ again, and let it be reached."""
        await self.rabbit.start()
        await self.proxy.heal()


@pytest_asyncio.fixture
async def github() -> AsyncIterator[GitHub]:
    """Give a client that sends hundreds of deliveries at a time."""
    async with GitHub(CONCURRENT) as client:
        yield client


@pytest_asyncio.fixture
async def broken(private_rabbit: RabbitServer) -> AsyncIterator[Broken]:
    name = f"promgithub.test.{secrets.token_hex(6)}"
    queue = RabbitBroker(private_rabbit.url, Topology(name, 1_000_000, 20), "test")
    await queue.start()
    assert await queue.ready_within(20)
    await asyncio.sleep(QUEUE_SETTLED_SECONDS)
    async with Proxy(private_rabbit.url) as proxy:
        yield Broken(private_rabbit, name, queue, proxy)
    await queue.close()


async def test_messages_that_were_stored_but_not_confirmed_are_refused_and_count_once_when_they_are_sent_again(
    broken: Broken, start_receiver: Start, start_processor: Start, github: GitHub
) -> None:
    receiver = start_receiver(AMQP_URL=broken.proxy.url, QUEUE_NAME=broken.name, **LONG)
    await receiver.ready()
    truth = Historian(91).history(DELIVERIES)
    confirmed, unconfirmed = truth.deliveries[:CONFIRMED], truth.deliveries[CONFIRMED:]
    assert await github.send_all(receiver, confirmed) == {202: len(confirmed)}
    assert await broken.send_unconfirmed(github, receiver, unconfirmed) == {503: len(unconfirmed)}

    await broken.recover()
    await github.deliver_all(receiver, unconfirmed)
    processor = start_processor(AMQP_URL=broken.rabbit.url, QUEUE_NAME=broken.name)
    await processor.ready()
    counted = await github.settled(truth, processor)
    assert figures.total(counted, "promgithub_duplicate_deliveries_dropped_total") == len(unconfirmed)


async def test_messages_that_were_stored_but_not_confirmed_are_accepted_into_a_spool_and_count_once(
    broken: Broken, start_receiver: Start, start_processor: Start, github: GitHub, tmp_path: Path
) -> None:
    spool = {"SPOOL_DIR": str(tmp_path / "spool")} | LONG
    receiver = start_receiver(AMQP_URL=broken.proxy.url, QUEUE_NAME=broken.name, **spool)
    await receiver.ready()

    async def connected() -> bool | None:
        return figures.value(await github.figures(receiver), "promgithub_broker_up") == 1 or None

    await until(connected, 20)
    truth = Historian(92).history(DELIVERIES)
    confirmed, unconfirmed = truth.deliveries[:CONFIRMED], truth.deliveries[CONFIRMED:]
    assert await github.send_all(receiver, confirmed) == {202: len(confirmed)}
    assert await broken.send_unconfirmed(github, receiver, unconfirmed) == {202: len(unconfirmed)}

    await broken.recover()
    processor = start_processor(AMQP_URL=broken.rabbit.url, QUEUE_NAME=broken.name)
    await processor.ready()
    await github.drained(processor, processed=len(truth.deliveries) + len(unconfirmed))
    counted = await github.settled(truth, processor)
    assert figures.total(counted, "promgithub_duplicate_deliveries_dropped_total") == len(unconfirmed)


@pytest.mark.drill
async def test_a_broker_killed_with_hundreds_of_messages_unconfirmed_loses_nothing_accepted(
    broken: Broken, start_receiver: Start, start_processor: Start, github: GitHub
) -> None:
    settings = {"AMQP_URL": broken.rabbit.url, "QUEUE_NAME": broken.name}
    receiver = start_receiver(**settings)
    await receiver.ready()
    truth = Historian(93).history(BURST)
    sending = [asyncio.create_task(github.deliver(receiver, delivery)) for delivery in truth.deliveries]
    for _, accepted in zip(range(CONCURRENT), asyncio.as_completed(sending), strict=False):
        await accepted
    await broken.rabbit.kill()
    await broken.rabbit.start()
    await asyncio.wait_for(asyncio.gather(*sending), 90)
    assert len(github.refusals) > CONCURRENT / 2, "nothing was in flight"

    processor = start_processor(**settings)
    await processor.ready()
    await github.settled(truth, processor)
