"""What the status page reads from the store is exact in any order, by index, bounded, and forgotten in time."""

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import text

from processor.counting.catalogue import EXPOSED
from processor.status.queries import Query
from processor.status.reading import StatusReader
from promgithub.simulation.histories import Historian
from tests.support import builders, figures
from tests.support.worker import Worker, worker

TOTALS = {
    "jobs_started": "promgithub_job_queue_seconds_count",
    "busy_seconds": "promgithub_job_busy_seconds_total",
    "billable_minutes": "promgithub_job_billable_minutes_total",
    "cost_usd": "promgithub_job_cost_usd_total",
}
"""The fields of the insights by runner class, and the metrics whose growth they show."""


def reader(counting: Worker) -> StatusReader:
    return StatusReader(counting.store, EXPOSED)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_insights_are_what_the_counters_grew_by_whatever_the_order(store_url: str, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a test that fails must fail again
    deliveries = list(Historian(seed).history(300).deliveries)
    deliveries += deliveries[::5]
    chance.shuffle(deliveries)
    async with worker(store_url, max_series=12 if seed == 3 else 10_000) as counting:
        while deliveries:
            size = chance.randint(1, 90)
            await counting.count(deliveries[:size])
            del deliveries[:size]
        counted = await counting.figures()
        week = await reader(counting).insights(Query(window="7d"))
        for field, metric in TOTALS.items():
            shown = sum(getattr(one, field) for one in week.by_class)
            assert shown == pytest.approx(figures.total(counted, metric))
        assert sum(one.runs for one in week.by_workflow) == figures.total(
            counted, "promgithub_workflow_status_total", workflow_status="completed"
        ) + figures.total(counted, "promgithub_workflow_status_total", workflow_status="__overflow__")
        assert sum(one.flaky_jobs for one in week.by_workflow) == figures.total(counted, "promgithub_job_flaky_total")
        assert sum(step.jobs_started for step in week.steps) == sum(one.jobs_started for one in week.by_class)


def ended(job_id: int, conclusion: str, at: int, **fields: Any) -> dict[str, Any]:
    """Return a job that ran for a second until `at`."""
    times: dict[str, Any] = {"created": at - 2, "started": at - 1, "completed": at}
    return builders.job(job_id, run_id=job_id, status="completed", conclusion=conclusion, runner=3, **times, **fields)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::4])
async def test_failures_in_a_row_do_not_depend_on_the_order_of_their_deliveries(
    store_url: str, order: Sequence[int]
) -> None:
    jobs = [ended(1, "failure", 10), ended(2, "success", 20), ended(3, "timed_out", 30), ended(4, "failure", 40)]
    elsewhere = [
        ended(5, "failure", 50, branch="other"),
        ended(6, "failure", 60, name="lint"),
        ended(7, "cancelled", 45),
    ]
    async with worker(store_url) as counting:
        for place in order:
            await counting.count([builders.delivery(jobs[place])])
        await counting.count(map(builders.delivery, elsewhere))
        found = (await reader(counting).failures(Query())).failures
        assert [(one.job_id, one.in_a_row) for one in found] == [(6, 1), (5, 1), (4, 2), (3, 2), (1, 2)]


async def test_a_failure_that_a_re_run_carries_over_has_one_entry(store_url: str) -> None:
    first = ended(1, "failure", 10)
    again = builders.job(
        2, run_id=1, attempt=2, status="completed", conclusion="failure", created=8, started=9, completed=10, runner=3
    )
    async with worker(store_url) as counting:
        await counting.count(map(builders.delivery, (first, again)))
        found = await reader(counting).failures(Query())
        assert len(found.failures) == 1
        assert (found.failures[0].in_a_row, found.more) == (1, False)


async def test_pages_of_a_list_have_every_row_once(store_url: str) -> None:
    async with worker(store_url) as counting:
        jobs = [builders.job(n, name=f"job {n}", created=n % 7) for n in range(45)]
        failed = [ended(100 + n, "failure", n, name=f"failed {n}") for n in range(45)]
        await counting.count(map(builders.delivery, (*jobs, *failed)))
        opened = [await reader(counting).open(Query(limit=10, offset=n)) for n in range(0, 50, 10)]
        names = [one.job for page in opened for one in page.jobs]
        assert (len(names), set(names)) == (45, {f"job {n}" for n in range(45)})
        assert {page.jobs_total for page in opened} == {45}
        pages = [await reader(counting).failures(Query(limit=10, offset=n)) for n in range(0, 50, 10)]
        assert [len(page.failures) for page in pages] == [10, 10, 10, 10, 5]
        assert [page.more for page in pages] == [True, True, True, True, False]


async def test_what_is_outside_of_the_window_is_not_shown_and_what_is_older_not_kept(store_url: str) -> None:
    async with worker(store_url) as counting:
        await counting.count([builders.delivery(ended(1, "success", 10))])
        for hours, in_a_day, in_a_week in (
            (-5, 0, 0),
            (0, 1, 1),
            (23, 1, 1),
            (24, 0, 1),
            (6 * 24, 0, 1),
            (7 * 24, 0, 0),
        ):
            async with counting.engine.begin() as connection:
                now = "(SELECT max(claimed_at) FROM deliveries)"
                hour = f"{now} / 3600000 * 3600000 - {hours * 3_600_000}"
                await connection.execute(text(f"UPDATE hourly SET hour = {hour}"))  # noqa: S608
            day = await reader(counting).insights(Query(window="24h"))
            week = await reader(counting).insights(Query(window="7d"))
            assert (len(day.by_class), len(week.by_class)) == (in_a_day, in_a_week)
        assert await counting.chores().forget() == 0
        async with counting.engine.begin() as connection:
            await connection.execute(text("UPDATE hourly SET hour = hour - 25 * 3600000"))
        assert await counting.chores().forget() > 0
        async with counting.engine.begin() as connection:
            assert await connection.scalar(text("SELECT count(*) FROM hourly")) == 0
