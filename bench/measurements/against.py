"""A race: another receiver of webhooks under the same load as promgithub's."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median

import aiohttp

from bench.orders import SECRET, LoadOutcome, Order
from bench.pages import PATIENCE, counted_all
from bench.queues import rabbit_queue
from bench.result import Result
from bench.stage import Stage
from ingest.webhook import PATH
from tests.support.processes import Process

_CONNECTIONS = (32, 256)
_DELIVERIES = 10_000
_ROUNDS = 3
_WARM = 1000
_BURST_CONNECTIONS = 256
_BURST_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Racer:
    """The URL of a webhook, the secret of its signatures, and the process of promgithub that counts, if it is ours."""

    url: str
    secret: str
    processor: Process | None = None


async def measure(stage: Stage, rival: Racer) -> AsyncIterator[Result]:
    """Send the same load to another receiver and to promgithub's, in turns."""
    async with _racers(stage, rival) as racers:
        for connections in _CONNECTIONS:
            outcomes = await _race(stage, racers, connections)
            for name, rounds in outcomes.items():
                yield Result(
                    f"202/s, {connections} connections, {name}",
                    median(one.rate for one in rounds),
                    "/s",
                    "answers 202 per second, where every connection sends the next delivery (10.6 kB on average) as "
                    f"soon as it has an answer; median of {_ROUNDS} rounds of {_DELIVERIES}, in turns; ceiling: "
                    f"{rival.url}",
                    ceiling=median(one.rate for one in outcomes[rival.url]),
                    details=_details(rounds),
                )
        outcomes = await _race(stage, racers, _BURST_CONNECTIONS, _DELIVERIES / _BURST_SECONDS)
        for name, rounds in outcomes.items():
            yield Result(
                f"burst, ack p99, {name}",
                median(one.p99 for one in rounds),
                "ms",
                f"{_DELIVERIES} deliveries due within {_BURST_SECONDS:g} s, over at most {_BURST_CONNECTIONS} "
                f"connections; from when one is due to its answer; median of {_ROUNDS} rounds; ceiling: {rival.url}",
                ceiling=median(one.p99 for one in outcomes[rival.url]),
                details=_details(rounds),
            )


@asynccontextmanager
async def _racers(stage: Stage, rival: Racer) -> AsyncIterator[Mapping[str, Racer]]:
    """Yield who races, by name: the rival and both forms of promgithub, which count while they receive."""
    async with rabbit_queue(stage) as queue, stage.database() as url:
        receiver, processor = queue.start_receiver(), queue.start_processor(url)
        standalone = stage.start_standalone()
        processes = receiver, processor, standalone
        for process in processes:
            await process.ready()
        yield {
            rival.url: rival,
            "ingest and processor": Racer(receiver.service_url + PATH, SECRET, processor),
            "standalone": Racer(standalone.service_url + PATH, SECRET, standalone),
        }
        for process in processes:
            await process.terminate()


async def _race(
    stage: Stage, racers: Mapping[str, Racer], connections: int, rate: float | None = None
) -> Mapping[str, Sequence[LoadOutcome]]:
    """Send deliveries to each racer in turns. The next one begins when the last one has counted everything."""
    outcomes: dict[str, list[LoadOutcome]] = {name: [] for name in racers}
    async with aiohttp.ClientSession(timeout=PATIENCE) as client:
        for turn in range(_ROUNDS):
            for name, racer in racers.items():
                stage.tell(f"round {turn + 1} of {_ROUNDS}, {connections} connections: {name}")
                if not turn:
                    await stage.send(Order(racer.url, connections, _WARM, secret=racer.secret))
                outcomes[name].append(await stage.send(Order(racer.url, connections, _DELIVERIES, rate, racer.secret)))
                if racer.processor is not None:
                    await counted_all(client, racer.processor)
    return outcomes


def _details(rounds: Sequence[LoadOutcome]) -> Mapping[str, float]:
    """Return the median latencies, and how often each status but 202 was answered, 0 for a closed connection."""
    latencies = {name: median(one.latencies[name] for one in rounds) for name in rounds[0].latencies}
    answers = sum((Counter(one.answers) for one in rounds), Counter())
    return latencies | {f"answers_{status}": count for status, count in sorted(answers.items()) if status != 202}
