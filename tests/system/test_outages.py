"""What the pipeline depends on goes away and comes back: nothing accepted is lost, nothing counts twice."""

import asyncio
from collections.abc import Callable

from promgithub.simulation.histories import Historian, History
from tests import figures
from tests.figures import Figures
from tests.github import SECRET, GitHub, until
from tests.processes import Launcher, Process
from tests.servers.postgres import PostgresServer, fresh_database
from tests.servers.rabbitmq import QUEUE_SETTLED_SECONDS, RabbitServer

Start = Callable[..., Process]


async def true_figures(github: GitHub, truth: History, *processors: Process) -> Figures | None:
    counted = await github.figures(*processors)
    return counted if figures.of_ci(counted) == truth.truth.figures else None


async def test_a_database_killed_under_load_delays_and_loses_nothing(
    start_receiver: Start, start_processor: Start, github: GitHub, private_postgres: PostgresServer
) -> None:
    async with fresh_database(private_postgres.url) as database_url:
        receiver = start_receiver()
        processor = start_processor(DATABASE_URL=database_url)
        await asyncio.gather(receiver.ready(), processor.ready())
        truth = Historian(11).history(840)
        sending = asyncio.create_task(github.send_all(receiver, truth.deliveries))
        await github.drained(processor, processed=len(truth.deliveries) // 5)
        await private_postgres.kill()
        assert await sending == {202: len(truth.deliveries)}, "the receiver does not need the database"
        await asyncio.sleep(2)
        assert figures.of_ci(await github.figures(processor)) == {}
        await private_postgres.start()
        counted = await until(lambda: true_figures(github, truth, processor), 60)
        assert figures.total(counted, "promgithub_dead_letters") == 0
        await processor.terminate()


async def test_a_broker_killed_under_load_costs_a_503_and_loses_nothing_accepted(
    launcher: Launcher, database_url: str, github: GitHub, private_rabbit: RabbitServer
) -> None:
    broker = {"AMQP_URL": private_rabbit.url, "QUEUE_NAME": "killed"}
    receiver = launcher.start("ingest", WEBHOOK_SECRET=SECRET, **broker)
    processor = launcher.start("processor", DATABASE_URL=database_url, **broker)
    await asyncio.gather(receiver.ready(), processor.ready())
    await asyncio.sleep(QUEUE_SETTLED_SECONDS)
    truth = Historian(12).history(840)

    half = len(truth.deliveries) // 2
    assert await github.send_all(receiver, truth.deliveries[:half]) == {202: half}

    await private_rabbit.kill()
    sending = asyncio.gather(*(github.deliver(receiver, delivery) for delivery in truth.deliveries[half:]))
    await asyncio.sleep(1)
    await private_rabbit.start()
    assert sum(await asyncio.wait_for(sending, 60)) > 0
    await until(lambda: true_figures(github, truth, processor), 60)


async def test_processors_killed_under_load_neither_lose_nor_double(
    start_receiver: Start, start_processor: Start, github: GitHub
) -> None:
    receiver, first, second = start_receiver(), start_processor(), start_processor()
    await asyncio.gather(receiver.ready(), first.ready(), second.ready())
    truth = Historian(13).history(1120)
    sending = asyncio.create_task(github.send_all(receiver, truth.deliveries))
    for processor in (first, second, first, second):
        await asyncio.sleep(0.4)
        await processor.kill()
        processor.start()
    assert await sending == {202: len(truth.deliveries)}
    await asyncio.gather(first.ready(), second.ready())
    await until(lambda: true_figures(github, truth, first, second), 60)


async def test_a_receiver_killed_under_load_loses_nothing_that_it_accepted(
    start_receiver: Start, start_processor: Start, github: GitHub
) -> None:
    receiver, processor = start_receiver(), start_processor()
    await asyncio.gather(receiver.ready(), processor.ready())
    truth = Historian(14).history(1000)

    sending = asyncio.gather(*(github.deliver(receiver, delivery) for delivery in truth.deliveries))
    for _ in range(4):
        await asyncio.sleep(0.3)
        await receiver.kill()
        receiver.start()
        await receiver.ready()
    await asyncio.wait_for(sending, 60)
    await until(lambda: true_figures(github, truth, processor), 60)
