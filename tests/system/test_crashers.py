"""A delivery that crashes every process becomes a dead letter, and no other delivery does."""

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from promgithub.simulation.histories import Historian
from shared.brokers.spool.file import FILE
from shared.delivery import Delivery
from tests.support import builders, figures
from tests.support.github import SECRET, GitHub, until
from tests.support.processes import Launcher, Process
from tests.support.servers.rabbitmq import take_all

Start = Callable[..., Process]

LIMIT = 3

CHANNELS = 4
"""Those of two processors. If these die at almost the same time, what one held may come back from each of them."""

CRASHING = """
import os
from processor import pipeline
from promgithub.__main__ import main

interpret = pipeline.interpret

def crash(delivery, branches):
    if delivery.event == "crash":
        os._exit(70)
    return interpret(delivery, branches)

pipeline.interpret = crash
main()
"""
"""The command, but for an event that ends the process at once, as a bug in a library written in C would."""


def among(deliveries: Sequence[Delivery], crasher: Delivery) -> list[Delivery]:
    middle = len(deliveries) // 2
    return [*deliveries[:middle], crasher, *deliveries[middle:]]


@asynccontextmanager
async def orchestrated(*processes: Process) -> AsyncIterator[list[int]]:
    """Start each process again whenever it has ended; give the list of the exit statuses."""
    statuses: list[int] = []

    async def keep(process: Process) -> None:
        while True:
            statuses.append(await process.ended(within=120))
            process.start()

    keeping = [asyncio.create_task(keep(process)) for process in processes]
    try:
        yield statuses
    finally:
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)


async def burial(github: GitHub, process: Process) -> None:
    """Wait until a process that stays alive tells of a dead letter."""

    async def there() -> bool | None:
        try:
            return figures.total(await github.figures(process), "promgithub_dead_letters") > 0 or None
        except OSError:
            return None

    await until(there, 60)


@pytest.mark.drill
async def test_a_delivery_that_kills_processors_becomes_a_dead_letter_alone(
    start_receiver: Start, launcher: Launcher, github: GitHub, amqp_url: str, queue_name: str, database_url: str
) -> None:
    limit = {"DELIVERY_LIMIT": str(CHANNELS + 1)}
    receiver = start_receiver(**limit)
    await receiver.ready()
    truth, crasher = Historian(51).history(420), builders.delivery({}, event="crash")
    await github.deliver_all(receiver, among(truth.deliveries, crasher))

    settings = {"AMQP_URL": amqp_url, "QUEUE_NAME": queue_name, "DATABASE_URL": database_url} | limit
    command = [sys.executable, "-c", CRASHING, "processor"]
    processors = [launcher.start_command(command, **settings) for _ in range(2)]
    async with orchestrated(*processors) as statuses:
        await burial(github, processors[0])
        await asyncio.gather(*(processor.ready() for processor in processors))
        await github.settled(truth, *processors)
    # RabbitMQ ends the channels of a dead process one after the other, and may give what came back over one of them to
    # another that is about to end too: a death can count more than once.
    assert set(statuses) == {70}
    assert (CHANNELS + 1) / CHANNELS < len(statuses) <= CHANNELS + 2
    assert [letter.message_id for letter in await take_all(amqp_url, f"{queue_name}.dead")] == [crasher.id]


async def test_a_delivery_that_kills_standalone_becomes_a_dead_letter_alone(
    launcher: Launcher, github: GitHub, tmp_path: Path
) -> None:
    arguments = ["standalone", "--data-dir", str(tmp_path / "data")]
    settings = {"WEBHOOK_SECRET": SECRET, "DELIVERY_LIMIT": str(LIMIT)}
    standalone = launcher.start_command([sys.executable, "-c", CRASHING, *arguments], **settings)
    truth, crasher = Historian(52).history(420), builders.delivery({}, event="crash")
    async with orchestrated(standalone) as statuses:
        await github.deliver_all(standalone, among(truth.deliveries, crasher))
        await burial(github, standalone)
        await github.settled(truth, standalone, within=20)
    assert statuses == [70] * (LIMIT + 1)
    with sqlite3.connect(tmp_path / "data" / "spool" / FILE) as spool:
        assert spool.execute("SELECT id, reason FROM dead_letters").fetchall() == [(crasher.id, "delivery_limit")]
