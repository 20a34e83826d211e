"""The cost of a scrape."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec

from bench.pages import PATIENCE, get_page, leaders_page, value
from bench.proc import cpu_seconds, peak_megabytes
from bench.queues import rabbit_queue
from bench.rendering import Rendered
from bench.result import Result, Target, at_most, at_most_times
from bench.stage import Stage, answer_of, python
from bench.stored_series import add_series
from processor.counting.catalogue import UNREADABLE
from tests.support.processes import Process

_SCRAPES = {1_000: 50, 10_000: 20, 100_000: 4}
"""How many scrapes of how many series: the kernel counts CPU time in hundredths of a second."""

_LARGEST = max(_SCRAPES)
_IDLE_SECONDS = 3.0

_OF = "GET /metrics (text, not compressed) of a processor that holds the lease and counts nothing meanwhile"
_CEILING = "ceiling: prometheus_client.generate_latest on the same families, which are in memory, best of a few"


@dataclass(frozen=True, slots=True)
class _Scraped:
    """A page, the least seconds and the mean CPU seconds that it took; `stall` is the loop's longest."""

    page: str
    series: int
    seconds: float
    cpu: float
    stall: float


async def measure(stage: Stage) -> AsyncIterator[Result]:
    """Measure scrapes of 1,000 to 100,000 series: time, CPU time, the loop's longest stall, and memory."""
    for size, scrapes in _SCRAPES.items():
        stage.tell(f"scrape of {size} series")
        async with rabbit_queue(stage) as queue, stage.database() as url:
            await add_series(url, size)
            stalls = stage.new_directory() / "stalls"
            processor = stage.start_module(
                "bench.roles",
                "watched-processor",
                str(stalls),
                DATABASE_URL=url,
                MAX_SERIES="1000000",
                **queue.settings,
            )
            await processor.ready()
            scraped = await _scraped(processor, stalls, scrapes)
            idle = await _idle_stall(stalls)
            peak = peak_megabytes(processor.pid)
            await processor.terminate()
        rendered = msgspec.json.decode(await answer_of(python("bench.rendering"), scraped.page.encode()), type=Rendered)
        for result in _results(scraped, rendered, idle, at_most_times(0.5) if size == _LARGEST else None):
            yield result
    yield Result(
        f"processor memory, {scraped.series:,} series",
        peak,
        "MB",
        f"the most that was resident (VmHWM) from the start of the process to the end of {scrapes + 1} scrapes or more",
        target=at_most(300),
    )


def _results(scraped: _Scraped, rendered: Rendered, idle: float, target: Target | None) -> list[Result]:
    of = f"{scraped.series:,} series"
    return [
        Result(
            f"scrape of {of}, CPU",
            scraped.cpu * 1000,
            "ms",
            f"user and system time of the process, all its threads, for {_OF}; mean; {_CEILING}",
            ceiling=rendered.cpu * 1000,
            target=target,
        ),
        Result(
            f"scrape of {of}, time",
            scraped.seconds * 1000,
            "ms",
            f"from request to last byte, the store's queries included: {_OF}; best; {_CEILING}",
            ceiling=rendered.seconds * 1000,
            target=target,
        ),
        Result(
            f"scrape of {of}, longest stall",
            scraped.stall * 1000,
            "ms",
            "by how much a sleep of 5 ms in the processor's event loop was late at worst, during the scrapes; what "
            "others on the machine hold the process up by is in it; ceiling: the worst while it is idle",
            ceiling=idle * 1000,
            target=at_most(50),
        ),
    ]


async def _scraped(processor: Process, stalls: Path, scrapes: int) -> _Scraped:
    seconds = []
    async with aiohttp.ClientSession(timeout=PATIENCE) as client:
        page = await leaders_page(client, processor)
        if value(page, UNREADABLE.name):
            raise ValueError("the page leaves series out")
        since, used = time.time(), cpu_seconds(processor.pid)
        for _ in range(scrapes):
            began = time.perf_counter()
            await get_page(client, processor)
            seconds.append(time.perf_counter() - began)
        cpu = (cpu_seconds(processor.pid) - used) / scrapes
    series = sum(1 for line in page.splitlines() if not line.startswith("#"))
    return _Scraped(page, series, min(seconds), cpu, _longest(stalls, since))


async def _idle_stall(stalls: Path) -> float:
    since = time.time()
    await asyncio.sleep(_IDLE_SECONDS)
    return _longest(stalls, since)


def _longest(stalls: Path, since: float) -> float:
    """Return the longest stall of the event loop that ended after a given time, in seconds."""
    lines = [line.split() for line in stalls.read_text().splitlines()]
    return max((float(late) for moment, late in lines if float(moment) >= since), default=0.0)
