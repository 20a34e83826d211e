"""On a real database with one or two processors, metrics depend only on the set of deliveries, and never decrease."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.counting.ci_metrics import OVERFLOW
from shared.delivery import Delivery
from tests.support import builders, figures, strategies
from tests.support.figures import Figures
from tests.support.servers.postgres import fresh_database
from tests.support.worker import Worker, worker
from tests.support.worlds import worlds

GRACE = timedelta(minutes=10)
TTL = timedelta(days=30)


class Pair:
    """Two workers on one database, used from code that is not async."""

    def __init__(self, runner: asyncio.Runner, workers: list[Worker]) -> None:
        self._runner = runner
        self._workers = workers

    def figures_after(self, batches: list[list[Delivery]], processors: int) -> Figures:
        """Empty the database, let so many workers share the batches, settle, and return what is exposed then.

        The page after each batch may not show less of anything that only grows than the page before, neither to
        scrapers, for which series are released now and then, nor to others.
        """
        return self._runner.run(self._figures_after(batches, self._workers[:processors]))

    async def _figures_after(self, batches: list[list[Delivery]], workers: list[Worker]) -> Figures:
        for one in self._workers:
            await one.clear()
        chores = workers[0].chores(grace=GRACE, delivery_ttl=TTL, series_ttl=TTL)
        page: Figures = {}
        scraped: Figures = {}
        for start in range(0, len(batches), len(workers)):
            together = zip(workers, batches[start : start + len(workers)], strict=False)
            await asyncio.gather(*(one.count(batch) for one, batch in together))
            page = await _grown(workers[0], page)
            scraped = await _grown(workers[0], scraped, to_scraper=True)
            if start % 2:
                await chores.release()
        await workers[0].age(GRACE.total_seconds() + 1)
        await chores.settle()
        await chores.release()
        page = await _grown(workers[0], page)
        assert await _grown(workers[0], scraped, to_scraper=True) == page
        return page


async def _grown(counting: Worker, before: Figures, *, to_scraper: bool = False) -> Figures:
    """Return what is exposed; it must not be less than what was exposed before."""
    page = await counting.figures(to_scraper=to_scraper)
    figures.assert_never_down(before, page)
    return page


@pytest.fixture
def pair(postgres_url: str) -> Iterator[Pair]:
    """Give a pair of workers on a fresh PostgreSQL database."""
    stack = AsyncExitStack()

    async def enter() -> list[Worker]:
        url = await stack.enter_async_context(fresh_database(postgres_url))
        return [await stack.enter_async_context(worker(url)) for _ in range(2)]

    with asyncio.Runner() as runner:
        workers = runner.run(enter())
        yield Pair(runner, workers)
        runner.run(stack.aclose())


def test_consistent_deliveries_give_the_same_figures_however_they_arrive(pair: Pair) -> None:
    @settings(max_examples=30)
    @given(st.data())
    def converges(data: st.DataObject) -> None:
        deliveries = data.draw(worlds()).deliveries
        arrivals = data.draw(strategies.arrivals(deliveries))
        expected = pair.figures_after([deliveries], processors=1)
        assert pair.figures_after(arrivals, processors=data.draw(st.sampled_from([1, 2]))) == expected

    converges()


def test_contradictory_deliveries_give_the_same_totals_however_they_arrive(pair: Pair) -> None:
    @settings(max_examples=30)
    @given(st.data())
    def converges(data: st.DataObject) -> None:
        deliveries = data.draw(strategies.delivery_sets())
        arrivals = data.draw(strategies.arrivals(deliveries))
        expected = figures.totals(pair.figures_after([deliveries], processors=1))
        counted = pair.figures_after(arrivals, processors=data.draw(st.sampled_from([1, 2])))
        assert figures.totals(counted) == expected

    converges()


def _jobs(number: int) -> list[Delivery]:
    """Return the life of a job of a repository of its own."""
    repo = builders.repository(f"acme/r{number}")
    lives = [
        builders.job(number, run_id=number, repo=repo),
        builders.job(number, run_id=number, repo=repo, status="in_progress", started=7, runner=5),
        builders.job(
            number, run_id=number, repo=repo, status="completed", conclusion="success", started=7, completed=9, runner=5
        ),
    ]
    return [builders.delivery(payload) for payload in lives]


async def test_a_contribution_that_went_to_the_overflow_stays_there_whatever_comes_later(store_url: str) -> None:
    async with worker(store_url, max_series=2) as counting:
        page: Figures = {}
        lives = [_jobs(number) for number in range(1, 5)]
        for step in range(3):
            for life in lives:
                await counting.count([life[step]])
                page = await _grown(counting, page)
        # The names of what overflowed change, and then there is room again.
        renamed = builders.job(4, run_id=4, repo=builders.repository("acme/r1"), status="waiting")
        await counting.count([builders.delivery(renamed)])
        page = await _grown(counting, page)
        assert figures.total(page, "promgithub_job_status_total") == 13
        assert figures.total(page, "promgithub_job_duration_seconds_count") == 4
        assert figures.total(page, "promgithub_job_duration_seconds_count", repository=OVERFLOW) == 2


async def test_a_dropped_series_begins_again_and_a_late_contradiction_takes_nothing_from_it(counting: Worker) -> None:
    first, running, ended = _jobs(1)
    await counting.count([first, running, ended])
    await counting.age(TTL.total_seconds() + 1)
    chores = counting.chores(grace=GRACE, delivery_ttl=TTL, series_ttl=TTL)
    await chores.forget()
    assert figures.total(await counting.figures(), "promgithub_job_status_total") == 0
    late = builders.job(
        1,
        run_id=1,
        repo=builders.repository("acme/elsewhere"),
        status="completed",
        conclusion="failure",
        started=7,
        completed=9,
        runner=5,
    )
    await counting.count([builders.delivery(late)])
    page = await counting.figures()
    assert figures.total(page, "promgithub_job_status_total") == 0
    assert all(value >= 0 for value in page.values())
    assert figures.total(page, "promgithub_anomaly_total") == 2


async def test_rows_that_retention_removed_count_as_new_and_take_nothing_back(counting: Worker) -> None:
    first, running, ended = _jobs(1)
    await counting.count([first, running, ended])
    page = await _grown(counting, {})
    await counting.age(timedelta(days=365).total_seconds())
    chores = counting.chores(grace=GRACE, delivery_ttl=TTL, series_ttl=timedelta(days=999))
    await chores.forget()
    await counting.count([ended])
    page = await _grown(counting, page)
    assert figures.total(page, "promgithub_job_status_total", job_status="completed") == 2
