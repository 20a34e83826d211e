"""A real Prometheus sees the first events of a new series in `increase()`, whatever scrapes it loses.

The database's clock is moved from scrape to scrape. Each page is what a processor renders for a scraper at that moment.
Prometheus gets the samples of all pages, with their times, as its past.
"""

import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from processor.housekeeping import RELEASE_INTERVAL
from shared.delivery import Delivery
from shared.settings import ProcessorSettings
from tests.support import builders, figures
from tests.support.figures import Figures
from tests.support.servers.prometheus import PrometheusServer
from tests.support.worker import Worker, worker

FAILED_AT = (37, 185, 310, 490)
"""When a run of the new workflow failed, in seconds after the start."""

RUN_SECONDS = 90

END = 780
"""How long scrapes go on, in seconds."""

LEADERS_END = (38, 50, 200)
"""When the leader is killed, in the world in which that happens, in seconds after the start."""

TICK = int(RELEASE_INTERVAL)

TAKEOVER = 15
"""How long no processor exposes the store's metrics after the leader's end, in seconds."""

HELD_FOR: int = ProcessorSettings.model_fields["new_series_seconds"].default

Pages = Mapping[int, Figures]
"""What a scraper sees, by seconds after the start; a moment without a leader is missing."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Timeline:
    """A Prometheus that scrapes every `interval` seconds, and loses the scrapes with the numbers `lost`."""

    name: str
    interval: int
    lost: Collection[int] = ()
    leaders_end: Collection[int] = ()

    @property
    def delay(self) -> int:
        """The longest time from an event until Prometheus has it, in seconds, without lost scrapes."""
        return HELD_FOR + TICK + TAKEOVER + self.interval

    def scrapes(self) -> Iterator[int]:
        """Yield when it scrapes with success, in seconds after the start."""
        moments = range(self.interval, END + 1, self.interval)
        yield from (at for number, at in enumerate(moments, 1) if number not in self.lost)


TIMELINES = [
    Timeline("15s", 15),
    Timeline("15s, half of the scrapes are lost", 15, range(1, 60, 2)),
    Timeline("15s, nine scrapes in a row are lost", 15, range(3, 12)),
    Timeline("15s, leaders end while series are held", 15, leaders_end=LEADERS_END),
    Timeline("60s", 60),
    Timeline("60s, every other scrape is lost", 60, range(1, 20, 2)),
    Timeline("60s, leaders end while series are held", 60, leaders_end=LEADERS_END),
]


class World:
    """A database with two processors, one of which leads, and a new workflow that fails several times."""

    def __init__(self, workers: Sequence[Worker], leaders_end: Collection[int]) -> None:
        self._workers = workers
        self._leaders_end = leaders_end
        self._now = 0
        self._silent_until = 0

    async def play(self) -> Pages:
        """Play until the end; return what a scraper would have seen at each tick."""
        pages: dict[int, Figures] = {}
        for at in sorted({*FAILED_AT, *self._leaders_end, *range(TICK, END + 1, TICK)}):
            await self._workers[0].age(at - self._now)
            self._now = at
            if at in self._leaders_end:
                self._workers = self._workers[::-1]
                self._silent_until = at + TAKEOVER
            if at in FAILED_AT:
                await self._workers[0].count([failure(at)])
            if at % TICK == 0 and at >= self._silent_until:
                await self._workers[0].chores(new_series_seconds=HELD_FOR).release()
                pages[at] = await self._workers[0].figures(to_scraper=True)
        return pages


def failure(run_id: int) -> Delivery:
    return builders.delivery(
        builders.run(run_id, status="completed", conclusion="failure", began=0, updated=RUN_SECONDS)
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def prometheus(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[PrometheusServer, float]]:
    """Give a Prometheus that has scraped as all timelines say, and the time of their start."""
    start = float(int(time.time()) - 3 * 3600)
    worlds: dict[tuple[int, ...], Pages] = {
        ends: await played(ends, tmp_path_factory.mktemp("world")) for ends in ((), LEADERS_END)
    }
    samples = [line for one in TIMELINES for line in lines(one, worlds[tuple(one.leaders_end)], start)]
    async with PrometheusServer("scrape_configs: []", "\n".join([*samples, "# EOF\n"])) as server:
        yield server, start


async def played(leaders_end: Collection[int], directory: Path) -> Pages:
    async with AsyncExitStack() as stack:
        url = f"sqlite:///{directory}/promgithub.db"
        workers = [await stack.enter_async_context(worker(url)) for _ in range(2)]
        return await World(workers, leaders_end).play()


def lines(timeline: Timeline, pages: Pages, start: float) -> Iterator[str]:
    """Yield the samples that a timeline's scrapes find on the pages."""
    for at in timeline.scrapes():
        for (name, labels), value in pages.get(at, {}).items():
            if name.endswith(figures.GROWING):
                shown = ",".join(f'{key}="{text}"' for key, text in [*labels, ("timeline", timeline.name)])
                yield f"{name}{{{shown}}} {value} {start + at:.3f}"


@pytest.mark.parametrize("timeline", TIMELINES, ids=lambda timeline: str(timeline.name))
@pytest.mark.parametrize(
    ("series", "each"),
    [
        ('promgithub_workflow_status_total{workflow_status="completed",conclusion="failure"%s}', 1),
        ('promgithub_workflow_duration_seconds_count{conclusion="failure"%s}', 1),
        ('promgithub_workflow_duration_seconds_bucket{conclusion="failure",le="+Inf"%s}', 1),
        ('promgithub_workflow_duration_seconds_sum{conclusion="failure"%s}', RUN_SECONDS),
    ],
    ids=["counter", "count", "bucket", "sum"],
)
async def test_increase_counts_every_failure_from_the_first_on(
    prometheus: tuple[PrometheusServer, float], timeline: Timeline, series: str, each: int
) -> None:
    server, start = prometheus
    selector = series % f',timeline="{timeline.name}"'
    increases = await over_time(server, f"increase({selector}[{END}s])", start, timeline)
    samples = await over_time(server, f"count_over_time({selector}[{END}s])", start, timeline)
    assert max(increases) > FAILED_AT[0] + HELD_FOR
    for at, increase in increases.items():
        least = each * sum(failed + timeline.delay <= at for failed in FAILED_AT)
        most = each * sum(failed <= at for failed in FAILED_AT)
        # At the end, Prometheus extrapolates by at most 1.1 mean distances of samples; at the start, 0 stays 0.
        assert least - 0.001 <= increase <= most * (1 + 1.1 / (samples[at] - 1)) + 0.001, f"after {at} s"


async def over_time(server: PrometheusServer, query: str, start: float, timeline: Timeline) -> dict[float, float]:
    """Return the values of a query at each scrape that was not lost, by seconds after the start."""
    found = await server.api(
        "query_range",
        query=query,
        start=str(start),
        end=str(start + END),
        step=str(timeline.interval),
    )
    (series,) = found["result"]
    values = {float(at) - start: float(value) for at, value in series["values"]}
    return {at: values[at] for at in timeline.scrapes() if at in values}
