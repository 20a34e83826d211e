"""The promises of `shared.brokers.interface`, tested with each adapter."""

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from shared.brokers.interface import NOTHING_HELD, Batch, Broker, Consumer, Held
from shared.brokers.rabbitmq import RabbitBroker, Topology
from shared.brokers.spool import SpoolBroker
from shared.delivery import Delivery
from shared.errors import BrokerUnavailable, QueueFull
from shared.settings import SPOOL_MAX_BYTES

SOON = 10.0
AT_ONCE = 1.0
A_MOMENT = 0.3
NO_LINGER = 0.0
MAX_HELD_BYTES = 4_000_000

OpenBroker = Callable[[], Awaitable[Broker]]


@pytest.fixture(params=["rabbitmq", "spool"])
def make_broker(
    request: pytest.FixtureRequest, amqp_url: str, queue_name: str, tmp_path: Path
) -> Callable[[int], Broker]:
    """Give a function that makes a broker of each kind in turn, on the same queue of so many deliveries each time."""
    makers: dict[str, Callable[[int], Broker]] = {
        "rabbitmq": lambda size: RabbitBroker(
            amqp_url, Topology(queue_name, size, 20), "test", max_held_bytes=MAX_HELD_BYTES
        ),
        "spool": lambda size: SpoolBroker(tmp_path / "spool", size, 20, SPOOL_MAX_BYTES, max_held_bytes=MAX_HELD_BYTES),
    }
    return makers[request.param]


@pytest_asyncio.fixture
async def open_broker(make_broker: Callable[[int], Broker]) -> AsyncIterator[OpenBroker]:
    """Give a function that opens the broker, as a process that starts would."""
    async with AsyncExitStack() as stack:

        async def opened() -> Broker:
            broker = await started(make_broker(1000))
            stack.push_async_callback(broker.close)
            return broker

        yield opened


@pytest_asyncio.fixture
async def broker(open_broker: OpenBroker) -> Broker:
    return await open_broker()


async def started(broker: Broker) -> Broker:
    await broker.start()
    assert await broker.ready_within(SOON)
    return broker


def delivery(body: bytes = b"{}") -> Delivery:
    return Delivery(str(uuid.uuid4()), "workflow_job", body, 1_761_000_000_123, "17", "repository", "42")


def deliveries(count: int) -> list[Delivery]:
    return [delivery(b'{"number": %d}' % number) for number in range(count)]


async def publish_all(broker: Broker, given: Iterable[Delivery]) -> None:
    for one in given:
        await broker.publish(one)


async def next_batch(batches: AsyncIterator[Batch]) -> Batch:
    async with asyncio.timeout(SOON):
        return await anext(batches)


async def take(consumer: Consumer, count: int) -> list[Delivery]:
    """Take and ack so many deliveries."""
    taken: list[Delivery] = []
    batches = consumer.batches(count, NO_LINGER)
    while len(taken) < count:
        batch = await next_batch(batches)
        await batch.ack()
        taken += batch.deliveries
    return taken


async def rest(consumer: Consumer) -> list[Delivery]:
    """Take and ack whatever comes until the consumer's iterator ends."""
    taken: list[Delivery] = []
    async with asyncio.timeout(SOON):
        async for batch in consumer.batches(100, NO_LINGER):
            await batch.ack()
            taken += batch.deliveries
    return taken


def ids(given: Iterable[Delivery]) -> list[str]:
    return sorted(one.id for one in given)


# --- What is held ---


async def test_what_consumers_hold_is_known_until_it_is_acked(broker: Broker) -> None:
    old, young = deliveries(2)
    await publish_all(broker, [replace(young, received_at=old.received_at + 5000), old])
    consumer = await broker.consume(10)
    async with asyncio.timeout(SOON):
        while (await broker.depths()).ready + broker.held.deliveries != 2:  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0.01)
    batches = consumer.batches(2, SOON)
    held = await next_batch(batches)

    assert broker.held == Held(2, old.received_at)

    await held.ack()
    waiting = asyncio.create_task(next_batch(batches))
    async with asyncio.timeout(SOON):
        while broker.held != NOTHING_HELD:  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0.01)
    await consumer.stop()
    with suppress(StopAsyncIteration):
        await waiting


async def test_the_payloads_that_are_held_are_limited_in_bytes_and_all_arrive(broker: Broker) -> None:
    large = [delivery(bytes(900_000)) for _ in range(12)]
    taken: set[str] = set()
    sizes: list[int] = []
    holding = 0

    async def work(consumer: Consumer) -> None:
        nonlocal holding
        async for batch in consumer.batches(100, A_MOMENT):
            size = sum(len(one.body) for one in batch.deliveries)
            holding += size
            sizes.append(holding)
            await asyncio.sleep(A_MOMENT)
            holding -= size
            await batch.ack()
            taken.update(one.id for one in batch.deliveries)

    consumers = [await broker.consume(100), await broker.consume(100)]
    async with asyncio.TaskGroup() as tasks:
        for consumer in consumers:
            tasks.create_task(work(consumer))
        await publish_all(broker, large)
        async with asyncio.timeout(60):
            while len(taken) < len(large):  # noqa: ASYNC110 - no event says so
                await asyncio.sleep(0.05)
        for consumer in consumers:
            await consumer.stop()

    assert max(sizes) <= MAX_HELD_BYTES + len(large[0].body)
    assert taken == {one.id for one in large}


async def test_a_delivery_that_is_larger_than_all_that_may_be_held_arrives_alone(broker: Broker) -> None:
    huge, small = delivery(bytes(MAX_HELD_BYTES + 1)), delivery()
    await publish_all(broker, [huge, small])

    taken = await take(await broker.consume(10), 2)

    assert ids(taken) == ids([huge, small])


# --- Publishing ---


async def test_a_delivery_arrives_as_it_was_published(broker: Broker) -> None:
    published = replace(delivery(), source="recovered", host="ghes.example.com")

    await broker.publish(published)

    assert await take(await broker.consume(10), 1) == [published]


async def test_what_github_did_not_say_is_not_known_at_the_other_end(broker: Broker) -> None:
    published = replace(delivery(), hook_id=None, target_type=None, target_id=None)

    await broker.publish(published)

    assert await take(await broker.consume(10), 1) == [published]


@pytest.mark.parametrize(
    "body",
    ['{"name": "Zoë 🦊 \u2028"}'.encode(), bytes(range(256)), b"", os.urandom(3 * 1024 * 1024)],
    ids=["unicode", "every byte", "empty", "3 MiB"],
)
async def test_a_body_arrives_byte_for_byte(broker: Broker, body: bytes) -> None:
    await broker.publish(delivery(body))

    (taken,) = await take(await broker.consume(10), 1)

    assert taken.body == body


async def test_every_delivery_published_at_the_same_time_arrives(broker: Broker) -> None:
    published = deliveries(300)

    await asyncio.gather(*(broker.publish(one) for one in published))

    assert ids(await take(await broker.consume(100), 300)) == ids(published)


async def test_what_was_published_is_there_for_a_process_that_starts_later(open_broker: OpenBroker) -> None:
    published = deliveries(3)
    receiver = await open_broker()
    await publish_all(receiver, published)
    await receiver.close()

    processor = await open_broker()

    assert ids(await take(await processor.consume(10), 3)) == ids(published)


async def test_a_full_queue_says_so_and_takes_deliveries_again_once_it_has_been_emptied(
    make_broker: Callable[[int], Broker],
) -> None:
    broker = await started(make_broker(10))
    try:
        accepted = await fill(broker)
        assert accepted >= 10

        await take(await broker.consume(100), accepted)

        async with asyncio.timeout(SOON):
            while not await accepts(broker):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    finally:
        await broker.close()


async def fill(broker: Broker) -> int:
    """Publish until the queue refuses; return how many it took."""
    for accepted in range(100):
        if not await accepts(broker):
            return accepted
    pytest.fail("a queue of 10 took 100")


async def accepts(broker: Broker) -> bool:
    try:
        await broker.publish(delivery())
    except QueueFull:
        return False
    return True


async def test_closing_waits_for_what_is_on_its_way(open_broker: OpenBroker) -> None:
    broker = await open_broker()
    publishing = [asyncio.create_task(broker.publish(one)) for one in deliveries(100)]
    await asyncio.sleep(0)

    await broker.close()

    assert await asyncio.gather(*publishing) == [None] * 100
    assert (await (await open_broker()).depths()).ready == 100


async def test_a_broker_is_ready_once_it_has_started_and_until_it_is_closed(
    make_broker: Callable[[int], Broker],
) -> None:
    broker = make_broker(10)
    assert not await broker.ready_within(A_MOMENT)

    waiting = asyncio.create_task(broker.ready_within(SOON))
    await broker.start()
    assert await waiting
    assert broker.available

    await broker.close()
    assert not await broker.ready_within(A_MOMENT)


async def test_a_closed_broker_takes_nothing(broker: Broker) -> None:
    await broker.close()

    assert not broker.available
    with pytest.raises(BrokerUnavailable):
        await broker.publish(delivery())


# --- Batches ---


async def test_a_batch_holds_no_more_than_its_size_and_all_arrive_in_order(broker: Broker) -> None:
    published = deliveries(7)
    await publish_all(broker, published)
    batches = (await broker.consume(100)).batches(3, AT_ONCE)

    taken = []
    for _ in range(3):
        batch = await next_batch(batches)
        await batch.ack()
        taken.append(list(batch.deliveries))

    assert taken == [published[:3], published[3:6], published[6:]]


async def test_a_full_batch_does_not_linger(broker: Broker) -> None:
    await publish_all(broker, deliveries(2))
    batches = (await broker.consume(100)).batches(2, 60)

    began = time.monotonic()
    await next_batch(batches)

    assert time.monotonic() - began < AT_ONCE


async def test_a_delivery_waits_for_others_at_most_linger_seconds(broker: Broker) -> None:
    batches = (await broker.consume(100)).batches(10, 2 * A_MOMENT)
    waiting = asyncio.create_task(next_batch(batches))
    began = time.monotonic()
    await publish_all(broker, deliveries(1))
    await asyncio.sleep(A_MOMENT)
    await publish_all(broker, deliveries(1))

    batch = await waiting

    assert len(batch.deliveries) == 2
    assert 1.9 * A_MOMENT < time.monotonic() - began < 2 * A_MOMENT + AT_ONCE


async def test_no_more_than_the_prefetch_is_held_unacked(broker: Broker) -> None:
    await publish_all(broker, deliveries(5))

    held = await next_batch((await broker.consume(2)).batches(10, 60))
    left = await next_batch((await broker.consume(10)).batches(3, 60))

    assert (len(held.deliveries), len(left.deliveries)) == (2, 3)


async def test_a_batch_that_cannot_grow_does_not_linger_and_its_ack_makes_room(broker: Broker) -> None:
    published = deliveries(6)
    await publish_all(broker, published)
    batches = (await broker.consume(2)).batches(10, 60)

    taken: list[Delivery] = []
    for _ in range(3):
        batch = await next_batch(batches)
        await batch.ack()
        taken += batch.deliveries

    assert taken == published


async def test_consumers_share_the_deliveries(broker: Broker) -> None:
    one, other = await broker.consume(10), await broker.consume(10)
    published = deliveries(20)
    await publish_all(broker, published)

    held = await asyncio.gather(*(next_batch(consumer.batches(10, 60)) for consumer in (one, other)))

    assert ids([*held[0].deliveries, *held[1].deliveries]) == ids(published)


# --- Acks ---


async def test_what_was_not_acked_comes_back_one_by_one(open_broker: OpenBroker) -> None:
    published = deliveries(3)
    first = await open_broker()
    await publish_all(first, published)
    assert len((await next_batch((await first.consume(10)).batches(3, 60))).deliveries) == 3
    await first.close()

    batches = (await (await open_broker()).consume(10)).batches(10, 60)
    taken = []
    for _ in range(3):
        batch = await next_batch(batches)
        await batch.ack()
        taken.append(list(batch.deliveries))

    assert [len(batch) for batch in taken] == [1, 1, 1]
    assert ids(one for batch in taken for one in batch) == ids(published)


async def test_what_was_not_acked_comes_back_while_its_new_process_holds_nothing_else(open_broker: OpenBroker) -> None:
    first = await open_broker()
    await publish_all(first, deliveries(3))
    await next_batch((await first.consume(10)).batches(3, 60))
    await first.close()

    second = await open_broker()
    asking = [asyncio.create_task(next_batch((await second.consume(10)).batches(10, NO_LINGER))) for _ in range(2)]
    done, waiting = await asyncio.wait(asking, timeout=SOON, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(A_MOMENT)

    assert (len(done), (await second.depths()).ready) == (1, 2)
    for task in waiting:
        task.cancel()


async def test_what_was_acked_does_not_come_back(open_broker: OpenBroker) -> None:
    first = await open_broker()
    await publish_all(first, deliveries(3))
    await take(await first.consume(10), 3)
    await first.close()

    second = await open_broker()

    assert (await second.depths()).ready == 0


async def test_what_a_consumer_releases_goes_to_others_and_it_gets_no_more(broker: Broker) -> None:
    published = deliveries(6)
    await publish_all(broker, published)
    one = await broker.consume(4)
    batches = one.batches(2, NO_LINGER)
    held = await next_batch(batches)

    await one.release()

    other = await broker.consume(10)
    assert ids(await take(other, 6)) == ids(published)
    await held.ack()
    await broker.publish(delivery())
    assert len(await take(other, 1)) == 1
    with pytest.raises(StopAsyncIteration):
        await next_batch(batches)


async def test_an_ack_for_a_broker_that_is_gone_is_no_error(open_broker: OpenBroker) -> None:
    first = await open_broker()
    await publish_all(first, deliveries(1))
    batch = await next_batch((await first.consume(10)).batches(1, 60))
    await first.close()

    await batch.ack()

    assert len(await take(await (await open_broker()).consume(10), 1)) == 1


# --- Stopping ---


async def test_after_stop_what_had_arrived_is_yielded_and_the_iterator_ends(broker: Broker) -> None:
    published = deliveries(5)
    await publish_all(broker, published)
    consumer = await broker.consume(10)
    await asyncio.sleep(2 * AT_ONCE)

    await consumer.stop()
    await broker.publish(delivery())

    assert await rest(consumer) == published


async def test_stop_ends_an_iterator_that_waits(broker: Broker) -> None:
    consumer = await broker.consume(10)
    waiting = asyncio.create_task(rest(consumer))
    await asyncio.sleep(A_MOMENT)

    await consumer.stop()

    async with asyncio.timeout(AT_ONCE):
        assert await waiting == []


async def test_stop_ends_the_linger(broker: Broker) -> None:
    consumer = await broker.consume(10)
    waiting = asyncio.create_task(next_batch(consumer.batches(10, 60)))
    await broker.publish(delivery())
    await asyncio.sleep(A_MOMENT)

    await consumer.stop()

    async with asyncio.timeout(AT_ONCE):
        assert len((await waiting).deliveries) == 1


async def test_closing_ends_an_iterator_that_waits(broker: Broker) -> None:
    waiting = asyncio.create_task(rest(await broker.consume(10)))
    await asyncio.sleep(A_MOMENT)

    await broker.close()

    async with asyncio.timeout(AT_ONCE):
        assert await waiting == []


# --- Dead letters and depths ---


async def test_a_dead_letter_leaves_the_queue_with_the_ack_and_is_kept(open_broker: OpenBroker) -> None:
    first = await open_broker()
    await publish_all(first, deliveries(2))
    batch = await next_batch((await first.consume(10)).batches(2, 60))

    await batch.dead_letter(batch.deliveries[1], "undecodable", "not JSON")
    await batch.ack()
    await first.close()

    depths = await (await open_broker()).depths()
    assert (depths.ready, depths.dead_letters) == (0, 1)


async def test_a_dead_letter_whose_batch_is_not_acked_comes_back_too(open_broker: OpenBroker) -> None:
    first = await open_broker()
    await publish_all(first, deliveries(1))
    batch = await next_batch((await first.consume(10)).batches(1, 60))

    await batch.dead_letter(batch.deliveries[0], "undecodable", "not JSON")
    await first.close()

    depths = await (await open_broker()).depths()
    assert (depths.ready, depths.dead_letters) == (1, 1)


async def test_depths_count_what_waits_and_know_the_bound(broker: Broker) -> None:
    await publish_all(broker, deliveries(3))

    depths = await broker.depths()

    assert (depths.ready, depths.capacity, depths.dead_letters) == (3, 1000, 0)
