"""The receiver's CPU time per delivery."""

import math
from collections.abc import AsyncIterator, Mapping

from bench.proc import cpu_seconds
from bench.queues import QUEUES, RabbitQueue
from bench.result import Result, at_most_times
from bench.stage import Stage
from tests.support.processes import Process

_TARGETS = {
    ("RabbitMQ", 32): at_most_times(1.8),
    ("RabbitMQ", 256): at_most_times(1.8),
    ("spool", 32): at_most_times(3),
    ("spool", 256): at_most_times(3),
}
_CONNECTIONS = (32, 256)
_WARM = 1000
_DELIVERIES = 4000
_ROUNDS = 5


async def measure(stage: Stage) -> AsyncIterator[Result]:
    """Measure the receiver's CPU time per accepted delivery, beside a handler that only checks the HMAC."""
    bare = stage.start_module("bench.bare")
    for open_queue in QUEUES:
        async with open_queue(stage) as queue:
            receiver = queue.start_receiver()
            for connections in _CONNECTIONS:
                (before, _), name = stage.servers_cpu(), f"receiver, {queue.name}"
                costs = await _costs(stage, {"bare handler": bare, name: receiver}, connections)
                broker = (stage.servers_cpu()[0] - before) / (_WARM + _ROUNDS * _DELIVERIES)
                yield Result(
                    f"receiver CPU per delivery, {queue.name}, {connections} connections",
                    costs[name] * 1e6,
                    "µs",
                    "user and system time of the receiver process, all its threads, per delivery answered with 202, "
                    "bodies of 10.6 kB on average, after a warm-up; ceiling: an aiohttp handler on uvloop that reads "
                    "the body and checks the HMAC, under the same load in turns; the least of "
                    f"{_ROUNDS} rounds",
                    ceiling=costs["bare handler"] * 1e6,
                    target=_TARGETS[queue.name, connections],
                    details={"rabbitmq_us": broker * 1e6} if queue.name == RabbitQueue.name else {},
                )
            await receiver.terminate()
    await bare.kill()


async def _costs(stage: Stage, processes: Mapping[str, Process], connections: int) -> Mapping[str, float]:
    """Load processes in turns; return the least CPU seconds of each per accepted delivery."""
    costs = dict.fromkeys(processes, math.inf)
    for process in processes.values():
        await process.ready()
        await stage.load(process, connections, _WARM)
    for turn in range(_ROUNDS):
        for name, process in processes.items():
            stage.tell(f"round {turn + 1} of {_ROUNDS}: {name}")
            before = cpu_seconds(process.pid)
            outcome = await stage.load(process, connections, _DELIVERIES)
            costs[name] = min(costs[name], (cpu_seconds(process.pid) - before) / outcome.accepted)
    return costs
