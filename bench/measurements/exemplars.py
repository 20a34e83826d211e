"""The cost of exemplars on an OpenMetrics page."""

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp

from bench.pages import PATIENCE, get_page, leaders_page
from bench.proc import cpu_seconds
from bench.queues import rabbit_queue
from bench.result import Result, at_most_times
from bench.stage import Stage
from bench.stored_series import add_series
from processor.counting.exemplars import WINDOW
from processor.store.recently_closed import MOST_ROWS
from shared.delivery import Delivery
from tests.support import builders
from tests.support.processes import Process
from tests.support.worker import Worker, worker

_LINES = 10_000
_MAX_SERIES = 1_000_000
_WORKFLOWS = 20
_AT_ONCE = 200
_ROUNDS = 4
_SCRAPES = 20
_OPENMETRICS = "application/openmetrics-text"
_AGED_SECONDS = 2 * WINDOW / 1000


async def measure(stage: Stage) -> AsyncIterator[Result]:
    """Measure OpenMetrics scrapes with as many exemplars as a scrape reads rows for, beside scrapes without any."""
    stage.tell(f"scrape of {_LINES} series with exemplars")
    async with rabbit_queue(stage) as queue, stage.database() as url:
        await add_series(url, _LINES)
        async with worker(url, max_series=_MAX_SERIES, hold=False) as counting:
            await _close_rows(counting)
            processor = stage.start("processor", DATABASE_URL=url, MAX_SERIES=str(_MAX_SERIES), **queue.settings)
            await processor.ready()
            with_exemplars = without = 0.0
            shown = lines = 0
            async with aiohttp.ClientSession(timeout=PATIENCE) as client:
                await leaders_page(client, processor)
                # In turns, so that a change of the machine's speed meets both.
                for _ in range(_ROUNDS):
                    cpu, page = await _scraped(client, processor)
                    with_exemplars += cpu
                    shown, lines = page.count(" # {"), page.count("\n")
                    await counting.age(_AGED_SECONDS)
                    cpu, page = await _scraped(client, processor)
                    without += cpu
                    if " # {" in page:
                        raise ValueError("a page that should have no exemplars has some")
                    await counting.age(-_AGED_SECONDS)
            await processor.terminate()
    yield Result(
        f"scrape of {lines:,} lines with {shown:,} exemplars, CPU",
        1000 * with_exemplars / _ROUNDS,
        "ms",
        f"user and system time of a processor for GET /metrics (OpenMetrics, not compressed) when {MOST_ROWS:,} runs "
        f"and {MOST_ROWS:,} jobs were closed in the last minutes, as many as a scrape reads; mean; "
        "ceiling: the same page when none was, in turns",
        ceiling=1000 * without / _ROUNDS,
        target=at_most_times(2),
    )


async def _close_rows(counting: Worker) -> None:
    """Count `MOST_ROWS` runs, each with a job, that have just ended."""
    deliveries = list(_deliveries())
    for first in range(0, len(deliveries), _AT_ONCE):
        await counting.count(deliveries[first : first + _AT_ONCE])


def _deliveries() -> Iterator[Delivery]:
    end = int(time.time()) - builders.START.timestamp() - 5
    for number in range(MOST_ROWS):
        ran = 1.9 ** (number % 14)
        own: dict[str, Any] = {
            "workflow": f"workflow {number % _WORKFLOWS}",
            "status": "completed",
            "conclusion": "success",
        }
        times: dict[str, Any] = {"created": end - 2 * ran, "started": end - ran, "completed": end}
        yield builders.delivery(builders.job(number, run_id=number, runner=5, **own, **times))
        yield builders.delivery(builders.run(number, began=end - 2 * ran, updated=end, **own))


async def _scraped(client: aiohttp.ClientSession, processor: Process) -> tuple[float, str]:
    """Return the mean CPU seconds of a scrape, and the page."""
    page = await get_page(client, processor, _OPENMETRICS)
    used = cpu_seconds(processor.pid)
    for _ in range(_SCRAPES):
        await get_page(client, processor, _OPENMETRICS)
    return (cpu_seconds(processor.pid) - used) / _SCRAPES, page
