"""A burst: ten thousand deliveries in two seconds, fewer on a slower machine."""

import asyncio
from collections.abc import AsyncIterator

from bench.orders import LoadOutcome
from bench.proc import peak_megabytes
from bench.queues import QUEUES, rabbit_queue
from bench.result import Result, at_most
from bench.stage import Stage

_CONNECTIONS = 256
_DELIVERIES = 10_000
"""On the reference machine; a slower one is sent as many as it has of that machine's speed."""

_SECONDS = 2.0
_ROUNDS = 3


async def measure(stage: Stage) -> AsyncIterator[Result]:
    """Measure a burst of up to 10,000 deliveries in 2 s: latency, losses, and the receiver's memory."""
    speed = await stage.speed()
    deliveries = round(_DELIVERIES * speed)
    for open_queue in QUEUES:
        async with open_queue(stage) as queue:
            receiver = queue.start_receiver()
            await receiver.ready()
            stage.tell(f"burst of {deliveries} deliveries in {_SECONDS:g} s, {queue.name}")
            outcome = await stage.load(receiver, _CONNECTIONS, deliveries, deliveries / _SECONDS)
            peak = peak_megabytes(receiver.pid)
            await receiver.terminate()
            queued = await queue.depth()
        yield Result(
            f"burst, ack p99, {queue.name}",
            outcome.p99,
            "ms",
            f"{deliveries} deliveries due at fixed times within {_SECONDS:g} s to a receiver that has just started, "
            f"over at most {_CONNECTIONS} connections; from when a delivery is due to its answer; "
            f"{_DELIVERIES} times this machine's speed, {speed:.2f} of the reference",
            target=at_most(250),
            details=outcome.latencies | {"seconds_until_all_answered": outcome.seconds},
        )
        yield Result(
            f"burst, lost, {queue.name}",
            deliveries - min(queued, outcome.accepted),
            "deliveries",
            "deliveries that were not answered with 202, and those that were but are not in the queue afterwards",
            target=at_most(0),
            details={"accepted": outcome.accepted, "queued": queued},
        )
        yield Result(
            f"receiver memory, {queue.name}",
            peak,
            "MB",
            "the most that was resident (VmHWM) from the start of the process to the end of the burst",
            target=at_most(150),
        )
    rounds = [await _beside_a_processor(stage, deliveries) for _ in range(_ROUNDS)]
    best = min(rounds, key=lambda outcome: outcome.p99)
    yield Result(
        "burst, ack p99, RabbitMQ, a processor beside",
        best.p99,
        "ms",
        "the same while a processor counts them; receiver, processor, servers and load share the cores; the best of "
        f"{_ROUNDS} rounds",
        target=at_most(250),
        details=best.latencies | {"worst_round_p99_ms": max(outcome.p99 for outcome in rounds)},
    )


async def _beside_a_processor(stage: Stage, deliveries: int) -> LoadOutcome:
    async with rabbit_queue(stage) as queue, stage.database() as url:
        receiver, processor = queue.start_receiver(), queue.start_processor(url)
        await asyncio.gather(receiver.ready(), processor.ready())
        stage.tell(f"burst of {deliveries} deliveries in {_SECONDS:g} s, a processor beside")
        outcome = await stage.load(receiver, _CONNECTIONS, deliveries, deliveries / _SECONDS)
        await asyncio.gather(receiver.terminate(), processor.terminate())
    return outcome
