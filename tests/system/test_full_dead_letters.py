"""The dead-letter queue is full: counting waits, says why, and goes on once there is room. No delivery is lost."""

import asyncio
from collections.abc import Callable

from promgithub.simulation.histories import Historian
from tests.support import builders, figures
from tests.support.github import GitHub, until
from tests.support.processes import Process
from tests.support.servers.rabbitmq import take_all

Start = Callable[..., Process]

SIZE = 20
BAD = 3 * SIZE
GOOD = 140


async def test_a_full_dead_letter_queue_delays_counting_and_loses_nothing(
    start_receiver: Start, start_processor: Start, github: GitHub, amqp_url: str, queue_name: str
) -> None:
    small = {"EVENT_QUEUE_SIZE": str(SIZE)}
    receiver, processor = start_receiver(**small), start_processor(**small)
    await asyncio.gather(receiver.ready(), processor.ready())
    truth = Historian(90).history(GOOD)
    bad = [builders.delivery({"workflow_job": {"id": "one"}}, event="workflow_job") for _ in range(BAD)]
    sending = asyncio.create_task(github.deliver_all(receiver, [*bad, *truth.deliveries]))

    async def waits() -> bool | None:
        shown = await github.figures(processor)
        retries = figures.total(shown, "promgithub_event_retries_total", cause="broker")
        return (retries > 0 and figures.value(shown, "promgithub_dead_letters") >= SIZE) or None

    await until(waits, 30)
    await processor.says(f"the dead-letter queue {queue_name}.dead is full; replay or drop dead letters")

    letters: list[str | None] = []

    async def all_taken() -> bool | None:
        letters.extend(letter.message_id for letter in await take_all(amqp_url, f"{queue_name}.dead"))
        return len(letters) >= BAD or None

    await until(all_taken, 60)
    await asyncio.wait_for(sending, 60)
    await github.settled(truth, processor)
    assert sorted(map(str, letters)) == sorted(delivery.id for delivery in bad)
