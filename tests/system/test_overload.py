"""Overload of a receiver: it refuses at once, its memory does not grow, and it recovers."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable

from tests.support import builders, figures
from tests.support.github import GitHub
from tests.support.processes import Process
from tests.support.servers.rabbitmq import RabbitServer

Start = Callable[..., Process]

SENDERS = 400
MAX_IN_FLIGHT = 20
BURST_SECONDS = 8

AT_ONCE_SECONDS = 2.0
"""How long a refusal may take where the senders themselves need most of the machine; far below any timeout."""

GROWTH = 32 * 2**20
"""Bytes by which a receiver may grow in the burst: half of what it would if it kept what it is sent."""

SHED = "1"
"""`Retry-After` of a delivery that is refused because too many are in flight."""


async def flood(github: GitHub, receiver: Process, seconds: float) -> Counter[int]:
    """Let many senders send one delivery of 10 kB after the other; return how often each status was answered."""
    delivery = builders.delivery(builders.push(100))
    answered: Counter[int] = Counter()

    async def send_on(until: float) -> None:
        while time.monotonic() < until:
            answered[await github.send(receiver, delivery)] += 1

    until = time.monotonic() + seconds
    await asyncio.gather(*(send_on(until) for _ in range(SENDERS)))
    return answered


async def test_a_burst_that_cannot_be_handed_over_is_shed_at_once_in_bounded_memory_and_passes(
    private_rabbit: RabbitServer, start_receiver: Start
) -> None:
    name = f"promgithub.test.{secrets.token_hex(6)}"
    receiver = start_receiver(AMQP_URL=private_rabbit.url, QUEUE_NAME=name, MAX_IN_FLIGHT=str(MAX_IN_FLIGHT))
    await receiver.ready()
    async with GitHub(concurrent=SENDERS) as github:
        await flood(github, receiver, 1)
        before = receiver.resident
        github.refusals.clear()

        largest = before
        with private_rabbit.frozen():
            flooding = asyncio.create_task(flood(github, receiver, BURST_SECONDS))
            while not flooding.done():
                largest = max(largest, receiver.resident)
                await asyncio.sleep(0.1)
        answered = await flooding
        shed = [refusal for refusal in github.refusals if refusal.retry_after == SHED]

        assert answered.keys() == {503}
        assert len(shed) > 10 * (answered.total() - len(shed))
        assert max(refusal.seconds for refusal in shed) < AT_ONCE_SECONDS
        assert largest - before < GROWTH
        counted = await github.figures(receiver)
        assert figures.total(counted, "promgithub_webhook_requests_total", outcome="shed") >= len(shed)

        await receiver.ready()
    async with GitHub(concurrent=MAX_IN_FLIGHT) as github:
        pushes = [builders.delivery(builders.push()) for _ in range(200)]
        assert await github.send_all(receiver, pushes) == {202: len(pushes)}
