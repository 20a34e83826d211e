"""Two neighbouring releases work side by side: this one understands what each recorded one wrote, and the reverse.

Only the newest recorded release must understand this one. `tests/releases/` has what they wrote;
`tests.support.record_release` writes it.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aio_pika
import pytest
import pytest_asyncio
from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel
from sqlalchemy import inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection

from processor.store import past_rows, recovery
from processor.store.engine import create_engine
from processor.store.migrating import migrate
from shared.brokers.interface import Broker, DeadLetters
from shared.brokers.rabbitmq import RabbitBroker, Topology, rabbit_dead_letters
from shared.brokers.rabbitmq.topology import DEFAULT_QUEUE
from shared.brokers.spool import SpoolBroker, spool_dead_letters
from shared.delivery import Delivery
from shared.settings import SPOOL_MAX_BYTES
from tests.support import figures
from tests.support.expanding import breaks, shape
from tests.support.github import until
from tests.support.receiver import receiver
from tests.support.record_release import record, settle
from tests.support.recorded import RELEASES, VERSIONS, Described, Recorded, as_recorded, describe, message_of, states_of
from tests.support.servers.rabbitmq import take_all
from tests.support.worker import Worker, worker

SOON = 20.0


@pytest.fixture(params=VERSIONS)
def recorded(request: pytest.FixtureRequest) -> Recorded:
    """Give what a release wrote, each release in turn."""
    return Recorded(RELEASES / request.param)


newest = pytest.mark.parametrize("recorded", VERSIONS[-1:], indirect=True)
"""Marks a test of what the release before needs of this one."""


@pytest_asyncio.fixture
async def upgraded(recorded: Recorded, store_url: str) -> AsyncIterator[Worker]:
    """Give a worker of this release on the store of a recorded one, on each kind of database in turn."""
    await recorded.restore_store(store_url)
    async with worker(store_url) as counting:
        yield counting


@dataclass(frozen=True)
class Queue:
    """The queues of a recorded release on RabbitMQ, under the name of the test's queue."""

    url: str
    channel: AbstractChannel
    topology: Topology

    async def publish(self, described: Described) -> None:
        """Publish a message as the recorded release does."""
        exchange = await self.channel.get_exchange(self.topology.exchange)
        await exchange.publish(message_of(described), described["routing_key"])

    async def dead_letter(self, described: Described) -> None:
        """Put a message into the dead-letter queue."""
        await self.channel.default_exchange.publish(message_of(described), self.topology.dead_letter_queue)

    async def take_all(self) -> Sequence[Described]:
        """Take what is in the queue, as any release would find it."""
        return [describe(message) for message in await take_all(self.url, self.topology.queue)]

    def broker(self) -> RabbitBroker:
        """Return the broker of this release."""
        return RabbitBroker(self.url, self.topology, "test")


@pytest_asyncio.fixture
async def queue(recorded: Recorded, amqp_url: str, queue_name: str) -> AsyncIterator[Queue]:
    """Declare the exchange and the queues as the recorded release does."""
    made = recorded.topology
    size, limit = (made["queue_arguments"][name] for name in ("x-max-length", "x-delivery-limit"))
    topology = Topology(queue_name, size, limit)
    renamed = {"x-dead-letter-routing-key": topology.dead_letter_queue}
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(topology.exchange, ExchangeType.TOPIC, durable=True)
        arguments = {**made["queue_arguments"], **renamed}
        main = await channel.declare_queue(topology.queue, durable=True, arguments=arguments)
        await main.bind(exchange, "#")
        arguments = made["dead_letter_queue_arguments"]
        await channel.declare_queue(topology.dead_letter_queue, durable=True, arguments=arguments)
        yield Queue(amqp_url, channel, topology)


@asynccontextmanager
async def started(broker: Broker) -> AsyncIterator[Broker]:
    await broker.start()
    try:
        assert await broker.ready_within(SOON)
        yield broker
    finally:
        await broker.close()


async def take(broker: Broker, count: int) -> list[Delivery]:
    """Take and ack so many deliveries."""
    taken: list[Delivery] = []
    consumer = await broker.consume(100)
    async with asyncio.timeout(SOON):
        async for batch in consumer.batches(100, 0):
            await batch.ack()
            taken += batch.deliveries
            if len(taken) >= count:
                break
    return taken


async def replay_all(visit: DeadLetters) -> list[tuple[Delivery, str]]:
    """Replay every dead letter; return the deliveries and the reasons."""
    letters = [letter async for letter in visit.letters()]
    for letter in letters:
        assert await visit.replay(letter)
    return [(letter.delivery, letter.reason) for letter in letters]


def assert_has_all_of(found: Iterable[Described], recorded: Iterable[Described]) -> None:
    """Check that messages are the recorded ones, except for properties and headers that a later release has added."""
    bare = {message["properties"]["message_id"]: message for message in found}
    for one in recorded:
        message = bare.pop(one["properties"]["message_id"])
        for part in ("properties", "headers"):
            assert {name: message[part].get(name) for name in one[part]} == one[part]
        assert (message["body"], message["routing_key"]) == (one["body"], one["routing_key"])
    assert bare == {}


# --- The store ---


async def test_an_upgrade_keeps_every_figure(upgraded: Worker, recorded: Recorded) -> None:
    figures.assert_equal(as_recorded(await upgraded.figures(), recorded.figures), recorded.figures)


async def sizes(connection: AsyncConnection) -> dict[str, int]:
    tables = await connection.run_sync(lambda plain: inspect(plain).get_table_names())
    return {table: await connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0 for table in tables}  # noqa: S608


@newest
async def test_an_upgrade_only_expands_the_schema_and_keeps_every_row(recorded: Recorded, store_url: str) -> None:
    """The release before goes on working on the new schema until it is stopped: see `breaks`."""
    await recorded.restore_store(store_url)
    engine = create_engine(store_url, connections=1, application="test")
    async with engine.connect() as connection:
        before, rows = await connection.run_sync(shape), await sizes(connection)
    await migrate(engine)
    async with engine.connect() as connection:
        after, kept = await connection.run_sync(shape), await sizes(connection)
    await engine.dispose()
    assert breaks(before, after) == []
    assert {table: kept[table] for table in rows} == rows
    assert min(count for table, count in rows.items()) > 0


@newest
async def test_this_release_reads_what_the_release_before_writes_into_the_new_schema(
    recorded: Recorded, store_url: str
) -> None:
    async with worker(store_url) as counting:
        await recorded.write_rows(store_url)
        figures.assert_equal(as_recorded(await counting.figures(), recorded.figures), recorded.figures)


async def test_recorded_messages_are_counted_exactly_once_on_the_recorded_store(
    upgraded: Worker, recorded: Recorded, queue: Queue
) -> None:
    """The messages end what the store has as open, re-run what it has as failed, and repeat what it has counted."""
    before = await upgraded.figures()
    messages = [*recorded.messages, *recorded.messages]
    for message in messages:
        await queue.publish(message)
    async with started(queue.broker()) as broker:
        left, consumer = len(messages), await broker.consume(100)
        async with asyncio.timeout(SOON):
            async for batch in consumer.batches(5, 0.1):
                await upgraded.pipeline.process(batch)
                left -= len(batch.deliveries)
                if not left:
                    break
        assert (await broker.depths()).dead_letters == 0
    await settle(upgraded)
    after = await upgraded.figures()
    figures.assert_never_down(before, after)
    figures.assert_equal(as_recorded(after, recorded.later_figures), recorded.later_figures)
    running = "promgithub_job_in_progress"
    assert (figures.total(before, running), figures.total(after, running)) == (1, 0)


@newest
async def test_the_rows_of_this_release_can_be_read_by_the_recorded_one(upgraded: Worker, recorded: Recorded) -> None:
    """A state may have further elements at its end, and further flags. Readers ignore both.

    Release 0.1.0 reads a state as an array of at least its own elements. Each element must be one that it knows.
    """
    await upgraded.count(map(delivery_of, recorded.messages))
    await settle(upgraded)
    async with upgraded.engine.connect() as connection:
        states = await connection.run_sync(states_of)
    assert recorded.later_states
    for key, (state, flags) in recorded.later_states.items():
        ours, our_flags = states[key]
        theirs = json.loads(state)
        assert (key, json.loads(ours)[: len(theirs)], our_flags & flags) == (key, theirs, flags)


async def test_what_a_recorded_release_has_counted_is_a_duplicate(upgraded: Worker, recorded: Recorded) -> None:
    async with upgraded.store.connection() as connection:
        counted = {str(guid).replace("-", "") for guid in await connection.scalars(text("SELECT id FROM deliveries"))}
    again = [one for one in map(delivery_of, recorded.messages) if one.id.replace("-", "") in counted]
    assert again
    before = await upgraded.figures()
    await upgraded.count(again)
    assert await upgraded.figures() == before


async def test_a_recorded_backfill_goes_on_where_it_was(upgraded: Worker) -> None:
    metric = "promgithub_workflow_status"
    total = text(f"SELECT sum(value) FROM past WHERE metric = '{metric}'")  # noqa: S608
    async with upgraded.store.connection() as connection:
        backfill = await past_rows.unfinished(connection)
        assert backfill is not None
        assert await recovery.cursor(connection, "acme") == backfill.began_at
        series = [changes async for _, changes in past_rows.read(connection, backfill, metric)]
        assert sum(sum(by.values()) for changes in series for by in changes.values()) == await connection.scalar(total)


# --- Messages ---


def delivery_of(described: Described) -> Delivery:
    """Return the delivery in a recorded message, read independently of the code."""
    properties, headers = described["properties"], described["headers"]
    optional = {name: headers.get(name) for name in ("hook_id", "target_type", "target_id", "source", "host")}
    return Delivery(
        properties["message_id"],
        properties["type"],
        described["body"].encode(),
        headers["received_at"],
        **optional,
    )


def letters_of(recorded: Recorded) -> list[tuple[Delivery, str]]:
    """Return the deliveries and the reasons of the recorded dead letters."""
    assert recorded.dead_letters
    return [(delivery_of(one), one["headers"]["x-promgithub-reason"]) for one in recorded.dead_letters]


@newest
async def test_the_messages_of_this_release_have_all_that_a_recorded_one_wrote(
    recorded: Recorded, queue: Queue
) -> None:
    """The recorded release understands them, as they are like its own.

    Release 0.1.0 requires of a message: the property `message_id`, a GUID; the property `type`, the event; as body the
    payload of that event in JSON. It reads the header `received_at`, an integer of Unix milliseconds, and without it
    the property `timestamp`; and the headers `hook_id`, `target_type`, `target_id`, `source` and `host`, which are text
    or absent. It ignores all other headers and properties.
    """
    async with started(queue.broker()) as broker:
        for message in recorded.messages:
            await broker.publish(delivery_of(message))
    assert_has_all_of(await queue.take_all(), recorded.messages)


async def test_recorded_messages_are_read_as_they_were_meant(recorded: Recorded, queue: Queue) -> None:
    for message in recorded.messages:
        await queue.publish(message)
    async with started(queue.broker()) as broker:
        assert await take(broker, len(recorded.messages)) == [delivery_of(message) for message in recorded.messages]


def test_the_exchange_and_the_queues_have_the_recorded_names(recorded: Recorded) -> None:
    ours, theirs = Topology(DEFAULT_QUEUE, 1000, 20), recorded.topology
    assert (ours.exchange, ours.queue) == (theirs["exchange"], theirs["queue"])
    assert ours.dead_letter_queue == theirs["dead_letter_queue"]


async def test_a_recorded_dead_letter_is_replayed(recorded: Recorded, queue: Queue) -> None:
    for letter in recorded.dead_letters:
        await queue.dead_letter(letter)
    async with rabbit_dead_letters(queue.url, queue.topology) as visit:
        assert await replay_all(visit) == letters_of(recorded)
    assert list(map(delivery_of, await queue.take_all())) == [delivery for delivery, _ in letters_of(recorded)]


# --- The spool ---


async def test_a_recorded_spool_is_forwarded(recorded: Recorded, queue: Queue, tmp_path: Path) -> None:
    recorded.restore_spool(tmp_path / "spool")
    given: dict[str, Any] = {"amqp_url": queue.url, "queue_name": queue.topology.queue, "spool_dir": tmp_path / "spool"}
    async with receiver(**given) as running:

        async def forwarded() -> bool | None:
            count = figures.value(await running.figures(), "promgithub_spool_forwarded_total")
            return count == len(recorded.spooled) or None

        await until(forwarded, SOON)
    assert_has_all_of(await queue.take_all(), recorded.spooled)


async def test_a_recorded_spool_and_its_dead_letters_are_drained(recorded: Recorded, tmp_path: Path) -> None:
    recorded.restore_spool(tmp_path / "spool")
    spooled = list(map(delivery_of, recorded.spooled))
    async with started(SpoolBroker(tmp_path / "spool", 1000, 20, SPOOL_MAX_BYTES)) as spool:
        async with spool_dead_letters(tmp_path / "spool", 1000, SPOOL_MAX_BYTES) as visit:
            assert await replay_all(visit) == letters_of(recorded)
        dead = [delivery for delivery, _ in letters_of(recorded)]
        assert await take(spool, len(spooled) + len(dead)) == [*spooled, *dead]


# --- The next record ---


async def test_this_release_can_be_recorded(amqp_url: str, postgres_url: str, tmp_path: Path) -> None:
    await record(tmp_path, amqp_url, postgres_url)
    for version in VERSIONS:
        assert set(os.listdir(RELEASES / version)) <= set(os.listdir(tmp_path))
