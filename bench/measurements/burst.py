"""Ten thousand deliveries in two seconds."""

from collections.abc import AsyncIterator

from bench.proc import peak_megabytes
from bench.queues import QUEUES
from bench.result import Result, at_most
from bench.stage import Stage

_CONNECTIONS = 256
_DELIVERIES = 10_000
_SECONDS = 2.0


async def measure(stage: Stage) -> AsyncIterator[Result]:
    """Measure a burst of 10,000 deliveries in 2 s: latency, losses, and the receiver's memory."""
    for open_queue in QUEUES:
        async with open_queue(stage) as queue:
            receiver = queue.start_receiver()
            await receiver.ready()
            stage.tell(f"burst of {_DELIVERIES} deliveries in {_SECONDS:g} s, {queue.name}")
            outcome = await stage.load(receiver, _CONNECTIONS, _DELIVERIES, _DELIVERIES / _SECONDS)
            peak = peak_megabytes(receiver.pid)
            await receiver.terminate()
            queued = await queue.depth()
        yield Result(
            f"burst, ack p99, {queue.name}",
            outcome.p99,
            "ms",
            f"{_DELIVERIES} deliveries due at fixed times within {_SECONDS:g} s to a receiver that has just started, "
            f"over at most {_CONNECTIONS} connections; from when a delivery is due to its answer",
            target=at_most(250),
            details=outcome.latencies | {"seconds_until_all_answered": outcome.seconds},
        )
        yield Result(
            f"burst, lost, {queue.name}",
            _DELIVERIES - min(queued, outcome.accepted),
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
