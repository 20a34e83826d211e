"""Processes are killed at random times under load: no accepted delivery is lost or counted twice."""

import asyncio
import random
from collections.abc import Callable

from promgithub.simulation.histories import Historian
from tests.support import figures
from tests.support.github import GitHub
from tests.support.processes import Process

Start = Callable[..., Process]

ROUNDS = 20

NEVER = str(100 * ROUNDS)
"""A delivery limit that is out of reach: each kill of a processor costs all that it holds one redelivery."""


async def kill_by_chance(processes: list[Process], seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a test that fails must fail again
    for _ in range(ROUNDS):
        await asyncio.sleep(chance.uniform(0.2, 1.8))
        process = chance.choice(processes)
        await process.kill()
        process.start()


async def test_receiver_and_processors_killed_at_any_instant_lose_nothing_accepted_and_count_nothing_twice(
    start_receiver: Start, start_processor: Start, github: GitHub
) -> None:
    receiver = start_receiver(DELIVERY_LIMIT=NEVER)
    processors = [start_processor(DELIVERY_LIMIT=NEVER) for _ in range(2)]
    await asyncio.gather(*(process.ready() for process in (receiver, *processors)))
    truth = Historian(14).history(2100)

    sending = asyncio.create_task(github.deliver_all(receiver, truth.deliveries, over=ROUNDS))
    await kill_by_chance([receiver, *processors], seed=14)
    assert await asyncio.wait_for(sending, 60) > 0, "no kill was noticed"
    await asyncio.gather(*(processor.ready() for processor in processors))
    counted = await github.settled(truth, *processors)
    assert figures.value(counted, "promgithub_dead_letters") == 0
