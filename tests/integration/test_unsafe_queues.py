"""A queue that exists with arguments by which RabbitMQ could lose deliveries is not used unless that is allowed."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aio_pika
import pytest
import pytest_asyncio
from aio_pika.abc import AbstractChannel, HeadersType
from structlog.testing import capture_logs

from shared.brokers.rabbitmq import RabbitBroker, Topology
from shared.delivery import Delivery
from shared.errors import BrokerUnavailable
from tests.support.github import until

SOON = 20.0
QUORUM: HeadersType = {"x-queue-type": "quorum"}
KEEPING: HeadersType = QUORUM | {"x-max-length": 50, "x-overflow": "reject-publish"}
DELIVERY = Delivery("72d3162e-cc78-11e3-81ab-4c9367dc0958", "workflow_job", b"{}", 1_761_000_000_123)


@dataclass(frozen=True)
class Existing:
    """A queue that somebody else has declared, and what promgithub says about it."""

    says: str
    arguments: HeadersType = field(default_factory=dict)
    durable: bool = True
    auto_delete: bool = False


UNSAFE = {
    "classic": Existing("x-queue-type is classic"),
    "classic and named so": Existing("x-queue-type is classic", {"x-queue-type": "classic"}),
    "classic with a maximum": Existing("x-max-length without x-overflow=reject-publish", {"x-max-length": 5}),
    "not durable": Existing("not durable", durable=False),
    "auto-delete": Existing("auto-delete", auto_delete=True),
    "drop-head": Existing("x-max-length without", KEEPING | {"x-overflow": "drop-head"}),
    "a maximum in bytes alone": Existing("x-max-length-bytes without", QUORUM | {"x-max-length-bytes": 10**6}),
    "a time to live": Existing("x-message-ttl", KEEPING | {"x-message-ttl": 60_000}),
    "an expiry": Existing("x-expires", KEEPING | {"x-expires": 600_000}),
    "a delivery limit without dead letters": Existing("x-delivery-limit without", KEEPING | {"x-delivery-limit": 3}),
}

SAFE = {
    "quorum": Existing("x-max-length", QUORUM),
    "another maximum": Existing("x-max-length", KEEPING),
}


@pytest_asyncio.fixture
async def raw(amqp_url: str) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(amqp_url) as connection:
        yield await connection.channel()


async def declare(raw: AbstractChannel, name: str, existing: Existing) -> None:
    await raw.declare_queue(
        name, durable=existing.durable, auto_delete=existing.auto_delete, arguments=existing.arguments
    )


@pytest.mark.parametrize("existing", UNSAFE.values(), ids=UNSAFE)
async def test_a_queue_that_could_lose_deliveries_is_not_used_and_the_reason_is_said(
    amqp_url: str, queue_name: str, raw: AbstractChannel, existing: Existing
) -> None:
    await declare(raw, queue_name, existing)
    broker = RabbitBroker(amqp_url, Topology(queue_name, 1000, 20), "test")
    with capture_logs() as logs:
        await broker.start()
        try:

            async def refused() -> bool | None:
                return queue_name in broker.trouble or None

            await until(refused, SOON)
            assert existing.says in broker.trouble
            assert "PROMGITHUB_ALLOW_UNSAFE_QUEUE" in broker.trouble
            assert not broker.available
            with pytest.raises(BrokerUnavailable):
                await broker.publish(DELIVERY)
        finally:
            await broker.close()
    assert [line["log_level"] for line in logs] == ["error"]
    assert (await raw.declare_queue(queue_name, passive=True)).declaration_result.message_count == 0


@pytest.mark.parametrize("existing", UNSAFE.values(), ids=UNSAFE)
async def test_a_queue_that_could_lose_deliveries_is_used_with_a_warning_if_that_is_allowed(
    amqp_url: str, queue_name: str, raw: AbstractChannel, existing: Existing
) -> None:
    await declare(raw, queue_name, existing)
    broker = RabbitBroker(amqp_url, Topology(queue_name, 1000, 20), "test", allow_unsafe_queue=True)
    with capture_logs() as logs:
        await broker.start()
        try:
            assert await broker.ready_within(SOON)
            await broker.publish(DELIVERY)
        finally:
            await broker.close()
    assert [existing.says in line["difference"] for line in logs if line["log_level"] == "warning"] == [True]


@pytest.mark.parametrize("existing", SAFE.values(), ids=SAFE)
async def test_a_queue_with_other_arguments_that_loses_nothing_is_used_with_a_warning(
    amqp_url: str, queue_name: str, raw: AbstractChannel, existing: Existing
) -> None:
    await declare(raw, queue_name, existing)
    broker = RabbitBroker(amqp_url, Topology(queue_name, 1000, 20), "test")
    with capture_logs() as logs:
        await broker.start()
        try:
            assert await broker.ready_within(SOON)
            await broker.publish(DELIVERY)
        finally:
            await broker.close()
    assert [line["log_level"] for line in logs if "unchanged" in line["event"]] == ["warning"]


async def test_a_dead_letter_queue_that_could_lose_deliveries_is_not_used_either(
    amqp_url: str, queue_name: str, raw: AbstractChannel
) -> None:
    await declare(raw, f"{queue_name}.dead", UNSAFE["drop-head"])
    broker = RabbitBroker(amqp_url, Topology(queue_name, 1000, 20), "test")
    await broker.start()
    try:

        async def refused() -> bool | None:
            return f"{queue_name}.dead could lose" in broker.trouble or None

        await until(refused, SOON)
    finally:
        await broker.close()


async def test_the_queue_is_declared_and_used_once_the_unsafe_one_is_deleted(
    amqp_url: str, queue_name: str, raw: AbstractChannel
) -> None:
    await declare(raw, queue_name, UNSAFE["classic"])
    broker = RabbitBroker(amqp_url, Topology(queue_name, 1000, 20), "test")
    await broker.start()
    try:
        assert not await broker.ready_within(2)

        await raw.queue_delete(queue_name)

        assert await broker.ready_within(SOON)
        await broker.publish(DELIVERY)
    finally:
        await broker.close()
