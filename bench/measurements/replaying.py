"""How fast `promgithub dead-letters` puts dead letters back into the queue."""

import asyncio
import time
from collections.abc import AsyncIterator

from bench.queues import QUEUES, Queue
from bench.result import Result, at_least
from bench.stage import Stage, answer_of
from shared.brokers.interface import Batch

_LETTERS = 10_000
_AT_ONCE = 250
_LINGER = 0.02  # seconds

_OF = (
    "dead letters (10.6 kB on average) that `promgithub dead-letters replay --all --wait 0` puts back into the queue "
    "per second, with the start and the end of the command; RabbitMQ shares the cores; each is confirmed before it is "
    "removed"
)


async def measure(stage: Stage) -> AsyncIterator[Result]:
    """Measure how fast all dead letters are replayed."""
    for new_queue in QUEUES:
        async with new_queue(stage) as queue:
            await _bury(queue)
            stage.tell(f"replaying {_LETTERS} dead letters ({queue.name})")
            began = time.perf_counter()
            printed = await answer_of(queue.dead_letters("replay", "--all", "--wait", "0"))
            seconds = time.perf_counter() - began
            if printed != b"%d replayed\n" % _LETTERS:
                raise AssertionError(f"not all were replayed: {printed.decode()}")
            target = at_least(1000) if queue.name == "RabbitMQ" else None
            yield Result(f"dead letters replayed, {queue.name}", _LETTERS / seconds, "/s", _OF, target=target)


async def _bury(queue: Queue) -> None:
    """Let every delivery of a full queue become a dead letter."""
    queue.stage.tell(f"making {_LETTERS} dead letters ({queue.name})")
    await queue.fill(queue.stage.editions.take(_LETTERS))
    left = _LETTERS
    async with queue.connected() as broker:
        consumer = await broker.consume(_AT_ONCE)
        async for batch in consumer.batches(_AT_ONCE, _LINGER):
            await _refuse(batch)
            left -= len(batch.deliveries)
            if not left:
                break
        await consumer.release()


async def _refuse(batch: Batch) -> None:
    await asyncio.gather(*(batch.dead_letter(delivery, "refused", "by the benchmark") for delivery in batch.deliveries))
    await batch.ack()
