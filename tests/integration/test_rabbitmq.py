"""Tests specific to RabbitMQ: message properties for other clients, foreign messages, and broker failures."""

import asyncio
import gc
import struct
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import aio_pika
import pytest
import pytest_asyncio
from aio_pika.abc import AbstractChannel, HeadersType
from aio_pika.exceptions import ChannelPreconditionFailed
from aiormq import spec
from structlog.testing import capture_logs
from yarl import URL

from shared.brokers.interface import Batch, Consumer
from shared.brokers.rabbitmq import RabbitBroker, Topology
from shared.delivery import Delivery
from shared.errors import BrokerError, BrokerUnavailable, MessageTooLarge
from tests.support.proxy import Proxy
from tests.support.servers.rabbitmq import QUEUE_SETTLED_SECONDS, RabbitServer, largest_message, memory_alarm

SOON = 20.0
AT_ONCE = 1.0
A_MOMENT = 0.5
DEADLINE = 2.0
MEBIBYTE = 1024 * 1024
HEARTBEAT_GRACE = 3
"""Intervals after which aiormq closes a connection from which it has read nothing."""

RECEIVED_AT = 1_761_000_000_123


# --- Brokers, deliveries, and the network between ---


Brokers = Callable[..., RabbitBroker]


@pytest_asyncio.fixture
async def brokers(queue_name: str) -> AsyncIterator[Brokers]:
    """Give a function that makes a broker on the test's queue at a URL, and closes it after the test."""
    async with AsyncExitStack() as stack:

        def make(
            url: str, size: int = 1000, delivery_limit: int = 20, publish_timeout: float = DEADLINE
        ) -> RabbitBroker:
            broker = RabbitBroker(url, Topology(queue_name, size, delivery_limit), "test", publish_timeout)
            stack.push_async_callback(broker.close)
            return broker

        yield make


@pytest_asyncio.fixture
async def proxy(amqp_url: str) -> AsyncIterator[Proxy]:
    """Give a proxy to the session's broker."""
    async with Proxy(amqp_url) as made:
        yield made


@pytest_asyncio.fixture
async def broker(brokers: Brokers, amqp_url: str) -> RabbitBroker:
    return await started(brokers(amqp_url))


@pytest_asyncio.fixture
async def raw(amqp_url: str) -> AsyncIterator[AbstractChannel]:
    """Give another client's channel."""
    async with raw_channel(amqp_url) as channel:
        yield channel


@asynccontextmanager
async def raw_channel(url: str) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(url) as connection:
        yield await connection.channel(on_return_raises=True)


async def started(broker: RabbitBroker) -> RabbitBroker:
    await broker.start()
    assert await broker.ready_within(SOON)
    return broker


async def until(condition: Callable[[], bool], seconds: float = SOON) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


async def eventually(action: Callable[[], Awaitable[Any]], seconds: float = SOON) -> None:
    """Repeat an action until the broker lets it pass."""
    async with asyncio.timeout(seconds):
        while True:
            with suppress(BrokerError):
                await action()
                return
            await asyncio.sleep(0.05)


def delivery(body: bytes = b"{}", name: str | None = None) -> Delivery:
    return Delivery(name or str(uuid.uuid4()), "workflow_job", body, RECEIVED_AT, "17", "repository", "42")


async def next_batch(batches: AsyncIterator[Batch]) -> Batch:
    async with asyncio.timeout(SOON):
        return await anext(batches)


async def take(consumer: Consumer, names: Iterable[str]) -> None:
    """Take and ack deliveries until all of these have come."""
    missing = set(names)
    batches = consumer.batches(100, 0)
    while missing:
        batch = await next_batch(batches)
        await batch.ack()
        missing -= {one.id for one in batch.deliveries}


async def passes(broker: RabbitBroker, consumer: Consumer) -> None:
    """Send a delivery through, for which both sides must work, at the latest soon."""
    sent = delivery()
    await eventually(lambda: broker.publish(sent))
    await take(consumer, [sent.id])


async def fails_at_once(broker: RabbitBroker) -> None:
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable):
        await broker.publish(delivery())
    assert time.monotonic() - began < AT_ONCE


# --- What others see ---


async def test_another_client_sees_the_properties_that_are_documented(
    broker: RabbitBroker, raw: AbstractChannel, queue_name: str
) -> None:
    sent = replace(delivery(b'{"action": "queued"}'), host="ghes.example.com")
    await broker.publish(sent)

    message = await (await raw.get_queue(queue_name)).get(no_ack=True)

    assert message is not None
    assert message.body == sent.body
    assert message.message_id == sent.id
    assert message.type == message.routing_key == "workflow_job"
    assert message.exchange == queue_name
    assert message.content_type == "application/json"
    assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert message.timestamp == datetime.fromtimestamp(RECEIVED_AT // 1000, tz=UTC)
    headers = {"hook_id": "17", "target_type": "repository", "target_id": "42", "received_at": RECEIVED_AT}
    headers["host"] = "ghes.example.com"
    assert headers.items() <= message.headers.items()


def test_the_default_queue_has_the_exchange_that_is_documented_and_another_has_its_own() -> None:
    assert Topology("promgithub.deliveries", 10, 3).exchange == "promgithub"
    assert Topology("other", 10, 3).exchange == "other"


async def test_the_queues_have_the_arguments_that_are_documented(
    brokers: Brokers, amqp_url: str, queue_name: str
) -> None:
    await started(brokers(amqp_url, size=5000, delivery_limit=7))
    bounded: HeadersType = {"x-queue-type": "quorum", "x-max-length": 5000, "x-overflow": "reject-publish"}
    main = bounded | {
        "x-delivery-limit": 7,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": f"{queue_name}.dead",
        "x-dead-letter-strategy": "at-least-once",
    }

    dead = bounded | {"x-delivery-limit": 1_000_000_000}

    for name, arguments in {queue_name: main, f"{queue_name}.dead": dead}.items():
        assert await can_declare(amqp_url, name, arguments)
        for argument in arguments:
            without = {key: value for key, value in arguments.items() if key != argument}
            assert not await can_declare(amqp_url, name, without), argument


async def can_declare(url: str, name: str, arguments: HeadersType) -> bool:
    async with raw_channel(url) as channel:
        try:
            await channel.declare_queue(name, durable=True, arguments=arguments)
        except ChannelPreconditionFailed:
            return False
        return True


async def test_a_delivery_that_comes_back_too_often_becomes_a_dead_letter(brokers: Brokers, amqp_url: str) -> None:
    broker = await started(brokers(amqp_url, delivery_limit=2))
    await broker.publish(delivery())

    for _ in range(3):
        crashing = brokers(amqp_url, delivery_limit=2)
        batches = (await crashing.consume(10)).batches(10, 0)
        assert len((await next_batch(batches)).deliveries) == 1
        await crashing.close()

    await eventually_dead(broker, 1)


async def eventually_dead(broker: RabbitBroker, count: int) -> None:
    async with asyncio.timeout(SOON):
        while (await broker.depths()).dead_letters != count:  # noqa: ASYNC110 - RabbitMQ does not say when
            await asyncio.sleep(0.05)


async def test_a_dead_letter_keeps_its_properties_and_says_why(
    broker: RabbitBroker, raw: AbstractChannel, queue_name: str
) -> None:
    sent = delivery(b"not JSON")
    await broker.publish(sent)
    batch = await next_batch((await broker.consume(10)).batches(1, 0))
    before = int(time.time() * 1000)

    await batch.dead_letter(batch.deliveries[0], "undecodable", "x" * 100_000)
    await batch.ack()

    letter = await (await raw.get_queue(f"{queue_name}.dead")).get(no_ack=True)
    assert letter is not None
    assert (letter.body, letter.message_id, letter.type) == (sent.body, sent.id, sent.event)
    assert letter.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert letter.content_type == "application/json"
    assert letter.timestamp == datetime.fromtimestamp(RECEIVED_AT // 1000, tz=UTC)
    assert letter.headers["received_at"] == RECEIVED_AT
    assert letter.headers["hook_id"] == "17"
    assert letter.headers["x-promgithub-reason"] == "undecodable"
    assert letter.headers["x-promgithub-detail"] == "x" * 1000
    assert before <= letter.headers["x-promgithub-dead-at"] <= int(time.time() * 1000)  # type: ignore[operator]


async def test_a_dead_letter_neither_expires_nor_goes_anywhere_else(
    broker: RabbitBroker, raw: AbstractChannel, queue_name: str
) -> None:
    message = aio_pika.Message(b"x", expiration=60, headers={"CC": [queue_name], "note": "kept"}, user_id="guest")
    await raw.default_exchange.publish(message, queue_name)
    consumer = await broker.consume(10)
    batch = await next_batch(consumer.batches(1, 0))
    await consumer.stop()

    await batch.dead_letter(batch.deliveries[0], "undecodable", "")
    await batch.ack()

    letter = await (await raw.get_queue(f"{queue_name}.dead")).get(no_ack=True)
    assert letter is not None
    assert (letter.expiration, letter.user_id, letter.headers["note"]) == (None, None, "kept")
    assert (await broker.depths()).ready == 0


# --- What others put into the queue ---


class Raw(spec.Basic.Properties):
    """Properties in which bytes stand for themselves, as they go over the wire."""

    def encode_property(self, name: str, value: Any) -> bytes:
        return value if isinstance(value, bytes) else super().encode_property(name, value)


def raw_headers(encoded: bytes) -> bytes:
    return struct.pack(">I", len(encoded)) + encoded


NANOSECONDS = struct.pack(">Q", RECEIVED_AT * 1_000_000)

GARBAGE: dict[str, dict[str, Any]] = {
    "nothing": {},
    "numbers for text": {"headers": {"hook_id": 17, "target_id": 42, "target_type": ["repository"], "host": 7}},
    "a list for a host": {"headers": {"host": ["ghes.example.com"]}},
    "text for a time": {"headers": {"received_at": "yesterday"}},
    "a time before all time": {"headers": {"received_at": -1}},
    "a time after all time": {"headers": {"received_at": 2**62}},
    "true": {"headers": {"received_at": True, "hook_id": False}},
    "nanoseconds": {"timestamp": NANOSECONDS},
    "nanoseconds in a header": {"headers": raw_headers(b"\x04whenT" + NANOSECONDS)},
    "an ID that is not UTF-8": {"message_id": b"\x03\xff\xfe\xfd"},
    "an event that is not UTF-8": {"message_type": b"\x03\xff\xfe\xfd"},
    "a header that is not UTF-8": {"headers": raw_headers(b"\x07hook_idS\x00\x00\x00\x03\xff\xfe\xfd")},
    "a header whose name is not UTF-8": {"headers": raw_headers(b"\x01\xffS\x00\x00\x00\x01x")},
    "a number that cannot be sent": {"headers": raw_headers(b"\x01xd" + struct.pack(">d", 1e300))},
}


@pytest.mark.parametrize("given", GARBAGE.values(), ids=GARBAGE)
async def test_whatever_was_put_into_the_queue_by_hand_is_consumed_and_can_be_a_dead_letter(
    broker: RabbitBroker, raw: AbstractChannel, queue_name: str, given: dict[str, Any]
) -> None:
    properties = Raw()
    for name, value in given.items():
        setattr(properties, name, value)
    before = int(time.time() * 1000)
    await (await raw.get_underlay_channel()).basic_publish(
        b"\xff", exchange=queue_name, routing_key="by.hand", properties=properties
    )
    await broker.publish(delivery(name="next"))

    batch = await next_batch((await broker.consume(10)).batches(2, 60))

    odd, following = batch.deliveries
    assert following.id == "next"
    assert (odd.body, odd.event.strip("\ufffd")) == (b"\xff", "")
    assert before <= odd.received_at <= time.time() * 1000
    texts = odd.hook_id, odd.target_type, odd.target_id, odd.host
    assert all(text is None or isinstance(text, str) for text in texts)
    await batch.dead_letter(odd, "undecodable", "by hand")
    await batch.ack()
    assert (await broker.depths()).dead_letters == 1


async def test_the_time_of_a_message_stands_in_for_that_of_its_receipt(
    broker: RabbitBroker, raw: AbstractChannel, queue_name: str
) -> None:
    when = datetime(2026, 11, 2, 9, tzinfo=UTC)
    message = aio_pika.Message(b"{}", timestamp=when, message_id="by hand", headers={"hook_id": 17})
    await raw.default_exchange.publish(message, queue_name)

    (taken,) = (await next_batch((await broker.consume(10)).batches(1, 0))).deliveries

    assert taken == Delivery("by hand", "", b"{}", int(when.timestamp() * 1000), "17")


# --- A topology that is not ours, or not there ---


OTHER: HeadersType = {"x-queue-type": "quorum", "x-max-length": 50, "x-overflow": "reject-publish"}


async def test_a_queue_that_exists_with_other_arguments_is_used_with_one_warning(
    brokers: Brokers, proxy: Proxy, raw: AbstractChannel, queue_name: str
) -> None:
    await raw.declare_queue(queue_name, durable=True, arguments=OTHER)
    with capture_logs() as logs:
        broker = await started(brokers(proxy.url))
        consumer = await broker.consume(10)
        await passes(broker, consumer)

        proxy.cut()
        await passes(broker, consumer)

    differences = [line for line in logs if "other arguments" in line["event"]]
    assert [line["log_level"] for line in differences] == ["warning"]
    assert queue_name in differences[0]["difference"]


async def test_a_queue_with_other_arguments_comes_back_when_it_is_deleted(
    broker: RabbitBroker, brokers: Brokers, amqp_url: str, raw: AbstractChannel, queue_name: str
) -> None:
    await raw.queue_delete(queue_name)
    await raw.declare_queue(queue_name, durable=True, arguments=OTHER)
    other = await started(brokers(amqp_url))
    consumer = await other.consume(10)
    await passes(other, consumer)

    await raw.queue_delete(queue_name)

    await passes(other, consumer)


async def test_both_sides_survive_that_the_queue_is_deleted(
    broker: RabbitBroker, raw: AbstractChannel, queue_name: str
) -> None:
    consumer = await broker.consume(10)
    await passes(broker, consumer)

    await raw.queue_delete(queue_name)

    await passes(broker, consumer)


async def test_a_publisher_alone_makes_a_deleted_queue_again(
    broker: RabbitBroker, raw: AbstractChannel, queue_name: str
) -> None:
    await raw.queue_delete(queue_name)

    with pytest.raises(BrokerUnavailable):
        await broker.publish(delivery())
    await eventually(lambda: broker.publish(delivery()))

    assert (await broker.depths()).ready == 1


async def test_a_publisher_makes_a_deleted_exchange_again(
    broker: RabbitBroker, raw: AbstractChannel, queue_name: str
) -> None:
    await raw.exchange_delete(queue_name)

    with pytest.raises(BrokerUnavailable):
        await broker.publish(delivery())
    await eventually(lambda: broker.publish(delivery()))

    assert (await broker.depths()).ready == 1


async def test_the_batch_that_is_held_while_the_queue_is_deleted_can_still_be_acked(
    broker: RabbitBroker, raw: AbstractChannel, queue_name: str
) -> None:
    for _ in range(2):
        await broker.publish(delivery())
    consumer = await broker.consume(10)
    batches = consumer.batches(1, 0)
    held = await next_batch(batches)
    await asyncio.sleep(2 * A_MOMENT)  # until the other has arrived

    await raw.queue_delete(queue_name)
    await asyncio.sleep(A_MOMENT)
    await held.ack()

    await (await next_batch(batches)).ack()
    await passes(broker, consumer)


async def test_copies_of_a_delivery_at_the_same_time_are_accepted_only_if_they_are_in_the_queue(
    broker: RabbitBroker, raw: AbstractChannel, queue_name: str
) -> None:
    await (await raw.get_queue(queue_name)).unbind(queue_name, "#")

    results = await asyncio.gather(
        *(broker.publish(delivery(name="the same")) for _ in range(20)), return_exceptions=True
    )

    assert any(isinstance(result, BrokerUnavailable) for result in results)
    assert results.count(None) == (await broker.depths()).ready


# --- A connection that breaks ---


async def test_both_sides_come_back_after_the_connection_is_cut_and_meanwhile_a_publish_fails_at_once(
    brokers: Brokers, proxy: Proxy
) -> None:
    broker = await started(brokers(proxy.url))
    consumer = await broker.consume(10)
    await passes(broker, consumer)

    proxy.refuse()
    await until(lambda: not broker.available, AT_ONCE)
    await fails_at_once(broker)
    with pytest.raises(BrokerUnavailable):
        await broker.depths()

    await proxy.heal()
    await passes(broker, consumer)
    assert broker.available


async def test_a_publish_under_way_when_the_connection_is_cut_fails_at_once(brokers: Brokers, proxy: Proxy) -> None:
    broker = await started(brokers(proxy.url, publish_timeout=60))
    proxy.black_hole()
    waiting = [asyncio.create_task(broker.publish(delivery())) for _ in range(50)]
    await asyncio.sleep(A_MOMENT)

    proxy.cut()

    async with asyncio.timeout(AT_ONCE):
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(result) for result in results} == {BrokerUnavailable}


async def test_what_waits_in_a_consumer_when_the_connection_is_cut_comes_again_and_only_then(
    brokers: Brokers, proxy: Proxy
) -> None:
    broker = await started(brokers(proxy.url))
    sent = {delivery().id for _ in range(3)}
    for name in sent:
        await broker.publish(delivery(name=name))
    batches = (await broker.consume(10)).batches(10, 0)
    await asyncio.sleep(A_MOMENT)

    proxy.refuse()
    await asyncio.sleep(A_MOMENT)
    waiting = asyncio.create_task(next_batch(batches))
    await asyncio.sleep(A_MOMENT)
    assert not waiting.done()
    await proxy.heal()

    came = [one.id for one in (await waiting).deliveries]
    while len(came) < 3:
        came += [one.id for one in (await next_batch(batches)).deliveries]
    assert sorted(came) == sorted(sent)


async def test_a_broker_that_is_not_there_yet_stops_neither_the_start_nor_the_recovery(
    brokers: Brokers, proxy: Proxy
) -> None:
    proxy.refuse()
    broker = brokers(proxy.url)

    async with asyncio.timeout(AT_ONCE):
        await broker.start()
    await asyncio.sleep(A_MOMENT)
    assert not broker.available
    await fails_at_once(broker)
    consuming = asyncio.create_task(broker.consume(10))

    await proxy.heal()

    await passes(broker, await consuming)


async def test_each_change_of_a_connection_is_logged_once(brokers: Brokers, proxy: Proxy) -> None:
    with capture_logs() as logs:
        broker = await started(brokers(proxy.url))
        proxy.refuse()
        await until(lambda: not broker.available)
        await asyncio.sleep(2)
        await proxy.heal()
        assert await broker.ready_within(SOON)

    seen = [(line["log_level"], line["event"]) for line in logs]
    lost = ("warning", "no connection to RabbitMQ, retrying")
    assert seen[0] == seen[-1] == ("info", "connected to RabbitMQ")
    assert set(seen[1:-1]) == {lost}
    reasons = [line["reason"] for line in logs[1:-1]]
    assert len(reasons) == len(set(reasons)) <= 2, reasons


async def test_no_password_is_logged(brokers: Brokers, amqp_url: str) -> None:
    with capture_logs() as logs:
        await brokers(str(URL(amqp_url).with_password("hunter2"))).start()
        await until(lambda: bool(logs))

    assert "ACCESS_REFUSED" in str(logs)
    assert "hunter2" not in str(logs)


async def test_a_silent_broker_fails_a_publish_in_time_is_found_out_and_may_come_back(
    brokers: Brokers, proxy: Proxy
) -> None:
    broker = await started(brokers(proxy.url))
    consumer = await broker.consume(10)
    proxy.black_hole()

    began = time.monotonic()
    with pytest.raises(BrokerUnavailable):
        await broker.publish(delivery())
    assert DEADLINE <= time.monotonic() - began < DEADLINE + AT_ONCE
    await until(lambda: not broker.available)
    await fails_at_once(broker)

    await proxy.heal()
    await passes(broker, consumer)


async def test_a_publish_under_way_when_the_heartbeats_end_fails_rather_than_be_cancelled(
    brokers: Brokers, proxy: Proxy
) -> None:
    broker = await started(brokers(f"{proxy.url}?heartbeat=1", publish_timeout=60))
    proxy.black_hole()

    with pytest.raises(BrokerUnavailable):
        await broker.publish(delivery())


async def test_connections_that_carry_only_messages_stay_up_for_longer_than_the_heartbeats_may_be_missing(
    brokers: Brokers, amqp_url: str
) -> None:
    broker = brokers(f"{amqp_url}?heartbeat=1")
    sent: list[str] = []
    last = delivery()

    async def publish() -> None:
        end = time.monotonic() + 3 * HEARTBEAT_GRACE
        while time.monotonic() < end:
            one = delivery()
            await broker.publish(one)  # fails if the connection was cut
            sent.append(one.id)
            await asyncio.sleep(0.02)
        await broker.publish(last)

    with capture_logs() as logs:
        await started(broker)
        batches = (await broker.consume(100)).batches(100, 0)
        publishing = asyncio.create_task(publish())
        taken: list[str] = []
        while last.id not in taken:
            batch = await next_batch(batches)
            taken += [one.id for one in batch.deliveries]
            await batch.ack()
        await publishing

    assert [line["event"] for line in logs] == ["connected to RabbitMQ"] * 2
    assert taken == [*sent, last.id]


async def test_publishes_that_time_out_at_a_broker_that_reads_nothing_leave_no_message_in_memory(
    brokers: Brokers, proxy: Proxy
) -> None:
    broker = await started(brokers(proxy.url))
    deliveries = [delivery(bytes((number,)) * 100_000) for number in range(200)]
    references = [sys.getrefcount(one.body) for one in deliveries]
    proxy.black_hole()

    async def fails(one: Delivery) -> None:
        with pytest.raises(BrokerUnavailable):
            await broker.publish(one)

    await asyncio.gather(*(fails(one) for one in deliveries))
    gc.collect()

    assert [sys.getrefcount(one.body) for one in deliveries] == references
    await proxy.heal()
    await eventually(lambda: asyncio.gather(*(broker.publish(one) for one in deliveries)))


async def test_what_is_not_rabbitmq_is_found_out_and_causes_no_other_error(brokers: Brokers) -> None:
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.write(b"AMQP\x00\x01\x00\x00")  # as a server of AMQP 1.0 alone does
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with capture_logs() as logs:
            await brokers(f"amqp://guest:guest@127.0.0.1:{port}/").start()
            await until(lambda: bool(logs), AT_ONCE)

    assert logs[0]["event"].startswith("no connection to RabbitMQ")
    assert errors == []


async def test_a_publish_that_is_cancelled_disturbs_no_other(broker: RabbitBroker) -> None:
    tasks = [asyncio.create_task(broker.publish(delivery())) for _ in range(200)]
    for number, task in enumerate(tasks):
        if number % 10 == 0:
            await asyncio.sleep(0)
        if number % 2:
            task.cancel()

    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert {type(result) for result in results[::2]} == {type(None)}
    assert {type(result) for result in results[1::2]} <= {asyncio.CancelledError, type(None)}
    await broker.publish(delivery())


async def test_asking_how_full_the_queues_are_leaves_nothing_in_memory(broker: RabbitBroker) -> None:
    def objects() -> int:
        gc.collect()
        return len(gc.get_objects())

    await broker.depths()
    before = objects()

    for _ in range(100):
        await broker.depths()

    assert objects() - before < 100


# --- A broker that breaks ---


async def test_the_connections_say_whose_they_are(brokers: Brokers, private_rabbit: RabbitServer) -> None:
    await (await started(brokers(private_rabbit.url))).consume(10)

    listed = await private_rabbit.ctl("list_connections", "client_properties")

    assert "promgithub test publishing" in listed
    assert "promgithub test consuming" in listed


async def test_both_sides_come_back_after_the_broker_was_killed(brokers: Brokers, private_rabbit: RabbitServer) -> None:
    broker = await started(brokers(private_rabbit.url))
    consumer = await broker.consume(10)
    kept = delivery()
    await broker.publish(kept)
    await asyncio.sleep(QUEUE_SETTLED_SECONDS)

    await private_rabbit.kill()
    await fails_at_once(broker)
    await private_rabbit.start()

    await take(consumer, [kept.id])
    await passes(broker, consumer)


async def test_both_sides_come_back_after_the_broker_closed_the_connections(
    brokers: Brokers, private_rabbit: RabbitServer
) -> None:
    broker = await started(brokers(private_rabbit.url))
    consumer = await broker.consume(10)

    await private_rabbit.ctl("close_all_connections", "by the test")

    await passes(broker, consumer)


async def test_an_alarm_fails_publishes_at_once_but_not_acks_and_passes(
    brokers: Brokers, private_rabbit: RabbitServer
) -> None:
    broker = await started(brokers(private_rabbit.url))
    for _ in range(2):
        await broker.publish(delivery())
    consumer = await broker.consume(1)

    async with memory_alarm(private_rabbit):
        with pytest.raises(BrokerUnavailable):
            await broker.publish(delivery())
        await until(lambda: not broker.available, DEADLINE)
        await fails_at_once(broker)
        batches = consumer.batches(1, 0)
        await (await next_batch(batches)).ack()
        await (await next_batch(batches)).ack()
        assert (await broker.depths()).ready == 0

    await passes(broker, consumer)


async def test_closing_takes_seconds_even_if_the_broker_reads_nothing(
    brokers: Brokers, private_rabbit: RabbitServer
) -> None:
    broker = await started(brokers(private_rabbit.url))

    async with memory_alarm(private_rabbit):
        bodies = [bytes(MEBIBYTE)] * 30
        publishing = [asyncio.create_task(broker.publish(delivery(body))) for body in bodies]
        await until(lambda: not broker.available, DEADLINE)
        began = time.monotonic()
        await broker.close()
        assert time.monotonic() - began < 5
        results = await asyncio.gather(*publishing, return_exceptions=True)

    assert {type(result) for result in results} == {BrokerUnavailable}


async def test_an_alarm_is_logged_when_it_begins_and_when_it_ends(
    brokers: Brokers, private_rabbit: RabbitServer
) -> None:
    with capture_logs() as logs:
        broker = await started(brokers(private_rabbit.url))
        async with memory_alarm(private_rabbit):
            with pytest.raises(BrokerUnavailable):
                await broker.publish(delivery())
            await until(lambda: not broker.available, DEADLINE)
        await eventually(lambda: broker.publish(delivery()))
        await asyncio.sleep(A_MOMENT)

    assert [line["log_level"] for line in logs] == ["info", "warning", "info"]
    assert "short of memory or disk" in logs[1]["event"]


async def test_a_message_that_is_too_large_for_the_broker_harms_no_other(
    brokers: Brokers, private_rabbit: RabbitServer
) -> None:
    small, large, too_large = b"{}", bytes(2 * MEBIBYTE), bytes(3 * MEBIBYTE)

    async with largest_message(private_rabbit, 2 * MEBIBYTE):
        broker = await started(brokers(private_rabbit.url))
        bodies = [*[small] * 100, large, too_large, large, *[small] * 100, large, too_large]
        results = await asyncio.gather(*(broker.publish(delivery(body)) for body in bodies), return_exceptions=True)

    refused = [body for body, result in zip(bodies, results, strict=True) if isinstance(result, MessageTooLarge)]
    assert refused == [too_large, too_large]
    assert results.count(None) == len(bodies) - 2


async def test_a_size_that_was_refused_is_not_sent_again_until_the_next_connection(
    brokers: Brokers, private_rabbit: RabbitServer
) -> None:
    too_large = delivery(bytes(3 * MEBIBYTE))
    async with largest_message(private_rabbit, 2 * MEBIBYTE):
        broker = await started(brokers(private_rabbit.url))
        with pytest.raises(MessageTooLarge):
            await broker.publish(too_large)

    with pytest.raises(MessageTooLarge):
        await broker.publish(too_large)
    await private_rabbit.ctl("close_all_connections", "by the test")
    await until(lambda: not broker.available)
    assert await broker.ready_within(SOON)

    await broker.publish(too_large)


async def test_only_the_message_that_is_too_large_is_said_to_be(brokers: Brokers, private_rabbit: RabbitServer) -> None:
    async with largest_message(private_rabbit, 1000):
        broker = await started(brokers(private_rabbit.url))
        bodies = [*[b"{}"] * 40, bytes(1001), *[b"{}"] * 40]
        results = await asyncio.gather(*(broker.publish(delivery(body)) for body in bodies), return_exceptions=True)
        await eventually(lambda: broker.publish(delivery()))

    assert [index for index, result in enumerate(results) if isinstance(result, MessageTooLarge)] == [40]
    assert {type(result) for result in results} <= {type(None), MessageTooLarge, BrokerUnavailable}
