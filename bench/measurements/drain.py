"""How fast one processor empties a full queue."""

from collections.abc import AsyncIterator, Mapping

from bench.drained import Drained, consume_only, drain, fastest
from bench.queues import rabbit_queue, spool_queue
from bench.result import Result, Target, at_least_times, at_most_times
from bench.stage import Stage

_DELIVERIES = 15_000
_ROUNDS = 3
_SINGLY = 600
_SMALL = {"BATCH_SIZE": "60"}
_ONE_BY_ONE = {"BATCH_SIZE": "1", "PREFETCH": "2"}

_OF = (
    "deliveries (10.6 kB on average) counted per second by one processor, from a queue that was full before it "
    f"started, without the first tenth; the fastest of {_ROUNDS} rounds"
)


async def measure(stage: Stage) -> AsyncIterator[Result]:
    """Measure how fast one processor drains a full queue, beside a consumer that only decodes and acks."""
    async with rabbit_queue(stage) as queue:
        rounds, small_rounds, consumed = [], [], []
        for _ in range(_ROUNDS):
            async with stage.database() as url:
                rounds.append(await drain(queue, url, _DELIVERIES))
            async with stage.database() as url:
                small_rounds.append(await drain(queue, url, _DELIVERIES, settings=_SMALL))
            consumed.append(await consume_only(queue, _DELIVERIES))
        counted = fastest(rounds)
        for result in _results("RabbitMQ and PostgreSQL", counted, fastest(consumed), at_most_times(1.1)):
            yield result
        small = fastest(small_rounds)
        yield Result(
            "processor CPU per delivery, RabbitMQ and PostgreSQL, batches of 60",
            small.cpu * 1e6,
            "µs",
            f"the same with {_names(_SMALL)}, as under a moderate load; ceiling: the same consumer",
            ceiling=fastest(consumed).cpu * 1e6,
            target=at_most_times(1.5),
            details=small.details(),
        )
        async with stage.database() as url:
            singly = await drain(queue, url, _SINGLY, settings=_ONE_BY_ONE)
        yield Result(
            "drain in batches, RabbitMQ and PostgreSQL",
            counted.rate,
            "/s",
            f"{_OF}; ceiling: the same with a transaction for each delivery ({_names(_ONE_BY_ONE)})",
            ceiling=singly.rate,
            target=at_least_times(8),
        )
    async with spool_queue(stage) as spool:
        rounds, consumed = [], []
        for _ in range(_ROUNDS):
            rounds.append(await drain(spool, f"sqlite:///{stage.new_directory() / 'promgithub.db'}", _DELIVERIES))
            consumed.append(await consume_only(spool, _DELIVERIES))
        for result in _results("spool and SQLite", fastest(rounds), fastest(consumed)):
            yield result


def _names(settings: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def _results(where: str, counted: Drained, consumed: Drained, cpu: Target | None = None) -> list[Result]:
    ceiling = (
        "a consumer process that decodes the same payloads as JSON and acks in batches, from the same queue, in turns"
    )
    return [
        Result(
            f"drain, {where}",
            counted.rate,
            "/s",
            f"{_OF}; broker and database share the cores; ceiling: {ceiling}",
            ceiling=consumed.rate,
            target=at_least_times(0.46),
        ),
        Result(
            f"processor CPU per delivery, {where}",
            counted.cpu * 1e6,
            "µs",
            f"user and system time of the processor process during that drain, all its threads; ceiling: {ceiling}",
            ceiling=consumed.cpu * 1e6,
            target=cpu,
            details=counted.details(),
        ),
    ]
