"""The cost of the status page."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from statistics import median

import aiohttp
import asyncpg

from bench.drained import drain
from bench.measurements.tracked import enlarge
from bench.pages import PATIENCE, leaders_page
from bench.queues import rabbit_queue
from bench.result import Result, at_least_times, at_most_times
from bench.stage import Stage
from processor.status.service import CACHED_SECONDS
from tests.support.processes import Process

_DELIVERIES = 12_000
_BROWSERS = 10
_SAMPLES = 5
_SCRAPES = 30
_ROUNDS = 3

_WEEK = (
    "INSERT INTO hourly (hour, key, metric, repository, workflow_name, runner_class, conclusion, bound, value) SELECT "
    "hour - n * 3600000, key, metric, repository, workflow_name, runner_class, conclusion, bound, value "
    "FROM hourly, generate_series(1, 167) n WHERE hour = (SELECT max(hour) FROM hourly)"
)


async def measure(stage: Stage) -> AsyncIterator[Result]:
    """Measure the status page on a store with 5 million tracked rows, and what ten browsers cost others."""
    rows = stage.scale.tracked_rows
    async with rabbit_queue(stage) as queue, stage.database() as url:
        await drain(queue, url, _DELIVERIES)
        stage.tell(f"adding {rows} rows and a week of sums by hour to the store")
        await enlarge(url, rows)
        hourly = await _add_week(url)
        processor = queue.start_processor(url)
        await processor.ready()
        async with aiohttp.ClientSession(timeout=PATIENCE) as client:
            await leaders_page(client, processor)
            stage.tell("the page")
            page = [await _seconds(client, processor, "/?window=7d", CACHED_SECONDS + 1) for _ in range(_SAMPLES)]
            alone, beside = [], []
            stage.tell(f"scrapes, and scrapes while {_BROWSERS} browsers look, in turns")
            for _ in range(_ROUNDS):
                alone += [await _seconds(client, processor, "/metrics") for _ in range(_SCRAPES)]
                looking = asyncio.create_task(_look(processor))
                beside += [await _seconds(client, processor, "/metrics") for _ in range(_SCRAPES)]
                looking.cancel()
        await processor.terminate()
        quiet, watched = [], []
        for _ in range(_ROUNDS):
            quiet.append((await drain(queue, url, _DELIVERIES)).rate)
            watched.append((await drain(queue, url, _DELIVERIES, beside=_look)).rate)
    yield Result(
        f"status page with {rows:,} tracked rows, time",
        median(page) * 1000,
        "ms",
        f"from request to last byte of GET /?window=7d that nothing is cached of, with {hourly:,} sums by hour; median "
        f"of {_SAMPLES}; ceiling: GET /metrics of the same processor, median of {len(alone)}",
        ceiling=median(alone) * 1000,
        target=at_most_times(3),
    )
    yield Result(
        f"scrape while {_BROWSERS} browsers look, time",
        median(beside) * 1000,
        "ms",
        f"GET /metrics while {_BROWSERS} clients request GET / twice a second each; ceiling: the same without them, in "
        f"turns; median of {len(beside)}",
        ceiling=median(alone) * 1000,
        target=at_most_times(1.05),
    )
    yield Result(
        f"drain while {_BROWSERS} browsers look",
        median(watched),
        "/s",
        f"deliveries counted per second by one processor while {_BROWSERS} clients request GET / twice a second each; "
        f"ceiling: the same without them, in turns; median of {_ROUNDS}",
        ceiling=median(quiet),
        target=at_least_times(0.95),
    )


async def _add_week(url: str) -> int:
    """Add the sums of 167 hours like those of the last one; return how many sums there are."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(_WEEK)
        await connection.execute("VACUUM ANALYZE hourly")
        return int(await connection.fetchval("SELECT count(*) FROM hourly"))
    finally:
        await connection.close()


async def _seconds(client: aiohttp.ClientSession, processor: Process, path: str, pause: float = 0.05) -> float:
    """Wait, and return the time that an answer takes, in seconds."""
    await asyncio.sleep(pause)
    began = time.perf_counter()
    async with client.get(f"{processor.admin_url}{path}") as answer:
        answer.raise_for_status()
        await answer.read()
    return time.perf_counter() - began


async def _look(processor: Process) -> None:
    """Request the page for ten browsers, twice a second each, until cancelled."""
    async with aiohttp.ClientSession(timeout=PATIENCE) as client, asyncio.TaskGroup() as browsers:

        async def browse() -> None:
            while True:
                with suppress(aiohttp.ClientConnectionError):
                    await _seconds(client, processor, "/", 0.5)

        for _ in range(_BROWSERS):
            browsers.create_task(browse())
