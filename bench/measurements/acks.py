"""How many deliveries receivers make durable per second."""

from collections.abc import AsyncIterator, Mapping

from bench.orders import LoadOutcome, Order
from bench.queues import QUEUES, RabbitQueue, rabbit_queue
from bench.result import Result, Target, at_least_times
from bench.stage import Stage
from ingest.webhook import PATH
from tests.support.processes import Process

_DELIVERIES = {1: 1500, 32: 10_000, 256: 10_000}
"""How many deliveries are sent over how many connections."""

_TARGET = at_least_times(0.25)
_TARGET_OF_TWO = at_least_times(0.6)
_ROUNDS_OF_TWO = 3
_WARM = 1000


async def measure(stage: Stage) -> AsyncIterator[Result]:
    """Measure durable acks per second of receivers at 1, 32 and 256 connections, and their latencies."""
    bare = stage.start_module("bench.bare")
    ceilings = await _outcomes(stage, "bare handler", bare)
    await bare.kill()
    for open_queue in QUEUES:
        async with open_queue(stage) as queue:
            receiver = queue.start_receiver()
            outcomes = await _outcomes(stage, f"receiver, {queue.name}", receiver)
            await receiver.terminate()
        best = max(outcomes, key=lambda connections: outcomes[connections].rate)
        for connections, outcome in outcomes.items():
            ceiling = ceilings[connections].rate
            yield _result(queue.name, connections, outcome, ceiling, _TARGET if connections == best else None)
    connections = max(_DELIVERIES)
    async with rabbit_queue(stage) as queue:
        outcome = await _of_two(stage, queue, connections)
    yield Result(
        f"durable acks, RabbitMQ, {connections} connections, two receivers",
        outcome.rate,
        "/s",
        "the same of two receiver processes together; ceiling: one process of the handler that only checks the HMAC",
        ceiling=ceilings[connections].rate,
        target=_TARGET_OF_TWO,
        details=outcome.latencies,
    )


def _result(broker: str, connections: int, outcome: LoadOutcome, ceiling: float, target: Target | None) -> Result:
    return Result(
        f"durable acks, {broker}, {connections} connection{'s' * (connections > 1)}",
        outcome.rate,
        "/s",
        "answers 202 of one receiver process, each after the broker's confirm, where every connection sends the next "
        "delivery (10.6 kB on average) as soon as it has an answer; broker and load share the cores; ceiling: the "
        "handler that only checks the HMAC at as many connections; the target is for the best of the three",
        ceiling=ceiling,
        target=target,
        details=outcome.latencies,
    )


async def _of_two(stage: Stage, queue: RabbitQueue, connections: int) -> LoadOutcome:
    """Return the best of some rounds in which two receivers share the load."""
    receivers = [queue.start_receiver() for _ in range(2)]
    for receiver in receivers:
        await receiver.ready()
        await stage.load(receiver, 32, _WARM)
    first, second = (receiver.service_url + PATH for receiver in receivers)
    order = Order(first, connections, _DELIVERIES[connections], others=(second,))
    rounds = []
    for turn in range(_ROUNDS_OF_TWO):
        stage.tell(f"two receivers, {connections} connections, round {turn + 1} of {_ROUNDS_OF_TWO}")
        rounds.append(await stage.send(order))
    for receiver in receivers:
        await receiver.terminate()
    return max(rounds, key=lambda outcome: outcome.rate)


async def _outcomes(stage: Stage, name: str, process: Process) -> Mapping[int, LoadOutcome]:
    await process.ready()
    await stage.load(process, 32, _WARM)
    outcomes = {}
    for connections, deliveries in _DELIVERIES.items():
        stage.tell(f"{name}, {connections} connections")
        outcomes[connections] = await stage.load(process, connections, deliveries)
    return outcomes
