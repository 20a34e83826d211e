"""More deliveries than promgithub can take."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import aiohttp

from bench.orders import LoadOutcome
from bench.pages import PATIENCE, counted_all, get_page
from bench.queues import rabbit_queue
from bench.result import Result, at_most
from bench.stage import Stage
from tests.support import figures
from tests.support.processes import Process

_PROBE_CONNECTIONS = 256
_PROBED = 4000
_WARM = 1000
_CONNECTIONS = 4096
_TIMES = 2.0
_SECONDS = 5.0
_RECOVERY_SECONDS = 5.0
_AFTER_SHARE = 0.5
_AFTER_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class _Installation:
    """The process that receives and the one that counts; they may be one."""

    receiver: Process
    processor: Process


async def measure(stage: Stage) -> AsyncIterator[Result]:
    """Measure an overload, with twice as many deliveries as are accepted at most: answers, losses, and what follows."""
    for name, install in _FORMS.items():
        async with install(stage) as running, aiohttp.ClientSession(timeout=PATIENCE) as client:
            stage.tell(f"how many {name} accepts")
            await stage.load(running.receiver, _PROBE_CONNECTIONS, _WARM)
            probe = await stage.load(running.receiver, _PROBE_CONNECTIONS, _PROBED)
            await counted_all(client, running.processor)
            before = await _counted(client, running.processor)
            rate = probe.rate * _TIMES
            stage.tell(f"{rate:.0f}/s to {name}")
            outcome = await stage.load(running.receiver, _CONNECTIONS, round(rate * _SECONDS), rate)
            await asyncio.sleep(_RECOVERY_SECONDS)
            calm = probe.rate * _AFTER_SHARE
            after = await stage.load(running.receiver, _PROBE_CONNECTIONS, round(calm * _AFTER_SECONDS), calm)
            await counted_all(client, running.processor)
            counted = await _counted(client, running.processor) - before
        for result in _results(name, rate, outcome, after, counted):
            yield result


def _results(name: str, rate: float, outcome: LoadOutcome, after: LoadOutcome, counted: float) -> list[Result]:
    load = f"{rate:.0f} deliveries/s for {_SECONDS:g} s, {_TIMES:g} times what {_PROBE_CONNECTIONS} connections reach"
    refused = sum(outcome.answers.values()) - outcome.accepted
    return [
        Result(
            f"overload, slowest answer, {name}",
            outcome.worst,
            "ms",
            f"{load}, due at fixed times, over at most {_CONNECTIONS} connections; from when a delivery is due to its "
            "answer, 202 or 503; receiver, processor, servers and load share the cores",
            target=at_most(2000),
            details=outcome.latencies | {"accepted": outcome.accepted, "refused": refused},
        ),
        Result(
            f"overload, lost, {name}",
            outcome.accepted + after.accepted - counted,
            "deliveries",
            f"deliveries answered with 202 during and after {load}, and not counted",
            target=at_most(0),
        ),
        Result(
            f"after an overload, ack p99, {name}",
            after.p99,
            "ms",
            f"{_AFTER_SHARE:g} of the maximum rate, {_RECOVERY_SECONDS:g} s after the overload",
            target=at_most(250),
            details=after.latencies | {"refused": sum(after.answers.values()) - after.accepted},
        ),
    ]


async def _counted(client: aiohttp.ClientSession, processor: Process) -> float:
    page = figures.of_text(await get_page(client, processor))
    return figures.total(page, "promgithub_event_processed_total")


@asynccontextmanager
async def _two_processes(stage: Stage) -> AsyncIterator[_Installation]:
    async with rabbit_queue(stage) as queue, stage.database() as url:
        running = _Installation(queue.start_receiver(), queue.start_processor(url))
        await asyncio.gather(running.receiver.ready(), running.processor.ready())
        yield running
        await asyncio.gather(running.receiver.terminate(), running.processor.terminate())


@asynccontextmanager
async def _one_process(stage: Stage) -> AsyncIterator[_Installation]:
    process = stage.start_standalone()
    await process.ready()
    yield _Installation(process, process)
    await process.terminate()


_FORMS: Mapping[str, Callable[[Stage], AbstractAsyncContextManager[_Installation]]] = {
    "ingest and processor": _two_processes,
    "standalone": _one_process,
}
