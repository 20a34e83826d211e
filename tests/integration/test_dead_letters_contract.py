"""The promises of `shared.brokers.interface.DeadLetters`, tested with each adapter while the roles keep working."""

import asyncio
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio

from shared.brokers.interface import Batch, Broker, Consumer, DeadLetter, DeadLetters
from shared.brokers.rabbitmq import RabbitBroker, Topology, rabbit_dead_letters
from shared.brokers.spool import SpoolBroker, spool_dead_letters
from shared.delivery import Delivery
from shared.errors import QueueFull
from shared.settings import SPOOL_MAX_BYTES

SOON = 20.0

# Replays, and dies as soon as it begins to remove the letter.
CRASHING = """
import asyncio, os, sys
from pathlib import Path
from shared.brokers.rabbitmq import Topology, rabbit_dead_letters
from shared.brokers.rabbitmq.dead_letter_queue import RabbitDeadLetters
from shared.brokers.spool import rows, spool_dead_letters

def crash(*_):
    os._exit(9)

async def main():
    RabbitDeadLetters.drop = rows.drop = crash
    kind, where, queue = sys.argv[1:]
    if kind == "rabbitmq":
        visit = rabbit_dead_letters(where, Topology(queue, 1000, 20))
    else:
        visit = spool_dead_letters(Path(where), 1000, 10**9)
    async with visit as dead_letters:
        async for letter in dead_letters.letters():
            await dead_letters.replay(letter)

asyncio.run(main())
"""


@dataclass(frozen=True)
class Adapter:
    """A broker of some kind on the queue of a test: how to open it, to visit its dead letters, and where it is."""

    open: Callable[[int], Broker]
    visit: Callable[[int], AbstractAsyncContextManager[DeadLetters]]
    address: tuple[str, str, str]


@pytest.fixture(params=["rabbitmq", "spool"])
def adapter(request: pytest.FixtureRequest, amqp_url: str, queue_name: str, tmp_path: Path) -> Adapter:
    if request.param == "spool":
        return Adapter(
            lambda size: SpoolBroker(tmp_path, size, 20, SPOOL_MAX_BYTES),
            lambda size: spool_dead_letters(tmp_path, size, SPOOL_MAX_BYTES),
            ("spool", str(tmp_path), ""),
        )
    return Adapter(
        lambda size: RabbitBroker(amqp_url, Topology(queue_name, size, 20), "test"),
        lambda size: rabbit_dead_letters(amqp_url, Topology(queue_name, size, 20)),
        ("rabbitmq", amqp_url, queue_name),
    )


class Place:
    """A running broker and its dead letters."""

    def __init__(self, adapter: Adapter, broker: Broker, size: int) -> None:
        self.adapter = adapter
        self.broker = broker
        self._size = size

    def visit(self) -> AbstractAsyncContextManager[DeadLetters]:
        """Visit the dead letters, as another process would."""
        return self.adapter.visit(self._size)

    async def bury(self, *deliveries: Delivery) -> None:
        """Publish deliveries and refuse each of them."""
        consumer = await self.broker.consume(1)
        for delivery in deliveries:
            await self.broker.publish(delivery)
            await refuse(await next_batch(consumer.batches(1, 0)))
        await consumer.stop()

    async def look(self) -> list[DeadLetter]:
        """Return all that a visit finds."""
        async with self.visit() as dead_letters:
            return [letter async for letter in dead_letters.letters()]

    async def replay_all(self) -> None:
        """Replay all letters in one visit."""
        async with self.visit() as dead_letters:
            async for letter in dead_letters.letters():
                assert await dead_letters.replay(letter)

    async def comes_to(self, *, ready: int, dead: int) -> None:
        """Wait until the broker says that there are so many deliveries and dead letters."""
        async with asyncio.timeout(SOON):
            while True:
                depths = await self.broker.depths()
                if (depths.ready, depths.dead_letters) == (ready, dead):
                    return
                await asyncio.sleep(0.05)


@pytest_asyncio.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def opened(adapter: Adapter, stack: AsyncExitStack, size: int = 1000) -> Place:
    broker = adapter.open(size)
    await broker.start()
    stack.push_async_callback(broker.close)
    assert await broker.ready_within(SOON)
    return Place(adapter, broker, size)


@pytest_asyncio.fixture
async def place(adapter: Adapter, stack: AsyncExitStack) -> Place:
    return await opened(adapter, stack)


def deliveries(count: int) -> list[Delivery]:
    return [
        Delivery(
            str(uuid.uuid4()),
            "workflow_job",
            b'{"number": %d}' % number,
            1_761_000_000_123,
            "17",
            None,
            "42",
            host="ghes.example.com",
        )
        for number in range(count)
    ]


async def next_batch(batches: AsyncIterator[Batch]) -> Batch:
    async with asyncio.timeout(SOON):
        return await anext(batches)


async def refuse(batch: Batch) -> None:
    await batch.dead_letter(batch.deliveries[0], "undecodable", "not JSON")
    await batch.ack()


async def take(consumer: Consumer, count: int) -> list[Delivery]:
    """Take and ack so many deliveries."""
    taken: list[Delivery] = []
    batches = consumer.batches(count, 0)
    while len(taken) < count:
        batch = await next_batch(batches)
        await batch.ack()
        taken += batch.deliveries
    return taken


def ids(letters: Iterable[DeadLetter]) -> list[str]:
    return sorted(letter.delivery.id for letter in letters)


async def test_a_visit_finds_each_letter_with_its_reason_and_when_it_died(place: Place) -> None:
    dead = deliveries(3)
    before = time.time_ns() // 1_000_000
    await place.bury(*dead)

    letters = await place.look()

    assert [letter.delivery for letter in letters] == dead
    assert {(letter.reason, letter.detail) for letter in letters} == {("undecodable", "not JSON")}
    assert [letter.size for letter in letters] == [len(one.body) for one in dead]
    assert all(before <= (letter.dead_at or 0) <= time.time_ns() // 1_000_000 for letter in letters)


async def test_a_visit_to_no_letters_finds_none(place: Place) -> None:
    async with place.visit() as dead_letters:
        assert dead_letters.total == 0
        assert [letter async for letter in dead_letters.letters()] == []


async def test_a_replayed_letter_is_consumed_as_it_was_published_and_is_no_letter_any_more(place: Place) -> None:
    one, other = deliveries(2)
    await place.bury(one, other)

    await place.replay_all()

    assert await take(await place.broker.consume(10), 2) == [one, other]
    await place.comes_to(ready=0, dead=0)


async def test_a_consumer_that_waits_gets_what_is_replayed(place: Place) -> None:
    (dead,) = deliveries(1)
    await place.bury(dead)
    taking = asyncio.create_task(take(await place.broker.consume(10), 1))

    await place.replay_all()

    assert await asyncio.wait_for(taking, SOON) == [dead]


async def test_dropping_removes_only_what_is_dropped(place: Place) -> None:
    dead = deliveries(5)
    await place.bury(*dead)

    async with place.visit() as dead_letters:
        async for letter in dead_letters.letters():
            if letter.delivery in dead[1:3]:
                assert await dead_letters.drop(letter)

    await place.comes_to(ready=0, dead=3)
    assert ids(await place.look()) == sorted(one.id for one in (dead[0], *dead[3:]))


async def test_looking_fifty_times_changes_nothing(place: Place) -> None:
    dead = deliveries(3)
    await place.bury(*dead)

    for _ in range(50):
        await place.comes_to(ready=0, dead=3)
        letters = await place.look()
        assert {(letter.delivery.id, letter.reason) for letter in letters} == {(one.id, "undecodable") for one in dead}


async def test_a_visit_that_ends_early_leaves_all_letters_where_they_are(place: Place) -> None:
    dead = deliveries(3)
    await place.bury(*dead)

    for _ in range(3):
        async with place.visit() as dead_letters:
            await anext(dead_letters.letters())
            assert dead_letters.total == 3
        await place.comes_to(ready=0, dead=3)

    assert ids(await place.look()) == sorted(one.id for one in dead)


async def test_a_letter_that_is_replayed_and_fails_again_is_not_listed_twice_in_one_visit(place: Place) -> None:
    await place.bury(*deliveries(3))
    consumer = await place.broker.consume(1)
    batches = consumer.batches(1, 0)
    met = 0

    async with place.visit() as dead_letters:
        async for letter in dead_letters.letters():
            met += 1
            await dead_letters.replay(letter)
            await refuse(await next_batch(batches))

    assert met == 3
    await place.comes_to(ready=0, dead=3)


async def test_letters_with_the_same_id_are_letters_of_their_own(place: Place) -> None:
    one, other = deliveries(2)
    dead = [one, replace(other, id=one.id), other]
    await place.bury(*dead)

    async with place.visit() as dead_letters:
        letters = [letter async for letter in dead_letters.letters()]
        await dead_letters.drop(letters[0])
        await dead_letters.replay(letters[2])

    assert [letter.delivery for letter in letters] == dead
    assert await take(await place.broker.consume(10), 1) == [dead[2]]
    await place.comes_to(ready=0, dead=1)


async def test_a_full_queue_refuses_a_replay_and_the_letter_stays(adapter: Adapter, stack: AsyncExitStack) -> None:
    place = await opened(adapter, stack, size=10)
    (dead,) = deliveries(1)
    await place.bury(dead)
    filling = await fill(place.broker)

    with pytest.raises(QueueFull):
        await place.replay_all()

    await place.comes_to(ready=filling, dead=1)
    assert [letter.delivery for letter in await place.look()] == [dead]


async def fill(broker: Broker) -> int:
    """Publish until the queue refuses; return how many it took."""
    for accepted, one in enumerate(deliveries(100)):
        try:
            await broker.publish(one)
        except QueueFull:
            return accepted
    pytest.fail("a queue of 10 took 100")


async def test_a_crash_between_publishing_and_removing_loses_nothing(adapter: Adapter, stack: AsyncExitStack) -> None:
    place = await opened(adapter, stack)
    dead = deliveries(2)
    await place.bury(*dead)
    await place.broker.close()

    crashed = await asyncio.create_subprocess_exec(sys.executable, "-c", CRASHING, *adapter.address)
    assert await asyncio.wait_for(crashed.wait(), SOON) == 9

    # RabbitMQ has the delivery twice then, and the spool once, as its two steps are one transaction.
    place = await opened(adapter, stack)
    duplicates = 1 if adapter.address[0] == "rabbitmq" else 0
    await place.comes_to(ready=duplicates, dead=2)
    assert ids(await place.look()) == sorted(one.id for one in dead)
    assert await take(await place.broker.consume(10), duplicates) == dead[:duplicates]
