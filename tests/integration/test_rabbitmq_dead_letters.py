"""Dead letters in RabbitMQ: those that RabbitMQ creates itself, and failures during a visit."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aio_pika
import pytest
import pytest_asyncio
from aio_pika.abc import AbstractChannel, HeadersType
from aio_pika.exceptions import ChannelNotFoundEntity, DeliveryError

from shared.brokers.interface import DeadLetter
from shared.brokers.rabbitmq import RabbitBroker, Topology, rabbit_dead_letters
from shared.delivery import Delivery
from shared.errors import BrokerUnavailable
from tests.support.servers.ports import free_port
from tests.support.servers.rabbitmq import QUEUE_SETTLED_SECONDS, RabbitServer, node_settings, take_all

SOON = 20.0


@pytest_asyncio.fixture
async def raw(amqp_url: str) -> AsyncIterator[AbstractChannel]:
    """Give a channel to the session's broker."""
    async with await aio_pika.connect(amqp_url) as connection:
        yield await connection.channel()


@asynccontextmanager
async def broker(url: str, topology: Topology) -> AsyncIterator[RabbitBroker]:
    made = RabbitBroker(url, topology, "test")
    await made.start()
    try:
        assert await made.ready_within(SOON)
        yield made
    finally:
        await made.close()


async def look(url: str, topology: Topology) -> list[DeadLetter]:
    async with rabbit_dead_letters(url, topology) as dead_letters:
        return [letter async for letter in dead_letters.letters()]


async def put(raw: AbstractChannel, queue: str, **properties: object) -> None:
    """Put a message into a queue by hand."""
    message = aio_pika.Message(b"{}", delivery_mode=2, **properties)  # type: ignore[arg-type]
    await raw.default_exchange.publish(message, queue)


async def fill(raw: AbstractChannel, queue: str) -> None:
    """Put messages into a queue until it is full."""
    with suppress(DeliveryError):
        while True:
            await put(raw, queue)


async def dead_letters_come_to(broker: RabbitBroker, count: int) -> None:
    async with asyncio.timeout(SOON):
        while (await broker.depths()).dead_letters != count:  # noqa: ASYNC110 - RabbitMQ does not say when
            await asyncio.sleep(0.05)


async def test_a_letter_that_rabbitmq_made_says_that_it_was_the_delivery_limit_and_can_be_replayed(
    amqp_url: str, queue_name: str
) -> None:
    topology = Topology(queue_name, 1000, 1)
    crasher = Delivery("d1", "push", b"{}", 1_761_000_000_000)
    before = int(time.time())
    async with broker(amqp_url, topology) as receiver:
        await receiver.publish(crasher)
        for _ in range(2):
            async with broker(amqp_url, topology) as processor:
                await anext((await processor.consume(1)).batches(1, 0))
        await dead_letters_come_to(receiver, 1)

        async with rabbit_dead_letters(amqp_url, topology) as dead_letters:
            letter = await anext(dead_letters.letters())
            await dead_letters.replay(letter)

        assert (letter.delivery, letter.reason) == (crasher, "delivery_limit")
        assert letter.detail == f"dead-lettered by RabbitMQ from {queue_name}"
        assert before * 1000 <= (letter.dead_at or 0) <= time.time() * 1000
        batch = await anext((await receiver.consume(1)).batches(1, 0))
        assert batch.deliveries == [crasher]
        await batch.ack()
        await dead_letters_come_to(receiver, 0)


async def test_a_delivery_at_its_limit_waits_in_the_queue_while_the_dead_letter_queue_is_full(
    private_rabbit: RabbitServer, queue_name: str
) -> None:
    url, topology = private_rabbit.url, Topology(queue_name, 1, 1)
    crasher = Delivery("d1", "push", b"{}", 1_761_000_000_000)
    async with (
        node_settings(private_rabbit, dead_letter_worker_publisher_confirm_timeout=500),
        broker(url, topology) as receiver,
        await aio_pika.connect(url) as connection,
    ):
        raw = await connection.channel()
        await fill(raw, topology.dead_letter_queue)
        full = (await receiver.depths()).dead_letters
        await receiver.publish(crasher)
        for _ in range(2):
            async with broker(url, topology) as processor:
                await anext((await processor.consume(1)).batches(1, 0))
        await asyncio.sleep(2)
        assert (await receiver.depths()).dead_letters == full

        assert len(await take_all(url, topology.dead_letter_queue)) == full
        await dead_letters_come_to(receiver, 1)
        async with rabbit_dead_letters(url, topology) as dead_letters:
            letter = await anext(dead_letters.letters())
        assert (letter.delivery, letter.reason) == (crasher, "delivery_limit")


async def test_looking_fifty_times_loses_nothing_in_a_queue_with_the_delivery_limit_of_rabbitmq_4(
    amqp_url: str, queue_name: str, raw: AbstractChannel
) -> None:
    topology = Topology(queue_name, 1000, 20)
    limited: HeadersType = {"x-queue-type": "quorum", "x-delivery-limit": 20}
    await raw.declare_queue(topology.dead_letter_queue, durable=True, arguments=limited)
    async with broker(amqp_url, topology) as receiver:
        consumer = await receiver.consume(1)
        batches = consumer.batches(1, 0)
        for name in ("d1", "d2"):
            await receiver.publish(Delivery(name, "push", b"{}", 1_761_000_000_000))
            batch = await anext(batches)
            await batch.dead_letter(batch.deliveries[0], "undecodable", "not JSON")
            await batch.ack()
        await dead_letters_come_to(receiver, 2)
        first = await look(amqp_url, topology)

        for _ in range(50):
            await dead_letters_come_to(receiver, 2)
            async with rabbit_dead_letters(amqp_url, topology) as dead_letters:
                await anext(dead_letters.letters())  # and no further, so that the first is taken more often
        letters = await look(amqp_url, topology)

    def known(given: list[DeadLetter]) -> set[tuple[Delivery, str, str, int | None]]:
        return {(letter.delivery, letter.reason, letter.detail, letter.dead_at) for letter in given}

    assert len(letters) == 2
    assert known(letters) == known(first)


async def test_a_message_that_a_person_put_into_the_dead_letter_queue_is_a_letter(
    amqp_url: str, queue_name: str, raw: AbstractChannel
) -> None:
    topology = Topology(queue_name, 1000, 20)
    async with broker(amqp_url, topology) as receiver:
        odd: list[dict[str, object]] = [
            {},
            {"headers": {"x-death": "never", "x-promgithub-dead-at": True, "x-promgithub-reason": [1]}},
            {"headers": {"x-death": [], "x-promgithub-dead-at": -1}},
            {"headers": {"x-death": [{"time": "noon", "reason": 7, "queue": None}], "x-promgithub-dead-at": 2**62}},
        ]
        for properties in odd:
            await put(raw, topology.dead_letter_queue, **properties)
        await dead_letters_come_to(receiver, len(odd))
        letters = await look(amqp_url, topology)
    assert [letter.dead_at for letter in letters] == [None] * len(odd)
    assert [letter.reason for letter in letters] == ["unknown", "unknown", "unknown", "7"]


async def test_a_second_visit_at_the_same_time_is_refused_and_another_after_it_is_not(
    amqp_url: str, queue_name: str
) -> None:
    topology = Topology(queue_name, 1000, 20)
    async with broker(amqp_url, topology):
        async with rabbit_dead_letters(amqp_url, topology):
            with pytest.raises(BrokerUnavailable, match="another promgithub dead-letters is running"):
                await look(amqp_url, topology)
        assert await look(amqp_url, topology) == []


async def test_a_visit_to_a_queue_that_is_not_there_says_so_and_makes_none(
    amqp_url: str, queue_name: str, raw: AbstractChannel
) -> None:
    with pytest.raises(BrokerUnavailable, match=f"{queue_name}.dead: RabbitMQ has no such queue"):
        await look(amqp_url, Topology(queue_name, 1000, 20))
    with pytest.raises(ChannelNotFoundEntity):
        await raw.declare_queue(f"{queue_name}.dead", passive=True)


async def test_a_broker_that_is_away_is_an_error_within_ten_seconds(queue_name: str) -> None:
    url = f"amqp://guest:guest@127.0.0.1:{free_port()}/"
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=r"no connection to RabbitMQ at 127\.0\.0\.1:\d+ in 10 s \(.+\)"):
        await look(url, Topology(queue_name, 1000, 20))
    assert time.monotonic() - began < 15


async def test_a_broker_that_dies_during_a_visit_is_an_error_and_loses_no_letter(
    private_rabbit: RabbitServer, queue_name: str
) -> None:
    topology = Topology(queue_name, 1000, 20)
    async with broker(private_rabbit.url, topology), await aio_pika.connect(private_rabbit.url) as connection:
        for _ in range(3):
            await put(await connection.channel(), topology.dead_letter_queue)
    await asyncio.sleep(QUEUE_SETTLED_SECONDS)
    with pytest.raises(BrokerUnavailable, match="RabbitMQ"):
        await _die_in_a_visit(private_rabbit, topology)
    await private_rabbit.start()
    async with broker(private_rabbit.url, topology) as back:
        await dead_letters_come_to(back, 3)


async def _die_in_a_visit(server: RabbitServer, topology: Topology) -> None:
    async with rabbit_dead_letters(server.url, topology) as dead_letters:
        async for _ in dead_letters.letters():
            await server.kill()
