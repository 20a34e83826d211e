"""RabbitMQ fails, freezes or blocks under load: the receiver answers 503, and no accepted delivery is lost."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager

import pytest
import pytest_asyncio

from promgithub.simulation.histories import Historian, History
from tests.support import figures
from tests.support.github import GitHub, until
from tests.support.processes import Process
from tests.support.servers.rabbitmq import QUEUE_SETTLED_SECONDS, RabbitServer, disk_alarm, memory_alarm

Start = Callable[..., Process]

GITHUB_WAITS_SECONDS = 10
AWAY_SECONDS = 30
FROZEN_SECONDS = 10
DELIVERIES = 560


@pytest.fixture
def broken(private_rabbit: RabbitServer) -> Mapping[str, str]:
    """Give the settings of a queue of the test's own on a RabbitMQ that may be broken."""
    return {"AMQP_URL": private_rabbit.url, "QUEUE_NAME": f"promgithub.test.{secrets.token_hex(6)}"}


@pytest_asyncio.fixture
async def pipeline(
    broken: Mapping[str, str], start_receiver: Start, start_processor: Start
) -> AsyncIterator[tuple[Process, Process]]:
    """Give a receiver and a processor that are ready, on a RabbitMQ that may be broken."""
    receiver, processor = start_receiver(**broken), start_processor(**broken)
    await asyncio.gather(receiver.ready(), processor.ready())
    await asyncio.sleep(QUEUE_SETTLED_SECONDS)
    yield receiver, processor


async def turn_red(*processes: Process) -> None:
    """Wait until none of them is ready."""

    async def red() -> bool | None:
        return not any([await process.is_ready() for process in processes]) or None

    await until(red, 10)


async def outcomes(github: GitHub, receiver: Process) -> Mapping[str, float]:
    """Return how many requests ended with each outcome, those without any left out."""
    counted = await github.figures(receiver)
    names = ("accepted", "broker_down", "queue_full", "shed")
    sums = {name: figures.total(counted, "promgithub_webhook_requests_total", outcome=name) for name in names}
    return {name: count for name, count in sums.items() if count}


async def assert_lossless(
    github: GitHub, truth: History, pipeline: tuple[Process, Process], refused: int, why: str, retry_after: str
) -> None:
    """Hold every refusal to its reason and to the time that GitHub waits, and the figures to the truth."""
    receiver, processor = pipeline
    assert {(refusal.status, refusal.retry_after) for refusal in github.refusals} == {(503, retry_after)}
    assert max(refusal.seconds for refusal in github.refusals) < GITHUB_WAITS_SECONDS
    assert refused == len(github.refusals), "some got no answer at all"
    assert await outcomes(github, receiver) == {"accepted": len(truth.deliveries), why: refused}
    counted = await github.settled(truth, processor)
    assert figures.value(counted, "promgithub_dead_letters") == 0


async def test_a_broker_killed_under_load_costs_a_503_and_loses_nothing_accepted(
    private_rabbit: RabbitServer, pipeline: tuple[Process, Process], github: GitHub
) -> None:
    receiver, _ = pipeline
    truth = Historian(12).history(DELIVERIES)
    sending = asyncio.create_task(github.deliver_all(receiver, truth.deliveries, over=5))
    await asyncio.sleep(2.5)
    await private_rabbit.kill()
    await asyncio.sleep(1)
    await private_rabbit.start()
    refused = await asyncio.wait_for(sending, 60)
    await assert_lossless(github, truth, pipeline, refused, "broker_down", "5")


@pytest.mark.drill
async def test_readiness_shows_a_broker_outage_of_half_a_minute_and_recovers_by_itself(
    private_rabbit: RabbitServer, pipeline: tuple[Process, Process], github: GitHub
) -> None:
    receiver, _ = pipeline
    truth = Historian(17).history(DELIVERIES)
    sending = asyncio.create_task(github.deliver_all(receiver, truth.deliveries, over=AWAY_SECONDS))
    await asyncio.sleep(3)
    await private_rabbit.stop()
    await turn_red(*pipeline)
    await asyncio.sleep(AWAY_SECONDS)
    assert [await process.is_ready() for process in pipeline] == [False, False]

    await private_rabbit.start()
    await asyncio.gather(*(process.ready() for process in pipeline))
    refused = await asyncio.wait_for(sending, 60)
    await assert_lossless(github, truth, pipeline, refused, "broker_down", "5")


async def test_a_broker_that_freezes_under_load_costs_a_503_in_time_and_loses_nothing_accepted(
    private_rabbit: RabbitServer, pipeline: tuple[Process, Process], github: GitHub
) -> None:
    receiver, _ = pipeline
    truth = Historian(18).history(DELIVERIES)
    sending = asyncio.create_task(github.deliver_all(receiver, truth.deliveries, over=FROZEN_SECONDS))
    await asyncio.sleep(2)
    with private_rabbit.frozen():
        await asyncio.sleep(FROZEN_SECONDS)
    refused = await asyncio.wait_for(sending, 60)
    await asyncio.gather(*(process.ready() for process in pipeline))
    await assert_lossless(github, truth, pipeline, refused, "broker_down", "5")


@pytest.mark.parametrize("alarm", [memory_alarm, disk_alarm])
@pytest.mark.drill
async def test_an_alarm_refuses_deliveries_while_the_queue_drains_and_passes_by_itself(
    alarm: Callable[[RabbitServer], AbstractAsyncContextManager[None]],
    private_rabbit: RabbitServer,
    broken: Mapping[str, str],
    start_receiver: Start,
    start_processor: Start,
    github: GitHub,
) -> None:
    receiver = start_receiver(**broken)
    await receiver.ready()
    truth = Historian(19).history(DELIVERIES)
    waiting, more = truth.deliveries[: DELIVERIES // 2], truth.deliveries[DELIVERIES // 2 :]
    assert await github.send_all(receiver, waiting) == {202: len(waiting)}

    async with alarm(private_rabbit):
        sending = asyncio.create_task(github.deliver_all(receiver, more, over=3))
        processor = start_processor(**broken)
        await processor.ready()
        await github.drained(processor, processed=len(waiting))
        await turn_red(receiver)
    refused = await asyncio.wait_for(sending, 60)
    await receiver.ready()
    await assert_lossless(github, truth, (receiver, processor), refused, "broker_down", "5")


async def test_a_full_queue_refuses_until_a_processor_makes_room(
    start_receiver: Start, start_processor: Start, github: GitHub
) -> None:
    small = {"EVENT_QUEUE_SIZE": "100"}
    receiver = start_receiver(**small)
    await receiver.ready()
    truth = Historian(20).history(DELIVERIES)
    sending = asyncio.create_task(github.deliver_all(receiver, truth.deliveries))
    await asyncio.sleep(3)
    assert 100 <= (await outcomes(github, receiver))["accepted"] < 200

    processor = start_processor(**small)
    refused = await asyncio.wait_for(sending, 60)
    await processor.ready()
    await assert_lossless(github, truth, (receiver, processor), refused, "queue_full", "30")
