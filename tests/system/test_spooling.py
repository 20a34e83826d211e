"""A receiver with a spool accepts deliveries during a broker outage, and the metrics are correct afterwards."""

import asyncio
import random
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio

from promgithub.simulation.histories import Historian, History
from shared.delivery import Delivery
from tests.support import builders, figures
from tests.support.figures import Figures
from tests.support.github import SECRET, GitHub, until
from tests.support.processes import Launcher, Process
from tests.support.servers.rabbitmq import QUEUE_SETTLED_SECONDS, RabbitServer, largest_message, memory_alarm

Start = Callable[..., Process]


@pytest.fixture
def broker(private_rabbit: RabbitServer, request: pytest.FixtureRequest) -> dict[str, str]:
    """Give the settings that lead to a queue of the test's own on a RabbitMQ that it may break."""
    return {"AMQP_URL": private_rabbit.url, "QUEUE_NAME": request.node.name[:200].replace("[", ".").replace("]", "")}


@pytest.fixture
def spool_dir(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest_asyncio.fixture
async def receiver(broker: dict[str, str], spool_dir: Path, launcher: Launcher) -> Process:
    """Give a receiver with a spool, whose queue may be killed."""
    started = launcher.start("ingest", WEBHOOK_SECRET=SECRET, SPOOL_DIR=str(spool_dir), **broker)
    return await settled(started)


@pytest.fixture
def start_processor(broker: dict[str, str], database_url: str, launcher: Launcher) -> Start:
    def start(**settings: str) -> Process:
        return launcher.start("processor", DATABASE_URL=database_url, **broker, **settings)

    return start


async def settled(receiver: Process) -> Process:
    await receiver.ready()
    await asyncio.sleep(QUEUE_SETTLED_SECONDS)
    return receiver


async def has(github: GitHub, process: Process, name: str, value: float) -> Figures:
    """Wait until a metric without labels has a value; return all figures."""

    async def reached() -> Figures | None:
        counted = await github.figures(process)
        return counted if figures.value(counted, name) == value else None

    return await until(reached, 60)


async def is_true(github: GitHub, truth: History, receiver: Process, processor: Process) -> Figures:
    """Wait until the figures of a processor, which may still be starting, are the true ones.

    Return the receiver's, whose spool must be empty then.
    """
    await processor.ready()
    counted = await github.settled(truth, processor)
    assert figures.value(counted, "promgithub_dead_letters") == 0
    return await has(github, receiver, "promgithub_spool_deliveries", 0)


def outcome(counted: Figures, name: str) -> float:
    return figures.total(counted, "promgithub_webhook_requests_total", outcome=name)


async def paced(github: GitHub, receiver: Process, deliveries: Iterable[Delivery], rate: float) -> set[int]:
    """Send deliveries at a rate per second; return which statuses were answered."""
    sending = []
    for delivery in deliveries:
        sending.append(asyncio.create_task(github.send(receiver, delivery)))
        await asyncio.sleep(1 / rate)
    return set(await asyncio.gather(*sending))


async def test_a_broker_killed_under_load_costs_no_delivery(
    receiver: Process, start_processor: Start, github: GitHub, private_rabbit: RabbitServer
) -> None:
    processor = start_processor()
    await processor.ready()
    truth = Historian(41).history(1400)
    half = len(truth.deliveries) // 2
    sending = asyncio.create_task(github.send_all(receiver, truth.deliveries[:half]))
    await github.drained(processor, processed=half // 3)
    await private_rabbit.kill()
    # A slow machine may have sent the first half before the kill; these meet no broker for certain.
    assert await github.send_all(receiver, truth.deliveries[half:]) == {202: len(truth.deliveries) - half}
    assert await sending == {202: half}
    counted = await has(github, receiver, "promgithub_broker_up", 0)
    assert figures.value(counted, "promgithub_spool_deliveries") == outcome(counted, "spooled") > 0
    assert figures.value(counted, "promgithub_spool_bytes") > 0
    await receiver.ready()  # or no ingress would send it what only it can keep

    await private_rabbit.start()
    counted = await is_true(github, truth, receiver, processor)
    assert figures.value(counted, "promgithub_spool_forwarded_total") == outcome(counted, "spooled")
    assert outcome(counted, "accepted") + outcome(counted, "spooled") == len(truth.deliveries)


@pytest.mark.drill
async def test_a_broker_away_for_30_seconds_under_load_costs_no_delivery_and_shows(
    receiver: Process, start_processor: Start, github: GitHub, private_rabbit: RabbitServer
) -> None:
    processor = start_processor()
    await processor.ready()
    truth = Historian(42).history(1400)
    sending = asyncio.create_task(paced(github, receiver, truth.deliveries, rate=len(truth.deliveries) / 35))
    await asyncio.sleep(2)
    await private_rabbit.stop()
    await asyncio.sleep(30)
    counted = await github.figures(receiver)
    assert figures.value(counted, "promgithub_broker_up") == 0
    assert figures.value(counted, "promgithub_spool_oldest_age_seconds") > 20
    await private_rabbit.start()
    assert await sending == {202}
    await is_true(github, truth, receiver, processor)


async def test_a_broker_that_hangs_delays_no_answer_beyond_the_deadline_and_costs_no_delivery(
    receiver: Process, start_processor: Start, github: GitHub, private_rabbit: RabbitServer
) -> None:
    processor = start_processor()
    await processor.ready()
    truth = Historian(43).history(700)
    with private_rabbit.frozen():
        assert await github.send_all(receiver, truth.deliveries) == {202: len(truth.deliveries)}
        counted = await github.figures(receiver)
        assert outcome(counted, "spooled") == len(truth.deliveries)
    await is_true(github, truth, receiver, processor)


@pytest.mark.drill
async def test_what_arrives_once_the_broker_is_back_does_not_wait_for_the_backlog(
    receiver: Process, start_processor: Start, github: GitHub, private_rabbit: RabbitServer
) -> None:
    truth = Historian(44).history(2800)
    half = len(truth.deliveries) // 2
    await private_rabbit.kill()
    assert await github.send_all(receiver, truth.deliveries[:half]) == {202: half}
    await private_rabbit.start()
    await has(github, receiver, "promgithub_broker_up", 1)
    # The first attempt to forward anything may be a second away, and nothing goes past the spool before.
    assert await github.send_over(receiver, truth.deliveries[half:], 4) == {202: len(truth.deliveries) - half}
    counted = await is_true(github, truth, receiver, start_processor())
    assert outcome(counted, "accepted") > 0


@pytest.mark.drill
async def test_a_receiver_killed_during_the_outage_goes_on_where_it_was(
    receiver: Process, start_processor: Start, github: GitHub, private_rabbit: RabbitServer
) -> None:
    chance = random.Random(45)  # noqa: S311 - a test that fails must fail again
    truth = Historian(45).history(1120)
    await private_rabbit.kill()
    sending = asyncio.create_task(github.deliver_all(receiver, truth.deliveries))
    for round_ in range(6):
        await asyncio.sleep(chance.uniform(0.1, 1))
        await receiver.kill()
        receiver.start()
        await receiver.ready()
        if round_ == 3:
            await private_rabbit.start()
    await asyncio.wait_for(sending, 60)
    await is_true(github, truth, receiver, start_processor())


@pytest.mark.drill
async def test_a_receiver_that_is_asked_to_stop_leaves_nothing_in_the_spool_if_the_broker_takes_it(
    receiver: Process, start_processor: Start, github: GitHub, private_rabbit: RabbitServer, spool_dir: Path
) -> None:
    truth = Historian(46).history(2800)
    await private_rabbit.kill()
    await github.send_all(receiver, truth.deliveries)
    await private_rabbit.start()
    await has(github, receiver, "promgithub_broker_up", 1)
    assert await receiver.terminate() == 0
    with closing(sqlite3.connect(spool_dir / "deliveries.db")) as spool:
        assert spool.execute("SELECT count(*) FROM deliveries").fetchone() == (0,)
    processor = start_processor()
    receiver.start()
    await asyncio.gather(processor.ready(), receiver.ready())
    await is_true(github, truth, receiver, processor)


async def test_a_receiver_that_is_asked_to_stop_during_the_outage_does_not_wait_for_its_end(
    receiver: Process, github: GitHub, private_rabbit: RabbitServer
) -> None:
    await private_rabbit.kill()
    assert await github.send_all(receiver, Historian(47).history(70).deliveries)
    assert await receiver.terminate(within=5) == 0
    assert "deliveries stay in the spool" in receiver.log


async def test_a_full_spool_refuses_and_keeps_exactly_what_was_accepted(
    broker: dict[str, str],
    spool_dir: Path,
    launcher: Launcher,
    start_processor: Start,
    github: GitHub,
    private_rabbit: RabbitServer,
) -> None:
    settings = {"SPOOL_DIR": str(spool_dir), "SPOOL_MAX_BYTES": "1000000", "WEBHOOK_SECRET": SECRET} | broker
    receiver = await settled(launcher.start("ingest", **settings))
    truth = Historian(48).history(700)
    await private_rabbit.kill()
    answers = await github.send_all(receiver, truth.deliveries)
    assert set(answers) == {202, 503}
    counted = await github.figures(receiver)
    assert figures.value(counted, "promgithub_spool_deliveries") == outcome(counted, "spooled") == answers[202]
    assert outcome(counted, "broker_down") == answers[503]
    assert 900_000 < figures.value(counted, "promgithub_spool_bytes") <= 1_000_000
    assert figures.value(counted, "promgithub_spool_capacity_bytes") == 1_000_000
    with pytest.raises(AssertionError):
        await receiver.ready(within=1)

    await private_rabbit.start()
    await receiver.ready()
    await github.deliver_all(receiver, truth.deliveries)
    await is_true(github, truth, receiver, start_processor())


async def test_a_full_queue_is_buffered_until_a_processor_makes_room(
    broker: dict[str, str], spool_dir: Path, launcher: Launcher, start_processor: Start, github: GitHub
) -> None:
    bound = {"EVENT_QUEUE_SIZE": "100"}
    # A spool has the same bound on its deliveries as the queue, unless it is raised as here, at the next start.
    first = await settled(launcher.start("ingest", WEBHOOK_SECRET=SECRET, **broker, **bound))
    await first.terminate()
    receiver = await settled(launcher.start("ingest", WEBHOOK_SECRET=SECRET, SPOOL_DIR=str(spool_dir), **broker))
    truth = Historian(49).history(700)
    assert await github.send_all(receiver, truth.deliveries) == {202: len(truth.deliveries)}
    counted = await github.figures(receiver)
    assert figures.value(counted, "promgithub_broker_up") == 1
    assert figures.value(counted, "promgithub_spool_deliveries") > len(truth.deliveries) - 200
    await is_true(github, truth, receiver, start_processor())


@pytest.mark.drill
async def test_an_alarm_is_buffered_and_what_the_broker_then_finds_too_large_is_a_dead_letter_alone(
    receiver: Process, start_processor: Start, github: GitHub, private_rabbit: RabbitServer
) -> None:
    truth = Historian(50).history(280)
    large = builders.delivery(builders.push() | {"compare": "x" * 2_000_000})
    async with largest_message(private_rabbit, 1_000_000):
        async with memory_alarm(private_rabbit):
            answers = await github.send_all(receiver, [*truth.deliveries[:100], large, *truth.deliveries[100:]])
            assert answers == {202: len(truth.deliveries) + 1}
            assert outcome(await github.figures(receiver), "spooled") == len(truth.deliveries) + 1
            await private_rabbit.ctl("close_all_connections", "by the test")  # new ones have the new limit
        counted = await is_true(github, truth, receiver, start_processor())
    assert figures.value(counted, "promgithub_spool_dead_letters") == 1
