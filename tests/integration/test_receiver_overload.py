"""A receiver that cannot take more says so at once, holds no more than it may, and recovers."""

import asyncio
import time

import aio_pika

from ingest.bodies import MAX_BODY, MAX_HELD
from tests.support import figures
from tests.support.receiver import GUID, PAYLOAD, TIMEOUT, Answered, Running, receiver, request_bytes
from tests.support.servers.ports import free_port
from tests.support.servers.rabbitmq import RabbitServer

SLOTS = 3
NOWHERE = f"amqp://guest:guest@127.0.0.1:{free_port()}/"
"""The URL of a broker that is down."""

AT_ONCE = 1.0
"""Seconds within which a refusal must come, far below any timeout."""


def assert_try_again(answered: Answered, says: str) -> None:
    assert answered.status == 503
    assert list(answered.said) == ["error"]
    assert says in answered.said["error"]
    assert int(answered.headers["Retry-After"]) > 0


async def slow_sender(running: Running) -> asyncio.StreamWriter:
    """Send all of a delivery but its last bytes."""
    _, writer = await running.connect()
    writer.write(request_bytes()[:-3])
    await writer.drain()
    return writer


async def test_slow_senders_hold_their_slots_and_others_are_shed_at_once(amqp_url: str, queue_name: str) -> None:
    async with receiver(amqp_url=amqp_url, queue_name=queue_name, max_in_flight=SLOTS) as running:
        await running.until_ready()
        senders = [await slow_sender(running) for _ in range(SLOTS)]
        await running.in_flight(SLOTS)
        began = time.monotonic()
        assert_try_again(await running.send(), "too many")
        assert time.monotonic() - began < AT_ONCE
        for writer in senders:
            writer.write(PAYLOAD[-3:])
        await running.in_flight(0)
        assert (await running.send()).status == 202
        assert await running.outcomes() == {"accepted": SLOTS + 1, "shed": 1}
        assert len(await running.take_all()) == SLOTS + 1


async def test_a_sender_that_never_finishes_loses_its_slot_after_ten_seconds(amqp_url: str, queue_name: str) -> None:
    async with receiver(amqp_url=amqp_url, queue_name=queue_name, max_in_flight=1) as running:
        await running.until_ready()
        reader, writer = await running.connect()
        writer.write(request_bytes()[:-3])
        await running.in_flight(1)
        began = time.monotonic()
        async with asyncio.timeout(TIMEOUT):
            assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
        assert 9 < time.monotonic() - began < 12
        assert (await running.send()).status == 202
        assert await running.outcomes() == {"bad_request": 1, "accepted": 1}
        writer.close()


async def test_a_connection_on_which_no_request_comes_or_only_half_of_one_ends_after_ten_seconds() -> None:
    async with receiver(amqp_url=NOWHERE) as running:
        silent, _ = await running.connect()
        half, half_writer = await running.connect()
        half_writer.write(request_bytes()[:80])
        used, used_writer = await running.connect()
        used_writer.write(request_bytes())
        assert (await used.readuntil(b"}\n")).startswith(b"HTTP/1.1 503 ")
        used_writer.write(request_bytes()[:80])
        began = time.monotonic()
        async with asyncio.timeout(TIMEOUT):
            assert set(await asyncio.gather(silent.read(), half.read(), used.read())) == {b""}
        assert 9 < time.monotonic() - began < 12
        assert await running.outcomes() == {"broker_down": 1}


async def test_bodies_are_released_after_the_answer() -> None:
    async with receiver(amqp_url=NOWHERE) as running:
        body = b'{"zen":"' + b"x" * (MAX_BODY - 10) + b'"}'
        for _ in range(MAX_HELD // MAX_BODY + 1):
            assert (await running.send(body, X_GitHub_Event="ping")).status == 200
            assert (await running.send(body, X_GitHub_Event="push")).status == 503
        assert set(await running.outcomes()) == {"pong", "broker_down"}


async def test_a_full_queue_refuses_and_holds_exactly_what_was_accepted(amqp_url: str, queue_name: str) -> None:
    async with receiver(amqp_url=amqp_url, queue_name=queue_name, event_queue_size=10) as running:
        await running.until_ready()
        answers = [await running.send() for _ in range(20)]
        accepted = [answered for answered in answers if answered.status == 202]
        assert_try_again(answers[-1], "full")
        counted = await running.outcomes()
        assert counted == {"accepted": len(accepted), "queue_full": 20 - len(accepted)}
        assert 10 <= len(await running.take_all()) == len(accepted)
        assert await running.readiness() == 200


async def test_without_a_broker_every_delivery_is_refused_at_once() -> None:
    async with receiver(amqp_url=NOWHERE) as running:
        began = time.monotonic()
        assert_try_again(await running.send(), "broker")
        assert time.monotonic() - began < AT_ONCE
        assert await running.readiness() == 503
        counted = await running.figures()
        assert figures.value(counted, "promgithub_broker_up") == 0
        assert await running.outcomes() == {"broker_down": 1}


async def test_what_is_wrong_with_a_request_is_said_even_without_a_broker() -> None:
    async with receiver(amqp_url=NOWHERE) as running:
        assert (await running.send(secret="wrong")).status == 401
        assert (await running.send(b"[]")).status == 400
        assert (await running.send(X_GitHub_Event="ping")).status == 200


async def test_a_broker_that_goes_and_comes_back_is_used_again(private_rabbit: RabbitServer) -> None:
    async with receiver(amqp_url=private_rabbit.url, queue_name="restarted") as running:
        await running.until_ready()
        assert (await running.send()).status == 202
        await private_rabbit.stop()
        assert_try_again(await running.send(), "broker")
        assert await running.readiness() == 503
        await private_rabbit.start()
        await running.until_ready()
        assert (await running.send()).status == 202
        assert len(await running.take_all()) == 2


async def test_a_message_too_large_for_the_broker_is_413_and_disturbs_no_other(private_rabbit: RabbitServer) -> None:
    await private_rabbit.ctl("eval", "application:set_env(rabbit, max_message_size, 2000000).")
    try:
        async with receiver(amqp_url=private_rabbit.url, queue_name="small") as running:
            await running.until_ready()
            large = b'{"text":"' + b"x" * 3_000_000 + b'"}'
            answers = await asyncio.gather(running.send(large), *(running.send() for _ in range(20)))
            assert [answered.status for answered in answers] == [413] + [202] * 20
            assert await running.outcomes() == {"accepted": 20, "too_large": 1}
    finally:
        await private_rabbit.ctl("eval", "application:set_env(rabbit, max_message_size, 33554432).")


async def test_a_sender_that_leaves_while_the_broker_confirms_is_counted_as_accepted(
    amqp_url: str, queue_name: str
) -> None:
    async with receiver(amqp_url=amqp_url, queue_name=queue_name) as running:
        await running.until_ready()
        for _ in range(20):
            _, writer = await running.connect()
            writer.write(request_bytes())
            await writer.drain()
            writer.close()
        await running.in_flight(0)
        counted = await running.outcomes()
        taken = await running.take_all()
        assert len(taken) == counted.get("accepted", 0)
        assert all(message.message_id == GUID for message in taken)


async def test_a_queue_with_other_arguments_is_used_as_it_is(amqp_url: str, queue_name: str) -> None:
    async with await aio_pika.connect(amqp_url, timeout=TIMEOUT) as connection:
        channel = await connection.channel()
        await channel.declare_queue(queue_name, durable=True, arguments={"x-queue-type": "quorum"})
    async with receiver(amqp_url=amqp_url, queue_name=queue_name) as running:
        await running.until_ready()
        assert (await running.send()).status == 202
        assert len(await running.take_all()) == 1
