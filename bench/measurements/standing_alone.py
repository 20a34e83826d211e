"""How many deliveries `promgithub standalone` counts while it receives."""

import time
from collections.abc import AsyncIterator

import aiohttp

from bench.pages import PATIENCE, counted_all
from bench.proc import tree_cpu_seconds
from bench.result import Result, at_most
from bench.stage import Stage

_CONNECTIONS = 256
_WARM = 1000
_DELIVERIES = 20_000


async def measure(stage: Stage) -> AsyncIterator[Result]:
    """Measure how many deliveries standalone receives and counts per second."""
    process = stage.start_standalone()
    await process.ready()
    async with aiohttp.ClientSession(timeout=PATIENCE) as client:
        await stage.load(process, _CONNECTIONS, _WARM)
        await counted_all(client, process)
        stage.tell(f"{_DELIVERIES} deliveries to standalone")
        began, used = time.perf_counter(), tree_cpu_seconds(process.pid)
        outcome = await stage.load(process, _CONNECTIONS, _DELIVERIES)
        await counted_all(client, process)
        seconds = time.perf_counter() - began
        cpu = (tree_cpu_seconds(process.pid) - used) / outcome.accepted
    await process.terminate()
    yield Result(
        "standalone, received and counted",
        outcome.accepted / seconds,
        "/s",
        f"{_DELIVERIES} deliveries (10.6 kB on average), from the first request until the last one is counted; each of "
        f"{_CONNECTIONS} connections sends the next one as soon as it has an answer; both processes and the load share "
        "the cores",
        details={"accepted_per_second": outcome.rate, "cpu_us": cpu * 1e6},
    )
    yield Result(
        "standalone, ack p99 meanwhile",
        outcome.p99,
        "ms",
        "from a request to its answer, under that load",
        target=at_most(250),
        details=outcome.latencies,
    )
