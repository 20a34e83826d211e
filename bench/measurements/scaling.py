"""The speed of several processors."""

from collections.abc import AsyncIterator

from bench.drained import drain
from bench.queues import rabbit_queue
from bench.result import Result
from bench.stage import Stage

_DELIVERIES = 12_000
_PROCESSORS = (2, 4)


async def measure(stage: Stage) -> AsyncIterator[Result]:
    """Measure how fast two and four processors drain a full queue, beside one."""
    async with rabbit_queue(stage) as queue:
        async with stage.database() as url:
            alone = await drain(queue, url, _DELIVERIES)
        for processors in _PROCESSORS:
            async with stage.database() as url:
                together = await drain(queue, url, _DELIVERIES, processors)
            yield Result(
                f"drain with {processors} processors",
                together.rate,
                "/s",
                "deliveries counted per second by all of them together, from RabbitMQ into one PostgreSQL, without the "
                "first tenth; all share the cores with both servers; ceiling: one processor",
                ceiling=alone.rate,
                details=together.details(),
            )
