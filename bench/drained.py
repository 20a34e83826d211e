"""Draining a full queue, measured by the times in the store at which deliveries were counted."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import func, select

from bench.proc import recorded_cpu
from bench.queues import Queue
from bench.stage import answer_of
from processor.store.engine import create_engine
from processor.store.tables import deliveries as counted_deliveries
from shared.delivery import Delivery
from tests.support.processes import Process

WARM_SHARE = 0.1
"""The share of deliveries before the measurement starts (warm-up: connections, prepared statements, first series)."""

_POLL_SECONDS = 0.25
_LONGEST_SECONDS = 300.0


class Drained(msgspec.Struct, frozen=True):
    """How many deliveries were counted, how many per second, and the CPU seconds of the processors for each.

    `broker_cpu`, `database_cpu`: the CPU seconds of RabbitMQ and of PostgreSQL for each, where they were used.
    """

    deliveries: int
    rate: float
    cpu: float
    broker_cpu: float = 0.0
    database_cpu: float = 0.0

    def details(self) -> Mapping[str, float]:
        """Return the CPU time of each process per delivery, in µs."""
        return {
            "processor_us": self.cpu * 1e6,
            "rabbitmq_us": self.broker_cpu * 1e6,
            "postgresql_us": self.database_cpu * 1e6,
        }


async def drain(
    queue: Queue,
    database_url: str,
    count: int,
    processors: int = 1,
    *,
    settings: Mapping[str, str] | None = None,
    deliveries: Iterable[Delivery] | None = None,
    beside: Callable[[Process], Coroutine[Any, Any, None]] | None = None,
) -> Drained:
    """Fill a queue with `count` deliveries, and let processors drain it; raise `AssertionError` if one is lost.

    `deliveries` are the next ones of the stage by default. `beside` uses the first processor meanwhile, until it is
    cancelled.
    """
    queue.stage.tell(f"filling the queue ({queue.name}, {count} deliveries)")
    await queue.fill(queue.stage.editions.take(count) if deliveries is None else deliveries)
    queue.stage.tell(f"draining it with {processors} processor{'s' * (processors > 1)}")
    since, (broker, database) = time.time(), queue.stage.servers_cpu()
    started = [queue.start_processor(database_url, **(settings or {})) for _ in range(processors)]
    using = asyncio.create_task(beside(started[0])) if beside else None
    async with recorded_cpu(*(process.pid for process in started)) as record:
        moments = await _counted(started, database_url, since, count)
    if using is not None:
        using.cancel()
    broker_after, database_after = queue.stage.servers_cpu()
    await asyncio.gather(*(process.terminate() for process in started))
    # The time of a batch is that of its start, so the time of the last batch is the end of those before it.
    warm, last = moments[int(count * WARM_SHARE)], moments[-1]
    between = sum(1 for moment in moments if warm <= moment < last)
    return Drained(
        len(moments),
        between / (last - warm),
        record.between(warm, last) / between,
        (broker_after - broker) / count,
        (database_after - database) / count,
    )


def fastest(rounds: Sequence[Drained]) -> Drained:
    """Return the fastest one: whatever else happens on the machine can only slow the others down."""
    return max(rounds, key=lambda one: one.rate)


async def consume_only(queue: Queue, count: int) -> Drained:
    """Fill a queue with `count` deliveries, and let the bare consumer drain it."""
    queue.stage.tell(f"filling the queue ({queue.name}, {count} deliveries) for a consumer that only decodes and acks")
    await queue.fill(queue.stage.editions.take(count))
    return msgspec.json.decode(await answer_of(queue.consumer(count)), type=Drained)


async def _counted(processors: Sequence[Process], database_url: str, since: float, count: int) -> list[float]:
    """Wait until `count` deliveries have been counted; return the time of each, in Unix seconds."""
    await asyncio.gather(*(process.ready() for process in processors))
    engine = create_engine(database_url, connections=1, application="bench")
    counted = counted_deliveries.c.claimed_at >= int(since * 1000)
    try:
        async with asyncio.timeout(_LONGEST_SECONDS):
            done = 0
            while done < count:
                await asyncio.sleep(_POLL_SECONDS)
                async with engine.connect() as connection:
                    done = await connection.scalar(select(func.count()).where(counted)) or 0
        async with engine.connect() as connection:
            rows = await connection.scalars(select(counted_deliveries.c.claimed_at).where(counted))
            moments = sorted(moment / 1000 for moment in rows)
    finally:
        await engine.dispose()
    if len(moments) != count:
        raise AssertionError(f"{len(moments)} deliveries were counted instead of {count}")
    return moments
